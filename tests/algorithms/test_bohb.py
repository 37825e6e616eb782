"""BOHB: Hyperband's brackets, the budget that is modelled, who is good, and the ratio by a second calculation."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment, trial
from scipy import stats

from katib_flow.algorithms import check_algorithm
from katib_flow.algorithms.bohb import BOHBSettings, modelled_budget, split
from katib_flow.algorithms.registry import Ask
from katib_flow.algorithms.rungs import hyperband_brackets
from katib_flow.algorithms.tpe import BANDWIDTH
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Budget, Experiment

UNIT: Any = {"x": {"type": "float", "min": 0.0, "max": 1.0}}


def search(parameters: Any = UNIT, maximum: int = 9, **settings: Any) -> Experiment:
    return experiment(
        parameters=parameters,
        objective={"metric": "loss", "direction": "minimize"},
        algorithm={"name": "bohb", "seed": 3, "settings": settings},
        budget={"parameter": "epochs", "min": 1, "max": maximum, "eta": 3},
        limits={"max_trials": 200, "parallel_trials": 4},
    )


def loss(suggestion: Suggestion) -> float:
    return abs(float(str(suggestion.assignment["x"])) - 0.7) + 1 / (suggestion.budget or 1)


def play(made: Experiment, batch: int, seed: int, most: int) -> History:
    """Up to ``batch`` trials at a time, which end in a random order."""
    rng, history = random.Random(seed), History()
    while len(history) < most:
        fresh = suggest(made, history, min(batch - len(history.open()), most - len(history)))
        history = history.replaced(Trial(each, State.RUNNING) for each in fresh)
        if not history.open():
            break
        one = rng.choice(history.open())
        history = history.replaced([trial(one.suggestion, State.SUCCEEDED, "loss", loss(one.suggestion))])
    return history


@pytest.mark.parametrize("batch", [1, 5])
def test_its_brackets_are_hyperbands_one_round_after_another(batch: int) -> None:
    history = play(search(), batch, seed=0, most=60)
    sizes = Counter((each.suggestion.info["bracket"], each.suggestion.budget) for each in history)
    brackets = hyperband_brackets(Budget(parameter="epochs", min=1, max=9, eta=3))
    for number in (0, 1, 3):  # 0 and 3 halve most often; all of these have begun and ended after 60 trials
        rungs = {rung.budget: rung.size for rung in brackets[number % 3]}
        found = {budget: size for (bracket, budget), size in sizes.items() if bracket == number}
        assert found == rungs or (batch > 1 and number == 3)


def test_promoted_trials_keep_their_assignment_and_continue_from_the_best() -> None:
    history = play(search(maximum=27), 4, seed=1, most=60)
    for each in history:
        if each.suggestion.parent is not None:
            parent = next(one for one in history if one.index == each.suggestion.parent)
            assert parent.assignment == each.assignment
            assert each.suggestion.budget == 3 * (parent.suggestion.budget or 0)


def test_the_modelled_budget_is_the_largest_with_trials_enough() -> None:
    def history(*budgets: float) -> History:
        each = (Suggestion(index, {"x": index / 99}, budget=budget) for index, budget in enumerate(budgets))
        return History(tuple(trial(one, State.SUCCEEDED, "loss", 0.0) for one in each))

    def modelled(*budgets: float) -> float | None:
        return modelled_budget(Ask(search(), history(*budgets), range(1), BOHBSettings()))

    assert modelled(1, 1, 1) is None  # N_min + 2 is 4 with one parameter
    assert modelled(1, 1, 1, 1, 3, 3, 3) == 1
    assert modelled(1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9) == 3


@given(st.integers(2, 200), st.integers(1, 9), st.floats(0.05, 0.5))
def test_who_is_good_and_who_is_bad_as_in_equation_3(trials: int, least: int, top: float) -> None:
    losses = np.random.default_rng(trials).permutation(trials).astype(float)
    good, bad = split(losses, top, least)
    good_count = min(trials, max(least, int(np.ceil(top * trials))))
    bad_count = min(trials, max(least, trials - max(least, int(np.ceil(top * trials)))))
    assert sorted(losses[good]) == list(range(good_count))
    assert sorted(losses[bad]) == list(range(trials - bad_count, trials))


def test_a_draw_is_the_candidate_of_highest_ratio_of_the_two_densities() -> None:
    made = search(random_fraction=0.0, candidates=40)
    rng = np.random.default_rng(5)
    points = rng.random(20)
    slots = [Suggestion(i, {"x": float(x)}, 1, info={"bracket": 9, "rung": 0, "slot": i}) for i, x in enumerate(points)]
    history = History(tuple(trial(each, State.SUCCEEDED, "loss", loss(each)) for each in slots))
    (found,) = suggest(made, history, 1)

    order = np.argsort(np.abs(points - 0.7))
    good, bad = points[order[:3]], points[order[3:]]  # 15 % of 20

    def density(centres: Any, x: Any) -> Any:
        width = BANDWIDTH * (len(centres) + 1) ** (-1 / 5)
        kernels = [stats.truncnorm.pdf(x, -c / width, (1 - c) / width, c, width) for c in centres]
        return (sum(kernels) + 1) / (len(centres) + 1)

    ratio = density(good, found.assignment["x"]) / density(bad, found.assignment["x"])
    grid = np.linspace(0, 1, 2001)
    everywhere = density(good, grid) / density(bad, grid)
    assert ratio > np.quantile(everywhere, 0.97)  # the best of 40, most of them drawn near the good


def test_without_a_model_and_in_a_third_of_the_draws_it_is_random_search() -> None:
    first = suggest(search(), History(), 9)
    x = np.array([float(str(each.assignment["x"])) for each in first])
    assert stats.kstest(x, "uniform").pvalue > 1e-3
    history = play(search(), 4, seed=2, most=150)
    late = [float(str(each.assignment["x"])) for each in history[60:] if each.suggestion.info["rung"] == 0]
    near = np.mean([abs(x - 0.7) < 0.15 for x in late])
    assert 0.45 < near < 0.95  # 2/3 from the model, 0.3 of the others by chance
    only = play(search(random_fraction=1.0), 4, seed=2, most=150)
    drawn = [float(str(each.assignment["x"])) for each in only if each.suggestion.info["rung"] == 0]
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3


def test_draws_side_by_side_differ_and_a_finite_space_ends() -> None:
    made = search({"x": {"type": "float", "min": 0.0, "max": 1.0, "step": 0.1}}, random_fraction=0.0)
    history = play(made, 6, seed=0, most=150)
    drawn = [each.assignment["x"] for each in history if each.suggestion.info["rung"] == 0]
    assert len(drawn) == len(set(drawn)) == 11
    assert len(history) < 150
    assert not suggest(made, history, 3)


def test_failed_trials_are_not_promoted_and_count_among_the_bad() -> None:
    made = search(random_fraction=0.0)
    first = suggest(made, History(), 9)
    states = [State.FAILED if float(str(each.assignment["x"])) > 0.5 else State.SUCCEEDED for each in first]
    results = zip(first, states, strict=True)
    history = History(
        tuple(trial(each, state, "loss", 0.3 + index / 99) for index, (each, state) in enumerate(results))
    )
    fresh = suggest(made, history, 8)
    promoted = [each.parent for each in fresh if each.parent is not None]
    assert promoted
    assert all(states[parent] is State.SUCCEEDED for parent in promoted)
    drawn = [float(str(each.assignment["x"])) for each in fresh if each.parent is None]
    assert np.mean([x < 0.5 for x in drawn]) > 0.5


def test_without_a_budget_it_is_said_what_is_missing() -> None:
    made = Experiment.model_construct(**(vars(search()) | {"budget": None}))
    assert [problem.where for problem in check_algorithm(made)] == ["budget"]
