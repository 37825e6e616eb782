"""MOBSTER: where trials begin, which ones continue, and what the model is asked, each by a second calculation."""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import experiment, trial
from scipy import stats

from katib_flow.algorithms import check_algorithm
from katib_flow.algorithms.evidence import Evidence
from katib_flow.algorithms.gp import GPSettings
from katib_flow.algorithms.mobster import Model, first_rung, mobster, with_budget
from katib_flow.algorithms.registry import Ask
from katib_flow.algorithms.rungs import hyperband_brackets, ladder
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Budget, Experiment

UNIT: Any = {"x": {"type": "float", "min": 0.0, "max": 1.0}}
FULL = 9
MOST_STARTS = 60


def search(parameters: Any = UNIT, **sections: Any) -> Experiment:
    return experiment(
        parameters=parameters,
        objective={"metric": "loss", "direction": "minimize"},
        algorithm={"name": "mobster", "seed": 3},
        budget={"parameter": "epochs", "min": 1, "max": FULL, "eta": 3},
        limits={"max_trials": 200, "parallel_trials": 4},
        **sections,
    )


def crossing(x: float, budget: float) -> float:
    """Curves that cross: with a small budget a large x is better, with the full one a small x."""
    progress = (math.log(budget) / math.log(FULL)) ** 2
    return (1 - progress) * (2 - x) + progress * x


def ended(index: int, x: float, budget: float, rung: int) -> Trial:
    suggestion = Suggestion(index, {"x": float(x)}, budget, info={"rung": rung})
    return trial(suggestion, State.SUCCEEDED, "loss", crossing(x, budget))


def x_of(point: Suggestion | Trial | None) -> float:
    assert point is not None
    return float(str(point.assignment["x"]))


def race() -> History:
    """Trials with all budgets whose curves cross; none with a budget of 3 has continued yet."""
    points = np.linspace(0.05, 0.95, 10)
    low = [ended(index, x, 1, 0) for index, x in enumerate(points)]
    middle = [ended(10 + index, x, 3, 1) for index, x in enumerate(points - 0.02)]
    return History((*low, *middle, *(ended(20 + index, x, 9, 2) for index, x in enumerate(points + 0.02))))


def seen(suggestion: Suggestion) -> float:
    return crossing(x_of(suggestion), suggestion.budget or 0)


def play(experiment_: Experiment, most: int, batch: int = 4, loss: Callable[[Suggestion], float] = seen) -> History:
    """Up to ``batch`` trials at a time, which end in a random order."""
    rng, history = random.Random(0), History()
    while len(history) < most:
        fresh = suggest(experiment_, history, min(batch - len(history.open()), most - len(history)))
        history = history.replaced(Trial(suggestion, State.RUNNING) for suggestion in fresh)
        if not history.open():
            break
        suggestion = rng.choice(history.open()).suggestion
        history = history.replaced([trial(suggestion, State.SUCCEEDED, "loss", loss(suggestion))])
    return history


@settings(max_examples=30)
@given(st.integers(1, 100), st.integers(2, 4))
def test_starts_fill_the_brackets_of_hyperband_evenly(maximum: int, eta: int) -> None:
    budget = Budget(parameter="epochs", min=1, max=maximum, eta=eta)
    sizes = [rungs[0].size for rungs in hyperband_brackets(budget)]
    counts: Counter[int] = Counter()
    history = History()
    for index in range(min(MOST_STARTS, sum(sizes))):
        rung = first_rung(budget, history)
        counts[rung] += 1
        assert all(counts[rung] / sizes[rung] <= (counts[other] + 1) / size for other, size in enumerate(sizes))
        history = history.replaced([Trial(Suggestion(index, {"x": 0.5}, info={"rung": rung}), State.RUNNING)])
    if sum(sizes) <= MOST_STARTS:
        assert [counts[rung] for rung in range(len(sizes))] == sizes


