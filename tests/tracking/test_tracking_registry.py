"""A trial's network comes back with its weights, and goes into MLflow's model registry with its run as it was."""

import json
import logging
import os
from pathlib import Path

import pytest
from tracking_kit import pending, reported, written
from typer.testing import CliRunner

from katib_flow.cli.app import app
from katib_flow.errors import KatibFlowError, NotFound, TrackingError
from katib_flow.history import State, Suggestion, Trial
from katib_flow.models.topology import Topology
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Record, Store
from katib_flow.tracking.registry import keep_model, network_of, register, trained, wanted

pytest.importorskip("torch")
import torch

from katib_flow.models.build import build, save_network


def searching(**sections: object) -> Experiment:
    data = {
        "name": "nets",
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "architecture": {"space": "chain", "settings": {"layers": [2]}},
        "algorithm": {"name": "nash"},
        "limits": {"max_trials": 4},
    }
    return Experiment.parse(data | sections)


def files(topology: Topology, seed: int, folder: Path) -> dict[str, Path]:
    """Those of a trained network."""
    save_network(build(topology, seed=seed), folder)
    (folder / "topology.json").write_text(json.dumps(topology.to_dict()))
    return {path.name: path for path in folder.iterdir()}


def recorded(store: Store, experiment: Experiment, folder: Path, accuracies: list[float | None]) -> Record:
    """An experiment whose trials came to some accuracies; the seed of a trial's weights is its index."""
    record = store.create(experiment)
    space = architectures(experiment)
    assert space is not None
    for index, accuracy in enumerate(accuracies):
        topology = space.initial
        found = {} if accuracy is None else {"accuracy": accuracy}
        state = State.METRICS_UNAVAILABLE if accuracy is None else State.SUCCEEDED
        trial = Trial(Suggestion(index, {}, topology=topology.to_dict()), state, found, started=1.0, ended=2.0)
        store.write(
            record,
            [
                Change(
                    trial, reported([0.1, accuracy or 0.0]), artifacts=files(topology, index, folder / f"model{index}")
                )
            ],
        )
    return record


def of_mlflow() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    images = torch.rand(5, 1, 8, 8)
    return torch.allclose(one(images), other.eval()(images), atol=1e-6)


def test_the_network_of_the_best_trial_comes_back_with_its_weights(local: Store, tmp_path: Path) -> None:
    record = recorded(local, searching(), tmp_path, [0.5, 0.9, None])
    for trial, seed in ((None, 1), ("t00000", 0)):
        network = network_of(record.name, trial, tracking_uri=local.uri)
        assert same(network.eval(), build(network.topology, seed=seed))


@pytest.mark.slow  # MLflow and torch.export take seconds to import
def test_a_network_is_registered_as_versions_of_a_model_and_its_run_stays_as_it_was(
    local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    import mlflow
    from mlflow import pytorch

    record = recorded(local, searching(tracking={"register_model": "kept"}), tmp_path, [0.5, 0.9])
    history = local.history(record)
    client = mlflow.MlflowClient(local.uri)
    before = [client.get_run(trial.run_id).to_dictionary() for trial in history]
    metrics = [client.get_metric_history(trial.run_id, "accuracy") for trial in history]
    assert [len(series) for series in metrics] == [2, 2]
    uri, environment = mlflow.get_tracking_uri(), of_mlflow()
    versions = [register(local, record, trial, "mine") for trial in history]
    keep_model(local, record, history)
    assert (mlflow.get_tracking_uri(), of_mlflow()) == (uri, environment)
    assert versions == ["1", "2"]
    for model, version, index in (("mine", "1", 0), ("mine", "2", 1), ("kept", "1", 1)):
        assert client.get_model_version(model, version).run_id == history[index].run_id
    assert [client.get_metric_history(trial.run_id, "accuracy") for trial in history] == metrics
    assert not (tmp_path / "mlruns").exists()
    after = [client.get_run(trial.run_id).to_dictionary() for trial in history]
    assert [run["info"] for run in after] == [run["info"] for run in before]
    assert [run["data"] for run in after] == [run["data"] for run in before]
    assert local.history(record) == history
    source = client.get_logged_model(str(client.get_model_version("mine", "2").source).removeprefix("models:/"))
    assert (source.source_run_id, source.experiment_id) == (history[1].run_id, record.mlflow_experiment_id)
    loaded = pytorch.load_model(source.artifact_location)
    network = trained(local, record, history[1])
    assert same(loaded, network)  # five images, where two were traced
    words = ["register", "nets", "--trial", "t00000", "--tracking-uri", local.uri]
    assert CliRunner().invoke(app, words).stdout.endswith("models:/kept/2: trial t00000 of nets\n")
    with pytest.raises(TrackingError, match="model a/b: Invalid model name"):
        register(local, record, history[1], "a/b")
    assert len(client.search_logged_models([record.mlflow_experiment_id])) == 4


def test_what_has_no_network_is_told(local: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = recorded(local, searching(tracking={"register_model": "m"}), tmp_path, [None])
    with pytest.raises(NotFound, match="nets: no trial has a finite value of 'accuracy' yet"):
        wanted(record, local.history(record))
    with pytest.raises(NotFound, match="nets: no trial t00007"):
        wanted(record, local.history(record), "t00007")
    with caplog.at_level(logging.WARNING):
        keep_model(local, record, local.history(record))
    assert "nets: its best network was not registered: nets: no trial has a finite value" in caplog.text
    (trial,) = written(local, record, pending(5, {}, topology={}))
    with pytest.raises(KatibFlowError, match="trial t00005: its run has no weights"):
        trained(local, record, trial)


def test_an_experiment_without_architectures_or_with_text_registers_none(local: Store, tmp_path: Path) -> None:
    plain = {"architecture": None, "parameters": {"x": {"type": "float", "min": 0, "max": 1}}}
    parameters = local.create(searching(name="numbers", algorithm="random", trial={"function": "m:f"}, **plain))
    with pytest.raises(KatibFlowError, match="numbers: it does not search an architecture"):
        trained(local, parameters, Trial(Suggestion(0, {})))
    cell = {"space": "tree", "settings": {"tokens": 3, "features": 2}}
    experiment = searching(name="text", architecture=cell, algorithm="random")
    text = local.create(experiment)
    space = architectures(experiment)
    assert space is not None
    topology = space.topology(space.decode([0] * len(space.slots)))
    trial = Trial(Suggestion(0, {}, topology=topology.to_dict()), State.SUCCEEDED, {"accuracy": 1.0})
    (trial,) = local.write(text, [Change(trial, artifacts=files(topology, 0, tmp_path / "text"))])
    with pytest.raises(KatibFlowError, match="t00000: found a network for text, need one for images"):
        register(local, text, trial, "m")
