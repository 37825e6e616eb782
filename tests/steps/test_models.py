"""build-model and train with an architecture, on a real store: what a trial's run holds, and what its child gets."""

import json
from pathlib import Path
from typing import Any

import pytest

from katib_flow.argo.steps import models, train
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.history import Position, State, Suggestion, Trial
from katib_flow.models.weights import load_weights
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Store

MODULE = """
import katib_flow as kf

def train():
    network = kf.load_model(seed=3)
    kf.save_model(network)
    return {"accuracy": 0.5, **{f"variance/{edge.key}": float(n) for n, edge in enumerate(kf.topology().flat.edges)}}
"""
HERE = Position(segment=0, iteration=1)
SPEC = {
    "name": "nas",
    "objective": {"metric": "accuracy", "direction": "maximize"},
    "architecture": "envelope",
    "algorithm": {"name": "envelopenet", "settings": {"iterations": 2}},
    "limits": {"max_trials": 5},
    "trial": {"function": "user_nas:train"},
}


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("torch")
    (tmp_path / "user_nas.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**changes: Any) -> Context:
        experiment = Experiment.parse({**SPEC, **changes})
        store = Store(f"sqlite:///{tmp_path}/mlflow.db")
        return Context(store, store.create(experiment, key="nas-x7k2p"), 0)

    return make


def trial_of(context: Context, trial_id: str) -> Trial:
    trial = context.store.trial(context.record, trial_id)
    assert trial is not None
    return trial


def test_an_iteration_builds_trains_and_keeps_the_models_of_its_trials(context, tmp_path):
    made = context()
    assert suggest_iteration(made, 1) == ["t00000"]
    assert models.build_models(made, 1) == ["t00000"]
    run_id = trial_of(made, "t00000").run_id
    assert made.store.read_artifact(run_id, "topology.svg").read_text().startswith("<svg")
    assert models.build_models(made, 1) == ["t00000"]  # done again
    assert train.run(made, "t00000", tmp_path / "pod" / "trial") == 0
    first = trial_of(made, "t00000")
    assert first.state is State.SUCCEEDED
    weights = load_weights(made.store.read_artifact(run_id, "weights.safetensors"))
    assert weights

    assert suggest_iteration(made, 2) == ["t00001"]
    assert models.build_models(made, 2) == ["t00001"]
    second = trial_of(made, "t00001")
    assert second.suggestion.parent == 0
    picture = made.store.read_artifact(second.run_id, "topology.svg").read_text()
    assert "new since the parent" in picture


def test_weights_go_from_the_parents_run_to_the_childs_pod(context, tmp_path):
    made = context(algorithm="random", architecture="chain")
    suggest_iteration(made, 1)
    assert train.run(made, "t00000", tmp_path / "one" / "trial") == 0
    parent = trial_of(made, "t00000")
    child = Suggestion(1, {}, parent=0, topology=parent.suggestion.topology)
    made.store.write(made.record, [Change(Trial(child, position=HERE))])
    assert models.build_models(made, 1) == ["t00001"]
    kept = load_weights(made.store.read_artifact(trial_of(made, "t00001").run_id, "weights.safetensors"))
    given = load_weights(made.store.read_artifact(parent.run_id, "weights.safetensors"))
    assert {name: value.tolist() for name, value in kept.items()} == {name: v.tolist() for name, v in given.items()}


def test_a_trial_without_a_sound_topology_fails_and_says_why(context, tmp_path):
    made = context(algorithm="random", architecture="chain")
    suggest_iteration(made, 1)
    trial = trial_of(made, "t00000")
    broken = json.loads(json.dumps(trial.suggestion.topology))
    broken["graphs"]["net"]["edges"][0]["op"] = "convv"
    made.store.write(made.record, [Change(Trial(Suggestion(1, {}, topology=broken), position=HERE))])
    assert models.build_models(made, 1) == ["t00000"]
    failed = trial_of(made, "t00001")
    assert failed.state is State.FAILED
    assert "no model: topology: graphs.net.edges.conv1.op: found 'convv', need an operation" in failed.message


def test_a_truncated_file_of_the_parents_fails_the_child_with_a_clear_message(context, tmp_path):
    made = context(algorithm="random", architecture="chain")
    suggest_iteration(made, 1)
    assert train.run(made, "t00000", tmp_path / "one" / "trial") == 0
    parent = trial_of(made, "t00000")
    file = made.store.read_artifact(parent.run_id, "weights.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    child = Suggestion(1, {}, parent=0, topology=parent.suggestion.topology)
    made.store.write(made.record, [Change(Trial(child, position=HERE))])
    assert models.build_models(made, 1) == []
    assert "not a complete safetensors file" in trial_of(made, "t00001").message
