"""What an algorithm has learnt, carried from pod to pod in the simulator: each suggest pod is a process of its own."""

from pathlib import Path
from typing import Any

import pytest
from experiments import Cluster, Run, experiment, seen

from katib_flow.spec import Experiment
from katib_flow.testing.argo import Simulator
from katib_flow.tracking import Status, Store
from katib_flow.tracking.artifacts import Artifacts

pytest.importorskip("torch", reason="needs torch (the extra nas)")
pytestmark = pytest.mark.slow
FOLDER = "katib_flow/learnt"
MODULE = "def train(a, b):\n    return {'score': a * b}\n"


def learning(**changes: Any) -> Experiment:
    return experiment(
        parameters={name: {"type": "int", "min": 1, "max": 5} for name in "ab"},
        algorithm={"name": "nas-rl", "seed": 2, "settings": {"batch": 2}},
        limits={"max_trials": 9, "parallel_trials": 3},
        trial={"function": "learning_user:train"},
        **changes,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    scratch = tmp_path_factory.mktemp("learning")
    (scratch / "image").mkdir()
    (scratch / "image" / "learning_user.py").write_text(MODULE)
    return Cluster(f"sqlite:///{scratch}/mlflow.db", scratch, scratch / "image")


def names(run: Run) -> list[str]:
    artifacts: Artifacts = run.store._artifacts
    return artifacts.names(run.record.artifact_uri, FOLDER)


def lessons(run: Run) -> list[int]:
    return [int(Path(name).name.split("-")[0]) for name in names(run)]


def test_pods_go_on_from_each_others_copies_and_suggest_what_the_local_scheduler_does(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster.workdir)
    monkeypatch.syspath_prepend(cluster.workdir)
    straight = cluster.submit(learning())
    assert straight.record.status is Status.SUCCEEDED, straight.record.reason
    assert lessons(straight) == [1, 3]  # of six trials, three batches of two
    assert straight.simulator.machine.started["suggest"] == 3
    assert seen(straight.trials) == seen(cluster.here(learning()))


def test_a_copy_that_is_damaged_between_two_pods_is_told_once_and_changes_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster.workdir)
    monkeypatch.syspath_prepend(cluster.workdir)
    store = Store(cluster.uri)

    def damage(simulator: Simulator) -> None:
        while simulator.machine.started["trial"] < 6:  # those of the second iteration run
            simulator.step()
        record = store.keyed(next(iter(simulator.workflows)))
        assert record is not None
        artifacts: Artifacts = store._artifacts
        (copy,) = artifacts.names(record.artifact_uri, FOLDER)
        artifacts.write(record.artifact_uri, copy, "damaged")
        simulator.run()

    run = cluster.submit(learning(), prepare=damage)
    assert seen(run.trials) == seen(cluster.here(learning()))
    logs = [text for step in ("suggest", "collect-metrics") for text in run.logs(step)]
    assert sum(text.count("damaged (its SHA-256 differs from that in its name)") for text in logs) == 1


def test_lanes_share_what_each_of_them_learns(cluster: Cluster) -> None:
    run = cluster.submit(learning(argo={"image": "user:1", "mode": "lanes"}))
    assert run.record.status is Status.SUCCEEDED, run.record.reason
    assert len(run.trials) == 9
    assert lessons(run)[-1] == 3
    assert len(names(run)) <= 2
