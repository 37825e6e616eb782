"""Faults at random moments, and what must hold after them: ``make chaos``, with ``FAULTS=1000`` for as many.

Seeded: KATIB_FLOW_CHAOS_SEED. The moments depend on the machine, so a failure may need some runs to come back.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Experiment, disturbed
from kit import within
from tracking_kit import Fault, Proxy, mlflow_server, spoiling_proxy

from katib_flow.models.topology import Topology
from katib_flow.tracking import Store

FAULTS = int(os.environ.get("KATIB_FLOW_CHAOS", "0"))
SEED = int(os.environ.get("KATIB_FLOW_CHAOS_SEED", "0"))
pytestmark = [
    pytest.mark.skipif(not FAULTS, reason="takes minutes; make chaos runs it"),
    pytest.mark.timeout(3600),
]

SCRIPT = "import sys, time; time.sleep(0.1); x = float(sys.argv[1]); print('loss=', round((x - 0.3) ** 2, 9))"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FLOAT = {"x": {"type": "float", "min": 0, "max": 1}}
KINDS: dict[str, dict[str, Any]] = {
    "random": {"algorithm": "random", "trial": {"function": "user_code:once"}},
    "tpe": {"algorithm": "tpe", "trial": {"command": ["python3", "-c", SCRIPT, "${x}"]}},
    "early stopping": {
        "algorithm": "random",
        "early_stopping": {"name": "median", "settings": {"min_trials": 3, "start_step": 1}},
        "trial": {"function": "user_code:in_steps"},
    },
    "pbt": {
        "algorithm": {"name": "pbt", "settings": {"n_population": 5}},
        "budget": {"parameter": "epochs", "min": 1, "max": 6},
        "trial": {"function": "user_code:in_steps"},
    },
    "hyperband": {
        "algorithm": {"name": "hyperband", "settings": {"rounds": 2}},
        "budget": {"parameter": "epochs", "min": 1, "max": 9},
        "trial": {"function": "user_code:in_steps"},
    },
    "architectures": {
        "architecture": {"space": "cell", "settings": {"nodes": 4}},
        "algorithm": {"name": "amoebanet", "settings": {"population": 5, "sample": 3}},
        "parameters": {},
        "trial": {"function": "user_code:network"},
    },
}


def value(x: float) -> float:
    return round((x - 0.3) ** 2, 9)


def right(kind: str, trial: Any) -> float:
    if kind == "architectures":
        return float(Topology.parse(trial.suggestion.topology).parameters)
    return value(trial.assignment["x"])


def spec(kind: str, trials: int) -> dict[str, Any]:
    common = {
        "name": kind.replace(" ", "-"),
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": FLOAT,
        "limits": {"max_trials": trials, "parallel_trials": 3, "max_failed_trials": 10_000, "retries": 5},
    }
    return {**common, **KINDS[kind]}


def a_process(experiment: Experiment) -> None:
    """A signal to some process, or to its group."""
    rng = experiment.rng
    kind = rng.choice(["scheduler", "worker", "worker", "trial", "trial", "trial"])
    number = rng.choice(SIGNALS) if kind != "worker" else signal.SIGKILL
    experiment.kill(kind, number, group=kind == "trial" and rng.random() < 0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_processes_that_are_killed(kind: str, tmp_path: Path) -> None:
    trials = max(30, 2 * FAULTS)
    experiment = Experiment(
        tmp_path, spec(kind, trials), f"sqlite:///{tmp_path}/katib_flow.db", random.Random(f"{SEED} {kind}")
    )
    disturbed(experiment, a_process, FAULTS, seconds=3000)
    ends_by_itself = kind in ("pbt", "hyperband")
    experiment.check_end(lambda trial: right(kind, trial), None if ends_by_itself else trials)
    tell(kind, experiment)


@pytest.mark.parametrize("kind", ["random", "early stopping", "pbt"])
def test_clocks_that_jump_while_processes_are_killed(kind: str, tmp_path: Path) -> None:
    trials = max(30, 2 * FAULTS)
    experiment = Experiment(
        tmp_path, spec(kind, trials), f"sqlite:///{tmp_path}/katib_flow.db", random.Random(f"{SEED} clock {kind}")
    )

    def jump(experiment: Experiment) -> None:
        if experiment.rng.random() < 0.3:
            a_process(experiment)
        else:
            experiment.set_clock()

    disturbed(experiment, jump, FAULTS, seconds=3000)
    experiment.check_end(lambda trial: right(kind, trial), None if kind == "pbt" else trials)
    tell(f"clock, {kind}", experiment)


def test_clocks_that_jump_do_not_end_an_experiment_before_its_time(tmp_path: Path) -> None:
    trials = max(30, 2 * FAULTS)
    limited = spec("random", trials)
    limited["limits"]["timeout"] = 3000
    experiment = Experiment(tmp_path, limited, f"sqlite:///{tmp_path}/katib_flow.db", random.Random(f"{SEED} timeout"))
    experiment.start()
    assert within(60, lambda: len(experiment.history()) > 0)
    while experiment.running and sum(experiment.faults.values()) < FAULTS:
        experiment.set_clock()
        time.sleep(experiment.rng.uniform(0.02, 0.5))
    disturbed(experiment, lambda _: None, 0)
    experiment.check_end(lambda trial: right("random", trial), trials)
    tell("clock, timeout", experiment)


@pytest.mark.parametrize("kind", ["random", "early stopping"])
def test_disks_that_are_full_for_a_moment(kind: str, tmp_path: Path) -> None:
    trials = max(30, 2 * FAULTS)
    experiment = Experiment(
        tmp_path, spec(kind, trials), f"sqlite:///{tmp_path}/katib_flow.db", random.Random(f"{SEED} disk {kind}")
    )
    disturbed(experiment, Experiment.fill_disk, FAULTS, seconds=3000)
    experiment.check_end(lambda trial: right(kind, trial), trials)
    tell(f"disk, {kind}", experiment)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Proxy]:
    with (
        mlflow_server(tmp_path / "store.db", tmp_path / "artifacts") as server,
        spoiling_proxy(server.uri) as proxy,
    ):
        yield proxy


def test_a_server_of_which_a_quarter_of_all_answers_fail(served: Proxy, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    experiment = Experiment(tmp_path / "work", spec("random", 30), served.uri, random.Random(SEED))
    faults = [Fault("", "answer", status) for status in (500, 502, 503, 429)] + [Fault("", "drop"), Fault("", "lose")]

    def fault(method: str, path: str) -> Fault | None:
        drawn = rng.choice(faults) if rng.random() < 0.25 else None
        if drawn is not None:
            experiment.count(f"{drawn.kind} {drawn.status if drawn.kind == 'answer' else ''}".strip())
        return drawn

    served.fault = fault  # type: ignore[method-assign]
    disturbed(experiment, lambda _: None, 0)
    served.fault = lambda method, path: None  # type: ignore[method-assign]
    experiment.check_end(lambda trial: right("random", trial), 30)
    tell("proxy", experiment)


def test_a_server_that_is_away_for_seconds_again_and_again(served: Proxy, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "work", spec("random", 40), served.uri, random.Random(SEED))
    until = [0.0]

    def fault(method: str, path: str) -> Fault | None:
        return Fault("", "drop") if time.monotonic() < until[0] else None

    def away(_: Experiment) -> None:
        if time.monotonic() > until[0] + 2:
            until[0] = time.monotonic() + experiment.rng.uniform(0.5, 5)
            experiment.count("server away")

    served.fault = fault  # type: ignore[method-assign]
    disturbed(experiment, away, max(2, FAULTS // 4))
    until[0] = 0
    experiment.check_end(lambda trial: right("random", trial), 40)
    tell("outage", experiment)


def test_schedulers_that_want_the_same_experiment(tmp_path: Path) -> None:
    """Three at once, from three directories; the one that has it is killed, again and again."""
    uri = f"sqlite:///{tmp_path}/katib_flow.db"
    first = Experiment(tmp_path / "0", spec("random", 40), uri, random.Random(SEED))
    others = [Experiment(tmp_path / str(number), first.spec, uri, random.Random(SEED + number)) for number in (1, 2)]
    first.start()
    assert within(60, lambda: len(first.history()) > 0)
    for _ in range(max(2, FAULTS // 5)):
        for other in others:
            if not other.running and Store(uri).records()[0].status.value == "running":
                other.start()
                first.count("second scheduler")
        time.sleep(first.rng.uniform(0.5, 2))
        if first.running and first.rng.random() < 0.5:
            first.kill("scheduler", signal.SIGKILL)
        if not first.running:
            first.start()
    disturbed(first, lambda _: None, 0)
    assert within(120, lambda: not any(other.running for other in others))
    first.check_end(lambda trial: right("random", trial), 40)
    tell("schedulers", first)


def tell(name: str, experiment: Experiment) -> None:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(experiment.faults.items()))
    print(f"\nchaos {name}: {sum(experiment.faults.values())} faults ({counts}); {len(experiment.history())} trials")
