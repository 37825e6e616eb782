"""The constants of a trial, and the trial of an architecture that names none."""

from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Suggestion
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment
from katib_flow.spec.template import substitute_all
from katib_flow.trial.functions import check_arguments
from katib_flow.trial.protocol import TrialDirectory, called_with, substitutions


def spec(trial: Any = None, **changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "x",
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": {"lr": {"type": "float", "min": 0, "max": 1}},
        "limits": {"max_trials": 1},
    }
    return data | ({} if trial is None else {"trial": trial}) | changes


def test_constants_reach_a_function_and_are_no_part_of_the_space() -> None:
    constants = {"epochs": 10, "data": "${lr}", "layers": [1, {"k": True}]}
    made = Experiment.parse(spec({"function": "a:b", "arguments": constants}))
    assert called_with(made, Suggestion(0, {"lr": 0.5})) == {**constants, "lr": 0.5}
    assert list(search_space(made).parameters) == ["lr"]
    assert Experiment.parse(made.to_dict()) == made


def test_a_tuple_is_the_list_that_it_is_read_back_as() -> None:
    made = Experiment.parse(spec({"function": "a:b", "arguments": {"layers": (1, 2)}}))
    assert made.trial.arguments == {"layers": [1, 2]}


def test_a_constant_stands_in_arguments_as_data() -> None:
    trial = {"command": ["p", "--${data}", "${epochs}", "${lr}"], "arguments": {"data": "${lr} $(x)", "epochs": 3}}
    made = Experiment.parse(spec(trial))
    values = substitutions(made, Suggestion(0, {"lr": 0.5}), TrialDirectory(Path("d")))
    assert substitute_all(made.trial.command or (), values) == ["p", "--${lr} $(x)", "3", "0.5"]


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"lr": 1}, {}, "trial.arguments.lr: found 'lr', need a name that is not in parameters"),
        (
            {"e": 1},
            {"budget": {"parameter": "e", "max": 3}},
            "trial.arguments.e: found 'e', need a name other than budget.parameter, because",
        ),
        ({"trial.id": 1}, {}, "trial.arguments.trial.id: found 'trial.id', need another name"),
        ({"1x": 1}, {}, "trial.arguments.1x: found '1x', need a name of letters"),
        ({"x": [1]}, {}, "trial.arguments.x: found [1], need text, a finite number, true, false or null"),
        ({"x": float("nan")}, {}, "trial.arguments.x: found nan, need text, a finite number"),
    ],
)
def test_a_constant_that_cannot_be_is_told(arguments: Any, changes: Any, message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        Experiment.parse(spec({"command": ["p", "${lr}"], "arguments": arguments}, **changes))
    assert message in str(refused.value)


def train(lr: float, epochs: int = 1, *, data: str) -> float:
    return lr


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        (["epoch", "data"], "trial.arguments.epoch: found 'epoch', need an argument of train(lr"),
        (["epochs"], "'data'); trial.arguments holds arguments that are the same in every trial"),
    ],
)
def test_what_a_function_does_not_take_or_lacks_is_told(constants: list[str], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        check_arguments(train, "train", {"lr": True}, constants)
    assert message in str(refused.value)
    with pytest.raises(InvalidSpec) as decorated:
        kf.experiment(
            parameters={"lr": kf.Float(0, 1)}, minimize="loss", max_trials=1, arguments=dict.fromkeys(constants, 1)
        )(train)
    assert message.partition(" train(lr")[0] in str(decorated.value)


def test_a_function_of_any_keywords_takes_every_constant() -> None:
    def anything(**given: Any) -> None: ...

    check_arguments(anything, "anything", {"lr": True}, ["whatever"])


@pytest.mark.parametrize("algorithm", [None, "random", {"name": "darts"}, "enas"])
def test_an_architecture_without_a_trial_means_the_trainer_that_comes_along(algorithm: Any) -> None:
    changes: dict[str, Any] = {"architecture": "cell"} | ({"algorithm": algorithm} if algorithm else {})
    assert Experiment.parse(spec(**changes)).trial.function == "katib_flow.nas:train"
    with_constants = Experiment.parse(spec({"arguments": {"epochs": 2}}, **changes)).trial
    assert (with_constants.function, with_constants.arguments) == ("katib_flow.nas:train", {"epochs": 2})
    assert Experiment.parse(spec({"command": ["p"]}, **changes)).trial.kind == "command"


def test_without_an_architecture_a_trial_is_required() -> None:
    with pytest.raises(InvalidSpec, match="trial: found nothing"):
        Experiment.parse(spec())
