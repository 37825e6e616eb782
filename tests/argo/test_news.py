"""News of an object from a cluster, over HTTP: what is told, what is missed, and who is away."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import reached

from katib_flow.argo.cluster import WORKFLOW, ClusterError
from katib_flow.argo.steps import news
from katib_flow.argo.steps.news import News
from katib_flow.testing.kubernetes import FakeCluster


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(news, "LONGEST_SECONDS", 0.1)


@pytest.fixture
def fake() -> FakeCluster:
    made = FakeCluster(namespace="ml")
    made.create({"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": {"name": "one"}})
    return made


@pytest.fixture
def told(fake: FakeCluster, tmp_path: Path) -> Iterator[News]:
    with reached(fake, tmp_path) as cluster, News(cluster, WORKFLOW, "one") as made:
        until(made, lambda: made.notifies)
        yield made


def until(listening: News, condition: Callable[[], bool]) -> None:
    """Wait for news until a condition holds."""
    for _ in range(1000):
        if condition():
            return
        listening.wait(0.02)
    raise AssertionError("it was never told")


def changed(fake: FakeCluster) -> None:
    fake.set_status(WORKFLOW, "one", phase="Running")


def test_a_change_ends_the_wait(fake: FakeCluster, told: News) -> None:
    for _ in range(3):
        changed(fake)
        assert told.wait(60)


def test_where_the_cluster_has_forgotten_it_is_asked_anew(fake: FakeCluster, told: News) -> None:
    fake.forget_changes()
    assert told.wait(60)
    until(told, lambda: told.notifies)
    told.wait(0)
    changed(fake)
    assert told.wait(60)
    assert [verb for verb, *_ in fake.calls].count("find") == 2  # listed twice, not more


def test_an_outage_is_looked_after_and_survived(fake: FakeCluster, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with reached(fake, tmp_path, port) as cluster:
        listening = News(cluster, WORKFLOW, "one")
        listening.__enter__()
        until(listening, lambda: listening.notifies)
    until(listening, lambda: not listening.notifies)
    with reached(fake, tmp_path, port):
        until(listening, lambda: listening.notifies)
        listening.wait(0)
        changed(fake)
        assert listening.wait(60)
        listening.__exit__(None, None, None)


def test_who_may_not_be_told_asks_no_more_and_says_so(fake: FakeCluster, tmp_path: Path) -> None:
    fake.refusals.append(ClusterError("list Workflow: the cluster answers 403", 403))
    with reached(fake, tmp_path) as cluster, News(cluster, WORKFLOW, "one") as listening:
        assert listening.wait(60)  # so that one looks at once
        thread: Any = vars(listening)["_thread"]
        thread.join(60)
        assert not listening.notifies
    assert len([call for call in fake.calls if call[0] == "find"]) == 1
