"""The examples of fine-tuning, with a stand-in for the program that prints what Transformers' Trainer prints."""

import ast
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.argo import compile_experiment
from katib_flow.history import State
from katib_flow.loop import load
from katib_flow.spec import Experiment
from katib_flow.spec.template import placeholders

ROOT = Path(__file__).parents[2]
EXAMPLES = ["finetune.yaml", "finetune-trainjob.yaml"]
STAND_IN = """\
import sys

given = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
rate = float(given["learning_rate"])
for step in range(2):
    print(f"{step}/2 [00:0{step}<00:02, 1.00it/s]", end="\\r", file=sys.stderr, flush=True)
    print({"loss": 9.0 - step, "grad_norm": float("nan"), "learning_rate": rate, "epoch": step / 2}, flush=True)
    print({"eval_loss": 2.0 + rate + step, "eval_runtime": 0.5, "epoch": step + 1.0}, flush=True)
print({"train_runtime": 1.0, "train_loss": 8.5, "epoch": 2.0}, flush=True)
"""


def arguments_of(experiment: Experiment) -> list[str]:
    """The arguments of the program in the trial, whatever kind it is."""
    trial = experiment.trial
    if trial.container is not None:
        return [*trial.container.args]
    assert trial.resource is not None
    return list(trial.resource.manifest["spec"]["trainer"]["args"])


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_lines_of_the_trainer_are_the_metrics(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    data: dict[str, Any] = load(ROOT / "examples" / example).to_dict()
    command = ["python", "stand_in.py", *arguments_of(Experiment.parse(data))]
    data["trial"] = {"command": command, "arguments": data["trial"].get("arguments", {})}
    data["limits"] = {"max_trials": 2}
    trials = kf.run(Experiment.parse(data)).trials
    assert [trial.state for trial in trials] == [State.SUCCEEDED] * 2
    for trial in trials:
        rate = trial.assignment["learning_rate"]
        assert trial.observations == {"eval_loss": pytest.approx(2.0 + rate), "loss": 8.0}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_program_takes_what_it_is_given(example: str) -> None:
    tree = ast.parse((ROOT / "examples" / "finetune.py").read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument")
    ]
    known = {ast.literal_eval(call.args[0]) for call in calls}
    experiment = load(ROOT / "examples" / example)
    assert {argument.partition("=")[0] for argument in arguments_of(experiment)} <= known
    assert {name for _, name in placeholders(experiment.trial)} >= experiment.parameters.keys()


def test_a_train_job_is_created_and_judged_by_its_own_conditions() -> None:
    experiment = load(ROOT / "examples" / "finetune-trainjob.yaml")
    assert experiment.trial.resource is not None
    assert 'type=="Complete"' in experiment.trial.resource.conditions[0]
    (trial,) = [
        each for each in compile_experiment(experiment).to_dict()["spec"]["templates"] if each["name"] == "trial"
    ]
    assert "watch" in trial["container"]["args"]
