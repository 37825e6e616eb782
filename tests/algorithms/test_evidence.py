"""Equal losses teach a model nothing: as long as all are equal, algorithms with a model continue the Sobol sequence."""

from typing import Any

import pytest
from kit import experiment

from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Experiment

SQUARE = {name: {"type": "float", "min": 0, "max": 1} for name in ("x", "y", "z")}
TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "seconds", "direction": "minimize"}]


def search(algorithm: str, **sections: Any) -> Experiment:
    limits = {"max_trials": 100}
    return experiment(parameters=SQUARE, limits=limits, algorithm={"name": algorithm, "seed": 5}, **sections)


def ended(suggestion: Suggestion, accuracy: float, seconds: float = 1.0) -> Trial:
    return Trial(suggestion, State.SUCCEEDED, {"accuracy": accuracy, "seconds": seconds})


def play(asked: Experiment, trials: int) -> list[Suggestion]:
    """The suggestions one after the other, with an accuracy of 0.1 everywhere."""
    history = History()
    while len(history) < trials:
        history = history.replaced(ended(suggestion, 0.1) for suggestion in suggest(asked, history, 1))
    return [trial.suggestion for trial in history]


def assignments(suggestions: list[Suggestion]) -> list[dict[str, Any]]:
    return [dict(suggestion.assignment) for suggestion in suggestions]


@pytest.mark.parametrize("algorithm", ["gp", "tpe"])
def test_on_a_plateau_points_stay_spread_evenly(algorithm: str) -> None:
    assert assignments(play(search(algorithm), 24)) == assignments(play(search("sobol"), 24))


@pytest.mark.parametrize("algorithm", ["gp", "tpe"])
def test_a_single_loss_that_differs_is_enough(algorithm: str) -> None:
    points = play(search("sobol"), 24)
    plateau = History(tuple(ended(point, 0.1) for point in points))
    slope = plateau.replaced([ended(points[3], 0.2)])
    following = assignments(suggest(search("sobol"), plateau, 1))
    assert assignments(suggest(search(algorithm), plateau, 1)) == following
    assert assignments(suggest(search(algorithm), slope, 1)) != following


def test_of_several_objectives_one_that_differs_is_enough() -> None:
    points, asked = play(search("sobol"), 24), search("gp", objective=TWO)
    plateau = History(tuple(ended(point, 0.1) for point in points))
    slope = plateau.replaced([ended(points[3], 0.1, seconds=2.0)])
    following = assignments(suggest(search("sobol"), plateau, 1))
    assert assignments(suggest(asked, plateau, 1)) == following
    assert assignments(suggest(asked, slope, 1)) != following
