"""Architecture search on this machine: what a trial is given, what is kept of it, what its child inherits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.history import State, Suggestion
from katib_flow.local import resume_experiment, run_experiment
from katib_flow.models import Topology
from katib_flow.models.weights import load_weights
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

pytest.importorskip("torch")
MODULE = """\
import json, os, pathlib
import katib_flow as kf

def build(lr=0.1):
    topology, network = kf.topology(), kf.load_model(seed=0)
    first = next(iter(network.parameters()), None)
    with __import__("torch").no_grad():
        if first is not None:
            first += 1.0
    kf.save_model(network)
    return {"loss": float(topology.parameters), "first": 0.0 if first is None else float(first.detach().mean())}

def cut_short(epochs):
    '''The trainer, killed once after its second epoch.'''
    from katib_flow.training import classify
    for number, metrics in enumerate(classify(epochs=epochs, train_size=64)):
        yield metrics
        flag = pathlib.Path("killed")
        if number == 1 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), 9)

@kf.algorithm("test-children", ends=True)
def children(ask):
    '''One network, then children of it.'''
    topology = ask.architectures.initial.to_dict()
    return [kf.Suggestion(index, {}, parent=index - 1 if index else None, topology=topology) for index in ask.indices]

@kf.algorithm("test-broken", ends=True)
def broken(ask):
    '''A topology that is none.'''
    return [kf.Suggestion(index, {}, topology={"schema": "topology/1"}) for index in ask.indices]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "user_nas_local.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("user_nas_local")

    def make(function: str, arguments: dict[str, Any] | None = None, **changes: Any) -> Any:
        data = {
            "name": "nas",
            "objective": {"metric": "loss", "direction": "minimize"},
            "architecture": "cell",
            "limits": {"max_trials": 3},
            "trial": {"function": f"user_nas_local:{function}", "arguments": arguments or {}},
        }
        return run_experiment(Experiment.parse(data | changes), store=Store(f"sqlite:///{tmp_path}/katib_flow.db"))

    return make


def artifact(result: Any, trial: Any, name: str) -> Path:
    store = Store(f"sqlite:///{Path.cwd()}/katib_flow.db")
    recorded = store.trial(store.get(result.run_id), trial.id)
    assert recorded is not None
    return store.read_artifact(recorded.run_id, name)


def test_a_trial_gets_its_topology_and_keeps_its_model(run):
    lr = {"lr": {"type": "float", "min": 0.01, "max": 0.1}}
    result = run("build", parameters=lr, algorithm={"name": "random", "seed": 2})
    for trial in result.trials:
        topology = Topology.parse(json.loads(artifact(result, trial, "topology.json").read_text()))
        assert topology == Topology.parse(trial.suggestion.topology)
        assert trial.observations["loss"] == topology.parameters
        assert artifact(result, trial, "topology.svg").read_text().startswith("<svg")
        if topology.parameters:
            assert load_weights(artifact(result, trial, "weights.safetensors"), topology)
        assert set(trial.assignment) == {"lr", "0>1", "0>2", "1>2", "0>3", "1>3", "2>3"}


@pytest.mark.parametrize("algorithm", ["tpe", "random", "sobol", "gp", "grid"])
def test_every_algorithm_of_parameters_searches_architectures(algorithm):
    data = {
        "name": "nas",
        "objective": {"metric": "loss", "direction": "minimize"},
        "architecture": "cell",
        "algorithm": algorithm,
        "limits": {"max_trials": 20},
        "trial": {"function": "a:b"},
    }
    made = Experiment.parse(data)
    for suggestion in kf.suggest(made, kf.History(), 4):
        assert Topology.parse(suggestion.topology) == architectures(made).topology(suggestion.assignment)


def test_a_child_starts_from_its_parents_weights_wherever_they_are(run):
    result = run("build", architecture="chain", algorithm="test-children", limits={"max_trials": 2})
    first = [trial.observations["first"] for trial in result.trials]
    assert first[1] == pytest.approx(first[0] + 1.0, abs=1e-5)
    shutil.rmtree(Path(".katib_flow"))  # another machine, say
    again = resume_experiment(Store(f"sqlite:///{Path.cwd()}/katib_flow.db"), "nas", max_trials=3)
    assert again.trials[2].observations["first"] == pytest.approx(first[0] + 2.0, abs=1e-5)


def test_a_topology_that_is_none_makes_the_trial_fail_and_says_why(run):
    result = run("build", architecture="chain", algorithm="test-broken", limits={"max_trials": 1})
    (trial,) = result.trials
    assert trial.state is State.FAILED
    assert "no model: topology: input: found nothing" in trial.message


def test_a_trial_that_was_killed_goes_on_from_its_checkpoint(run):
    changes = {"architecture": "chain", "arguments": {"epochs": 4}, "limits": {"max_trials": 1}}
    killed = run("cut_short", **changes, name="killed")
    straight = run("cut_short", **changes, name="straight")
    (one,), (other,) = killed.trials, straight.trials
    assert (one.retries, other.retries) == (1, 0)
    assert one.observations["loss"] == other.observations["loss"]
    assert one.suggestion == Suggestion(0, one.assignment, topology=other.suggestion.topology)