def test_a_promotion_is_no_start() -> None:
    budget = Budget(parameter="epochs", min=1, max=9, eta=3)
    starts = [Suggestion(index, {"x": 0.5}, info={"rung": 0}) for index in range(2)]
    promoted = [Suggestion(2 + index, {"x": 0.5}, parent=index, info={"rung": 1}) for index in range(2)]
    alone, both = (History(tuple(Trial(one, State.RUNNING) for one in some)) for some in (starts, [*starts, *promoted]))
    assert first_rung(budget, alone) == first_rung(budget, both) == 1  # 3/9 of the first bracket, 1/5 of the second


def test_every_start_has_the_budget_of_its_rung_and_every_promotion_the_next() -> None:
    history = play(search(), 60)
    budgets = ladder(Budget(parameter="epochs", min=1, max=9, eta=3))
    for one in history:
        rung = int(str(one.suggestion.info["rung"]))
        assert one.suggestion.budget == budgets[rung]
        if one.suggestion.parent is not None:
            parent = history[one.suggestion.parent]
            assert parent.assignment == one.assignment
            assert int(str(parent.suggestion.info["rung"])) == rung - 1
    parents = [one.suggestion.parent for one in history if one.suggestion.parent is not None]
    assert len(parents) == len(set(parents)) > 10


def test_by_turns_the_best_by_loss_and_the_best_by_prediction_continue() -> None:
    history = race()
    further = ended(30, 0.5, 9, 2)  # so that the next index is odd
    (by_loss,), (by_prediction,) = suggest(search(), history, 1), suggest(search(), History((*history, further)), 1)
    assert by_loss.budget == by_prediction.budget == 9
    assert x_of(history[by_loss.parent or 0]) == pytest.approx(0.93)  # the highest on the rung below the last
    assert x_of(history[by_prediction.parent or 0]) == pytest.approx(0.03)


def test_budgets_are_inputs_at_equal_distances() -> None:
    ask = Ask(search(), race(), range(1), GPSettings())
    model = Model.of(ask, Evidence.from_ask(ask))
    inputs = with_budget(model.features, model.budget, np.full((3, 1), 0.25), np.array([1.0, 3.0, 9.0]))
    np.testing.assert_allclose(inputs, [[0.25, -1], [0.25, -0.5], [0.25, 0]])
    only = Budget(parameter="epochs", min=9, max=9)
    np.testing.assert_allclose(with_budget(model.features, only, np.full((1, 1), 0.25), np.array([9.0])), [[0.25, 0]])


def bowl(x: float, budget: float) -> float:
    """Curves that do not cross, with the smallest loss between the points at which it is known."""
    return 4 * (x - 0.45) ** 2 + 0.3 * (1 - math.log(budget) / math.log(FULL))


def test_a_start_is_where_the_improvement_expected_at_the_full_budget_is_largest() -> None:
    points = [(x, rung) for rung in range(3) for x in (0.1, 0.25, 0.7, 0.95)]
    suggestions = [Suggestion(index, {"x": x}, 3**rung, info={"rung": rung}) for index, (x, rung) in enumerate(points)]
    known = [trial(one, State.SUCCEEDED, "loss", bowl(x_of(one), one.budget or 0)) for one in suggestions]
    ask = Ask(search(), History(tuple(known)), range(40, 41), GPSettings())
    model = Model.of(ask, Evidence.from_ask(ask))
    before = float(model.candidates(ask)[0, 0])
    running = Trial(Suggestion(30, {"x": before}, 9, info={"rung": 2}), State.RUNNING)
    waiting = Ask(search(), History((*known, running)), range(40, 41), GPSettings())
    chosen = float(model.candidates(waiting)[0, 0])
    assert abs(chosen - before) > 0.02

    process, theta = model.process, model.process.theta  # textbook formulas, with the fitted hyper-parameters

    def kernel(one: Any, other: Any) -> Any:
        steps = [(one[:, None, k] - other[None, :, k]) / math.exp(theta[k]) for k in (0, 1)]
        r = np.sqrt(5 * (steps[0] ** 2 + steps[1] ** 2))
        return math.exp(theta[2]) * (1 + r + r**2 / 3) * np.exp(-r) + 1

    def posterior(inputs: Any, outputs: Any, points: Any) -> tuple[Any, Any]:
        inverse = np.linalg.inv(kernel(inputs, inputs) + (math.exp(theta[3]) + 1e-8) * np.eye(len(inputs)))
        cross = kernel(points, inputs)
        return cross @ inverse @ outputs, np.diag(kernel(points, points) - cross @ inverse @ cross.T)

    pending = np.array([[before, 0.0]])
    inputs = np.vstack([process.inputs, pending])
    outputs = np.append(process.outputs, posterior(process.inputs, process.outputs, pending)[0])
    seen = np.array([[x_of(one), 0.0] for one in waiting.history])
    lowest = posterior(inputs, outputs, seen)[0].min()
    grid = np.stack([np.linspace(0, 1, 801), np.zeros(801)], axis=1)
    mean, variance = posterior(inputs, outputs, grid)
    z = (lowest - mean) / np.sqrt(variance)
    improvement = np.sqrt(variance) * (z * stats.norm.cdf(z) + stats.norm.pdf(z))
    assert chosen == pytest.approx(grid[np.argmax(improvement), 0], abs=0.005)


