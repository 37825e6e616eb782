"""Who runs an experiment is known to everyone who has the store."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from katib_flow.tracking.lease import (
    BEAT_SECONDS,
    STALE_SECONDS,
    TAG,
    WATCH_SECONDS,
    Held,
    Holding,
    Lease,
    LeaseLost,
    workflow_lease,
)


class World:
    """Tags that several owners share, a clock, and what was said."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.now = 1000.0
        self.said: list[str] = []
        self.while_asleep: Callable[[], None] = lambda: None

    def holding(self, own: Lease | None = None) -> Holding:
        return Holding(
            lambda: self.tags, self.tags.update, "digits", self.said.append, lambda: self.now, self._sleep, own
        )

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()


ELSEWHERE = Lease("other", "node-7", "process 12", 990.0, 990.0, "another boot", 12, 34)


@pytest.fixture
def world() -> World:
    return World()


def test_a_second_owner_is_refused_and_told_who_is_the_first(world: World) -> None:
    with world.holding(ELSEWHERE).take():
        world.now += 12
        with pytest.raises(
            Held, match=r"digits: another process is running this experiment: process 12 on node-7 .* 22 s"
        ):
            world.holding().take()


def test_who_ends_gives_the_experiment_free(world: World) -> None:
    with world.holding().take():
        assert Lease.read(world.tags) is not None
    assert world.tags == {TAG: ""}
    world.holding().take()
    assert world.said == []


def test_of_a_process_on_this_machine_it_is_seen_whether_it_is_there(world: World) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = Lease.own(0.0)
    stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    theirs = replace(mine, owner="theirs", pid=process.pid, born=int(stat[19]), what=f"process {process.pid}")
    world.holding(theirs).take()
    world.now += 100 * STALE_SECONDS  # it may have been asleep
    with pytest.raises(Held):
        world.holding().take()
    reused = world.holding(replace(theirs, born=theirs.born + 1))  # its number was given to another
    assert reused.own is not None
    assert reused.own.gone()
    process.kill()
    process.wait()
    world.holding().take()
    assert world.said == [f"digits: taken over from {theirs}, which has ended"]


def test_a_stale_lease_of_another_machine_is_taken_over_when_nothing_renews_it(world: World) -> None:
    world.holding(ELSEWHERE).take()
    world.now = ELSEWHERE.beat + STALE_SECONDS + 1
    world.holding().take()
    assert world.now == ELSEWHERE.beat + STALE_SECONDS + 1 + WATCH_SECONDS
    assert "watching for 30 s" in world.said[0]
    assert world.said[1] == f"digits: taken over from {ELSEWHERE}, which has ended"


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_clock_that_is_wrong_lets_nobody_in(world: World, skew: float) -> None:
    first = world.holding(ELSEWHERE).take()
    first.clock = lambda: world.now + skew
    first.renew()
    world.while_asleep = first.renew
    assert WATCH_SECONDS > BEAT_SECONDS
    with pytest.raises(Held):
        world.holding().take()


def test_who_was_taken_over_from_is_told_and_leaves_it_alone(world: World) -> None:
    first = world.holding(ELSEWHERE).take()
    second = replace(ELSEWHERE, owner="second", host="node-8")
    world.tags[TAG] = '{"owner": "x"}'  # whatever somebody wrote there
    first.renew()
    first.write({TAG: ""})
    world.holding(second).take()
    with pytest.raises(LeaseLost, match=r"process 12 on node-8 .* has taken over this experiment"), first:
        first.renew()
    held = Lease.read(world.tags)
    assert held is not None
    assert held.owner == "second"


def test_nothing_is_renewed_after_the_end(world: World) -> None:
    holding = world.holding().take()
    with holding:
        pass
    holding.renew()
    assert world.tags == {TAG: ""}


def test_a_lease_that_this_process_left_behind_is_nobodys(world: World) -> None:
    holding = world.holding().take()
    with pytest.raises(LeaseLost), holding:
        raise LeaseLost("the store is away")
    assert world.tags[TAG]
    world.holding().take()


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "nonsense", '{"owner": 1}', "NaN"])
def test_what_is_no_lease_holds_nobody_off(text: str) -> None:
    assert Lease.read({TAG: text}) is None


def test_a_workflow_is_not_given_up_because_it_waits(world: World) -> None:
    lease = workflow_lease("team", "digits-x7k2p", 0.0)
    assert not lease.abandoned(1e9)
    assert replace(ELSEWHERE).abandoned(ELSEWHERE.beat + STALE_SECONDS + 1)
    assert Lease.read({TAG: json.dumps(asdict(lease))}) == lease


def test_the_pods_of_a_workflow_are_one_owner_that_writes_now_and_then(world: World) -> None:
    for _ in range(3):
        world.holding(workflow_lease("team", "digits-x7k2p", world.now)).take()
        world.now += BEAT_SECONDS / 2
    lease = Lease.read(world.tags)
    assert lease is not None
    assert (lease.since, lease.beat) == (1000.0, 1000.0 + BEAT_SECONDS)
