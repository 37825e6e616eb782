"""What users of other tools write by habit is told by name."""

from typing import Any

import pytest
from kit import spec

import katib_flow as kf
from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec
from katib_flow.spec import Experiment
from katib_flow.spec.habits import HABITS, habit


def messages(data: dict[str, Any]) -> str:
    with pytest.raises(InvalidSpec) as caught:
        Experiment.parse(data)
    return str(caught.value)


FLOAT = {"type": "float", "min": 1, "max": 2}


@pytest.mark.parametrize(
    ("parameter", "hint"),
    [
        (FLOAT | {"log": True}, "; log: true is written scale: log here"),
        ({"type": "float", "low": 1, "high": 2}, "; low: 1 is written min: 1 here"),
        ({"type": "float", "lower": 1, "upper": 2}, "; upper: 2 is written max: 2 here"),
        (FLOAT | {"q": 0.5}, "; q: 0.5 is written step: 0.5 here"),
        ({"type": "int", "bounds": [1, 2]}, "; bounds: [1, 2] is written min: and max:, or values: here"),
        ({"type": "float", "feasibleSpace": {"min": "1"}}, "; feasibleSpace is written min: and max:, or values: here"),
        ({"type": "categorical", "choices": ["a", "b"]}, "; choices: [a, b] is written values: [a, b] here"),
        ({"type": "loguniform", "min": 1, "max": 2}, "; type: loguniform is written type: float with scale: log here"),
    ],
)
def test_a_parameter(parameter: dict[str, Any], hint: str) -> None:
    assert hint in messages(spec(parameters={"x": parameter}))


@pytest.mark.parametrize(
    ("sections", "hint"),
    [
        ({"n_trials": 40}, "; n_trials: 40 is written limits: {max_trials: 40} here"),
        ({"maxTrialCount": 40}, "; maxTrialCount: 40 is written limits: {max_trials: 40} here"),
        ({"early_terminate": {"type": "hyperband"}}, "; early_terminate is written early_stopping: here"),
        ({"limits": {"parallelTrialCount": 3}}, "; parallelTrialCount: 3 is written parallel_trials: 3 here"),
        ({"limits": {"max_concurrent_trials": 3}}, "; max_concurrent_trials: 3 is written parallel_trials: 3 here"),
        ({"objective": {"metric_name": "a", "direction": "maximize"}}, "; metric_name: a is written metric: a here"),
    ],
)
def test_a_section(sections: dict[str, Any], hint: str) -> None:
    assert hint in messages(spec() | sections)


@pytest.mark.parametrize(
    ("name", "setting", "hint"),
    [
        ("tpe", "n_startup_trials", "; n_startup_trials: 5 is written startup: 5 here"),
        ("tpe", "random_state", "; random_state is written seed: 5 here, beside settings"),
        ("nsga2", "population_size", "; population_size: 5 is written population: 5 here"),
    ],
)
def test_a_setting_of_an_algorithm(name: str, setting: str, hint: str) -> None:
    experiment = Experiment.parse(spec(algorithm={"name": name, "settings": {setting: 5}}))
    assert any(str(each).endswith(hint) for each in check_algorithm(experiment))


def test_a_word_that_the_algorithm_has_no_setting_for_is_no_hint() -> None:
    assert habit(["settings"], "population_size", 5, ["startup"]) == ""


def test_in_python() -> None:
    with pytest.raises(InvalidSpec, match="log: true is written scale: log here"):
        kf.Float(1, 2, log=True)
    with pytest.raises(InvalidSpec, match="high: 2 is written max: 2 here") as caught:
        kf.Int(low=1, high=2)
    assert "min: found nothing, need a value; it is required" in str(caught.value)
    with pytest.raises(InvalidSpec, match=r"n_trials: 4 is written limits: {max_trials: 4} here"):
        kf.experiment(parameters={"x": kf.Float(0, 1)}, minimize="y", n_trials=4)(lambda x: x)


@pytest.mark.parametrize("section", HABITS)
def test_every_hint_can_be_said(section: str) -> None:
    known = {right.partition(":")[0] for right in HABITS[section].values()}
    assert all("{{" not in habit([section], key, 1, known) != "" for key in HABITS[section])
