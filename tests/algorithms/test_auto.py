"""Automatic: which algorithm it takes for what, that it says why, and that it is that algorithm from then on."""

from typing import Any

import pytest
from kit import experiment, trial

from katib_flow.algorithms import check_algorithm
from katib_flow.algorithms.auto import choice, settled
from katib_flow.history import History, State
from katib_flow.loop import suggest
from katib_flow.spec import Experiment

LR = {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}
KIND = {"type": "categorical", "values": ["a", "b"]}
TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "size", "direction": "minimize"}]
BUDGET = {"parameter": "epochs", "min": 1, "max": 9}


def search(**sections: Any) -> Experiment:
    return experiment(**{"algorithm": {"seed": 3}} | sections)


@pytest.mark.parametrize(
    ("sections", "name", "because"),
    [
        ({}, "gp", "1 parameter, 10 trials"),
        ({"limits": {"timeout": "1h"}}, "gp", "no limit"),
        ({"parameters": {"lr": LR, "kind": KIND, "m": LR | {"when": {"kind": "a"}}}}, "gp", "1 categorical, 1 cond"),
        ({"parameters": {"kind": KIND}}, "sobol", "the whole space of 2 points"),
        ({"parameters": {"kind": KIND}, "limits": {"timeout": "1h"}}, "gp", "no limit"),
        ({"parameters": {f"x{i}": LR for i in range(101)}}, "cmaes", "101 parameters"),
        ({"limits": {"max_trials": 5000}}, "cmaes", "5,000 trials"),
        ({"parameters": {f"k{i}": KIND for i in range(13)}, "limits": {"max_trials": 5000}}, "tpe", "5,000 trials"),
        ({"budget": BUDGET}, "mobster", "a budget"),
        (
            {"budget": BUDGET, "parameters": {f"x{i}": LR for i in range(101)}},
            "bohb",
            "101 parameters, and trials have",
        ),
        ({"objective": TWO}, "gp", "2 objectives"),
        ({"parameters": {}, "architecture": "cell"}, "gp", "6 parameters (6 categorical)"),
        ({"objective": TWO, "limits": {"max_trials": 2000}}, "nsga2", "2 objectives"),
    ],
)
def test_it_takes_what_suits_and_says_why(sections: Any, name: str, because: str) -> None:
    made = search(**sections)
    assert choice(made).name == name
    assert because in choice(made).why
    assert not list(check_algorithm(made))


def test_it_is_the_default() -> None:
    data = search().to_dict()
    del data["algorithm"]
    assert Experiment.parse(data).algorithm.name == "auto"


@pytest.mark.parametrize("sections", [{}, {"budget": BUDGET}, {"objective": TWO}])
def test_it_proposes_what_its_choice_does_and_the_choice_survives_the_record(sections: Any) -> None:
    made = search(**sections)
    chosen = Experiment.parse(settled(made).to_dict())
    assert chosen.algorithm.name == choice(made).name
    assert chosen.algorithm.why.startswith("chosen by auto: ")
    assert settled(chosen) == chosen
    history = History()
    for _ in range(4):
        fresh = suggest(made, history, 3)
        assert fresh == suggest(chosen, history, 3)
        assert fresh
        history = history.replaced(trial(each, State.SUCCEEDED, "accuracy", float(each.index % 5)) for each in fresh)


def test_its_settings_are_its_choices_own_business() -> None:
    made = Experiment.parse(search().to_dict() | {"algorithm": {"name": "auto", "settings": {"startup": 3}}})
    assert [problem.where for problem in check_algorithm(made)] == ["algorithm.settings.startup"]