def test_the_model_learns_from_truncated_losses() -> None:
    diverged = trial(Suggestion(30, {"x": 0.99}, 9, info={"rung": 2}), State.SUCCEEDED, "loss", 50.0)
    history = History((*race(), diverged))
    losses = np.array([one.observations["loss"] for one in history])
    truncated = np.minimum(losses, np.median(losses) + 1.5 * (np.median(losses) - losses.min()))
    ask = Ask(search(), history, range(1), GPSettings())
    outputs = Model.of(ask, Evidence.from_ask(ask)).process.outputs
    np.testing.assert_allclose(outputs, (truncated - truncated.mean()) / truncated.std())


def test_before_there_is_a_model_trials_start_on_the_lowest_rung_and_none_continues() -> None:
    first = suggest(search(), History(), 7)
    history = History(tuple(ended(one.index, x_of(one), 1, 0) for one in first))
    assert [(one.budget, one.parent) for one in [*first, *suggest(search(), history, 5)]] == [(1, None)] * 12


def test_in_a_used_up_space_the_best_continue_without_a_model() -> None:
    letters = {"x": {"type": "categorical", "values": ["a", "b", "c", "d"]}}
    history = play(search(letters), 60, loss=lambda suggestion: "dcab".index(str(suggestion.assignment["x"])))
    assert Counter(one.suggestion.budget for one in history) == {1: 4, 3: 1}
    assert [one.assignment["x"] for one in history if one.suggestion.budget == 3] == ["d"]


def test_it_finds_what_a_short_training_hides() -> None:
    history = play(search(), 60)
    late = [x_of(one) for one in history if one.index >= 40 and one.suggestion.parent is None]
    assert np.mean(np.array(late) < 0.2) > 0.5  # the smallest loss of a short training is at 1


def test_earlier_trials_count_if_they_had_a_budget() -> None:
    earlier = [ended(index, x, 9, 2) for index, x in enumerate(np.linspace(0.3, 1, 12))]
    without = [trial(Suggestion(one.index, one.assignment), State.SUCCEEDED, "loss", 0.0) for one in earlier]

    def first(*trials: Trial) -> list[Suggestion]:
        return mobster(Ask(search(), History(), range(3), GPSettings(), earlier=History(trials)))

    assert first(*without) == first()
    assert first(*earlier) != first()
    assert x_of(first(*earlier)[0]) < 0.3


def test_it_needs_a_budget() -> None:
    without = Experiment.model_construct(**(vars(search()) | {"budget": None}))
    assert [problem.where for problem in check_algorithm(without)] == ["budget"]


def test_on_a_plateau_trials_continue_and_others_start_in_all_brackets() -> None:
    history = play(search(), 80, batch=1, loss=lambda suggestion: 1.0)
    starts = [trial for trial in history if trial.suggestion.parent is None]
    assert len(starts) < len(history)
    assert {trial.suggestion.info["rung"] for trial in starts} == {0, 1, 2}
    corners = [x for trial in starts if (x := x_of(trial)) < 0.01 or x > 0.99]
    assert len(corners) < 0.1 * len(starts)
