"""Algorithms that run elsewhere, beside the suggest step: what they suggest there is what they suggest here."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import MODULE, Cluster, experiment, seen
from kit import needs_busybox
from services import PROGRAMS, served

from katib_flow.tracking import Status

pytestmark = pytest.mark.slow
LIMITS = {"max_trials": 5, "parallel_trials": 2}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    workdir = tmp_path / "image"
    workdir.mkdir()
    (workdir / "simulated_user.py").write_text(MODULE)
    monkeypatch.chdir(workdir)
    return Cluster(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, workdir)


@needs_busybox
@pytest.mark.parametrize(
    ("mode", "command"),
    [("barrier", ["sh", str(PROGRAMS / "halton.sh")]), ("lanes", [sys.executable, str(PROGRAMS / "halton.py")])],
)
def test_a_program_in_a_container_suggests_what_it_does_here(cluster: Cluster, mode: str, command: list[str]) -> None:
    container = {"image": "mine:1", "command": command}
    there = experiment(algorithm={"container": container}, argo={"image": "user:1", "mode": mode}, limits=LIMITS)
    run = cluster.submit(there)
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (5)")
    assert seen(run.trials) == seen(cluster.here(experiment(algorithm={"command": command}, limits=LIMITS)))
    (newest, *_) = run.store.learnings.find(run.record)
    assert json.loads(newest.content)["asked"] >= 3  # its state went from one pod to the next


@needs_busybox
def test_a_program_in_a_container_that_answers_garbage_ends_the_experiment_in_words(cluster: Cluster) -> None:
    container = {"image": "mine:1", "command": ["echo", "hello"]}
    run = cluster.submit(experiment(algorithm={"container": container}, limits=LIMITS))
    assert run.record.status is Status.FAILED
    words = "algorithm.container: mine:1 wrote 'hello' to its standard output, need one JSON object"
    assert run.record.reason.startswith(words)


@pytest.fixture
def service() -> Iterator[str]:
    """The address of a suggestion service of Katib's API."""
    pytest.importorskip("grpc")
    with served("katib_service.py") as address:
        yield address


@pytest.fixture
def stopping() -> Iterator[str]:
    """The address of a service of early stopping of Katib's API."""
    pytest.importorskip("grpc")
    with served("katib_median.py") as address:
        yield address


def katib_service(name: str) -> dict[str, Any]:
    """What a spec says of a container that serves, here on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = f"import sys, runpy; sys.argv[1:] = ['{port}', 'for ever']; runpy.run_path({str(PROGRAMS / name)!r})"
    return {"image": "katib:1", "command": [sys.executable, "-c", serve], "port": port}


def test_a_service_of_katibs_beside_the_suggest_step_suggests_what_it_does_elsewhere(
    cluster: Cluster, service: str
) -> None:
    image = katib_service("katib_service.py")
    algorithm = {"name": "halton", "settings": {"skip": 2}, "service": {"address": service, **image}}
    of = experiment(algorithm=algorithm, limits=LIMITS)
    run = cluster.submit(of)
    assert run.record.status is Status.SUCCEEDED
    assert seen(run.trials) == seen(cluster.here(of))
    (newest, *_) = run.store.learnings.find(run.record)
    assert json.loads(newest.content) == {"answered": "3"}  # what it set came back to it, from pod to pod


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_a_service_of_early_stopping_beside_the_suggest_step_gives_the_rules_that_it_gives_elsewhere(
    cluster: Cluster, stopping: str, mode: str
) -> None:
    settings = {"min_trials_required": 2, "start_step": 3}  # a trial reports twice: none is stopped
    image = katib_service("katib_median.py")
    rules = {"name": "medianstop", "settings": settings, "service": {"address": stopping, **image}}
    limits = {"max_trials": 5, "parallel_trials": 1}
    of = experiment(early_stopping=rules, limits=limits, argo={"image": "user:1", "mode": mode})
    run = cluster.submit(of)
    assert run.record.status is Status.SUCCEEDED
    assert seen(run.trials) == seen(cluster.here(of))
    carried = [trial.suggestion.info["stopping_rules"] for trial in run.trials]
    assert carried == [trial.suggestion.info["stopping_rules"] for trial in cluster.here(of)]
    assert [len(rules) for rules in carried] == [0, 0, 1, 1, 1]
