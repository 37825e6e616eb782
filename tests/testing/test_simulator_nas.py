"""Architecture search in the simulator: build-model is a step, models are in MLflow, a killed training goes on."""

from typing import Any

import pytest
from experiments import Cluster, Run, seen

from katib_flow.history import Kind, State
from katib_flow.spec import Experiment
from katib_flow.tracking import Status

pytest.importorskip("torch", reason="needs torch (the extra nas)")
pytestmark = pytest.mark.slow
THIRD = "trial(0:t00002)(0)"


def experiment(**changes: Any) -> Experiment:
    """Networks that grow twice, on small images; each goes on from the weights of the one before."""
    data: dict[str, Any] = {
        "name": "grow",
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "architecture": {"space": "envelope", "settings": {"channels": 4, "stages": 1}},
        "budget": {"parameter": "epochs", "min": 1, "max": 6},
        "algorithm": {"name": "envelopenet", "settings": {"iterations": 2}},
        "limits": {"max_trials": 3},
        "trial": {"arguments": {"statistics": True}},
        "argo": {"image": "nas:1"},
    }
    return Experiment.parse(data | changes)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    scratch = tmp_path_factory.mktemp("nas")
    (scratch / "image").mkdir()
    return Cluster(f"sqlite:///{scratch}/mlflow.db", scratch, scratch / "image")


def weights(run: Run, index: int) -> bytes:
    return run.store.read_artifact(run.trials[index].run_id, "weights.safetensors").read_bytes()


def test_models_are_built_in_a_step_and_a_killed_training_resumes_from_its_checkpoint(cluster: Cluster) -> None:
    straight = cluster.submit(experiment())
    assert straight.record.status is Status.SUCCEEDED, straight.record.reason
    started = straight.simulator.machine.started
    assert (started["suggest"], started["build-model"], started["trial"], started["collect-metrics"]) == (3, 3, 3, 3)
    topologies = [trial.suggestion.topology for trial in straight.trials]
    assert None not in topologies
    assert topologies[0] != topologies[1] != topologies[2]

    killed = cluster.submit(experiment(), evicted={THIRD: "kf/trial/checkpoint/training.pt"})
    last = killed.trials[2]
    assert (last.retries, killed.simulator.machine.started["trial"]) == (1, 4)
    evicted = next(pod for pod in killed.simulator.machine.history if pod.node.endswith(THIRD))
    assert evicted.message == "main: Error (exit code 143)"
    steps = [point.step for point in last.series["accuracy"]]
    assert steps == list(range(1, 7))  # the epoch that was cut short was told as far as it came: it does not count
    assert weights(killed, 2) == weights(straight, 2)
    assert [trial.observations for trial in killed.trials] == [trial.observations for trial in straight.trials]


ENSEMBLE: dict[str, Any] = {
    "name": "ensemble",
    "architecture": {"space": "ensemble", "settings": {"units": 4}},
    "budget": None,
    "algorithm": {"name": "adanet", "settings": {"rounds": 2, "epochs": 1}},
    "limits": {"max_trials": 4, "parallel_trials": 2},
    "trial": {"arguments": {"train_size": 100}},
}
CELLS: dict[str, Any] = {
    "name": "cells",
    "objective": {"metric": "perplexity", "direction": "minimize"},
    "architecture": {"space": "tree", "settings": {"features": 4}},
    "budget": None,
    "algorithm": {"name": "nas-rl", "settings": {"batch": 1, "units": 4, "reward": "perplexity"}},
    "limits": {"max_trials": 2},
    "trial": {"arguments": {"train_size": 500, "epochs": 1}},
}


@pytest.mark.parametrize(
    "changes",
    [{"budget": {"parameter": "epochs", "min": 1, "max": 2}}, ENSEMBLE, CELLS],
    ids=["envelope", "ensemble", "recurrent"],
)
def test_the_trials_are_those_of_the_local_scheduler(
    changes: dict[str, Any], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster.workdir)
    of = experiment(**changes)
    trials = cluster.submit(of).trials
    assert {trial.state for trial in trials} == {State.SUCCEEDED}
    assert seen(trials) == seen(cluster.here(of))


SUPERNETS: dict[str, dict[str, Any]] = {
    "proxylessnas": {
        "architecture": {"space": "mobile-chain", "settings": {"channels": 2, "layers": 1, "kernels": [3]}},
        "algorithm": {"name": "proxylessnas", "settings": {"epochs": 2, "warm_up": 0, "latency": "flops"}},
    },
    "smash": {
        "architecture": {"space": "banks", "settings": {"stages": 1, "layers": 2, "banks": 2, "channels": 2}},
        "algorithm": {"name": "smash", "settings": {"epochs": 2, "depth": 1, "candidates": 2, "perturbations": 1}},
    },
}


@pytest.mark.parametrize("name", SUPERNETS)
def test_segments_of_a_supernet_hand_its_weights_from_pod_to_pod(
    name: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster.workdir)
    sections = SUPERNETS[name]
    how = {**sections["algorithm"]["settings"], "segment_epochs": 1, "retrain": 1}
    plain = {"budget": None, "limits": {}, "trial": {"arguments": {"epochs": 1, "train_size": 64}}}
    of = experiment(name=name, **plain, **sections | {"algorithm": {"name": name, "settings": how}})
    run = cluster.submit(of)
    assert run.record.status is Status.SUCCEEDED, run.record.reason
    assert [trial.suggestion.origin.kind for trial in run.trials] == [Kind.SEGMENT, Kind.SEGMENT, Kind.GENERATE]
    assert seen(run.trials) == seen(cluster.here(of))
