"""Hyperband and ASHA: the paper's tables, a second calculation of what is promoted, and what happens out of order."""

import random
from collections import Counter
from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment, trial

from katib_flow.algorithms import check_algorithm
from katib_flow.algorithms.rungs import bracket, hyperband_brackets, ladder, levels
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest, verdict
from katib_flow.spec import Budget, Experiment


def budget(maximum: int, eta: int = 3, minimum: int = 1) -> Budget:
    return Budget(parameter="epochs", min=minimum, max=maximum, eta=eta)


@pytest.mark.parametrize(("maximum", "eta", "brackets"), [(9, 3, 3), (81, 3, 5), (243, 3, 6), (1000, 10, 4), (1, 2, 1)])
def test_the_number_of_brackets_is_exact_at_powers_of_eta(maximum: int, eta: int, brackets: int) -> None:
    assert len(hyperband_brackets(budget(maximum, eta))) == brackets


def test_the_brackets_are_those_of_the_papers_table() -> None:
    table = [  # Li et al., JMLR 2018, Table 1: n_i and r_i for R = 81 and eta = 3
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    found = [[(rung.size, rung.budget) for rung in rungs] for rungs in hyperband_brackets(budget(81))]
    assert found == table


@given(st.integers(1, 5000), st.integers(2, 10))
def test_every_bracket_follows_algorithm_1_in_exact_fractions(maximum: int, eta: int) -> None:
    s_max = max(s for s in range(20) if eta**s <= maximum)
    assert levels(budget(maximum, eta)) == s_max
    for s in range(s_max + 1):
        first = ceil(Fraction((s_max + 1) * eta**s, s + 1))
        for i, rung in enumerate(bracket(budget(maximum, eta), s)):
            assert rung.size == floor(Fraction(first, eta**i))
            assert rung.budget == floor(Fraction(maximum * eta**i, eta**s))


def test_the_lowest_budget_is_the_users() -> None:
    assert ladder(budget(100, 3, 10)) == (11, 33, 100)
    assert all(rung.budget >= 10 for rungs in hyperband_brackets(budget(100, 3, 10)) for rung in rungs)


def search(name: str, maximum: int = 9, limits: Any = None, **settings: Any) -> Experiment:
    algorithm = {"name": name, "seed": 3, "settings": settings}
    limits = limits or ({} if name == "hyperband" else {"max_trials": 40})
    parts: dict[str, Any] = {"algorithm": algorithm, "limits": {"parallel_trials": 4, **limits}}
    return experiment(budget={"parameter": "epochs", "min": 1, "max": maximum, "eta": 3}, **parts)


def score(suggestion: Suggestion) -> float:
    """A configuration is better the nearer its logarithm is to that of 0.01."""
    lr = suggestion.assignment["lr"]
    assert isinstance(lr, float)
    return -abs(lr / 0.01 - 1 if lr > 0.01 else 0.01 / lr - 1)


def play(made: Experiment, batch: int, seed: int, most: int = 500) -> History:
    """Up to ``batch`` trials at a time, which end in a random order."""
    rng, history = random.Random(seed), History()
    while len(history) < most:
        room = batch - len(history.open())
        history = history.replaced(Trial(each, State.RUNNING) for each in suggest(made, history, room))
        if not history.open():
            break
        one = rng.choice(history.open())
        history = history.replaced([trial(one.suggestion, State.SUCCEEDED, "accuracy", score(one.suggestion))])
    return history


@pytest.mark.parametrize("batch", [1, 4, 30])
def test_hyperband_runs_22_trials_and_78_units_whatever_the_order(batch: int) -> None:
    histories = [play(search("hyperband"), batch, seed) for seed in range(5)]
    for history in histories:
        assert len(history) == 22
        assert sum(each.suggestion.budget or 0 for each in history) == 78
    tried = [Counter((each.assignment["lr"], each.suggestion.budget) for each in history) for history in histories]
    assert all(other == tried[0] for other in tried)


def test_hyperband_promotes_the_best_of_a_rung_to_continue_from_their_checkpoints() -> None:
    history = play(search("hyperband", 81), 8, seed=1)
    for number, rungs in enumerate(hyperband_brackets(budget(81))):
        for level in range(1, len(rungs)):
            below = [
                each
                for each in history
                if each.suggestion.info["bracket"] == number and each.suggestion.info["rung"] == level - 1
            ]
            here = [
                each
                for each in history
                if each.suggestion.info["bracket"] == number and each.suggestion.info["rung"] == level
            ]
            best = sorted(below, key=lambda each: -score(each.suggestion))[: rungs[level].size]
            assert {each.suggestion.parent for each in here} == {each.index for each in best}
            by_index = {each.index: each for each in below}
            for each in here:
                assert each.assignment == by_index[each.suggestion.parent].assignment


def test_a_rung_waits_for_its_last_trial_and_the_next_bracket_does_not() -> None:
    made = search("hyperband")
    first = suggest(made, History(), 9)
    ended = [trial(each, State.SUCCEEDED, "accuracy", score(each)) for each in first[:8]]
    history = History((*ended, Trial(first[8], State.RUNNING)))
    assert {each.info["bracket"] for each in suggest(made, history, 4)} == {1}
    killed = History((*ended, Trial(first[8], State.KILLED)))  # it is started again, so its rung is not over
    assert {each.info["bracket"] for each in suggest(made, killed, 4)} == {1}
    failed = History((*ended, Trial(first[8], State.FAILED)))
    assert [(each.budget, each.info["rung"]) for each in suggest(made, failed, 3)] == [(3, 1)] * 3


def test_a_rung_with_too_few_results_promotes_what_there_is() -> None:
    made = search("hyperband")
    first = suggest(made, History(), 9)
    states = [State.SUCCEEDED, State.SUCCEEDED, *[State.FAILED] * 7]
    ended = [trial(each, state, "accuracy", score(each)) for each, state in zip(first, states, strict=True)]
    promoted = [each for each in suggest(made, History(tuple(ended)), 9) if each.info["rung"] == 1]
    assert {each.parent for each in promoted} == {0, 1}


def test_hyperband_ends_by_itself_and_rounds_go_on() -> None:
    once, twice = play(search("hyperband"), 4, 0), play(search("hyperband", rounds=2), 4, 0)
    assert (len(once), len(twice)) == (22, 44)
    assert verdict(search("hyperband"), once).go
    assert len({each.assignment["lr"] for each in twice if each.suggestion.info["rung"] == 0}) == 2 * 17


def test_asha_promotes_only_the_top_third_of_what_has_ended_and_never_waits() -> None:
    made, rng, history = search("asha", 27), random.Random(2), History()
    for _ in range(120):
        fresh = suggest(made, history, 4 - len(history.open()))
        assert len(fresh) == 4 - len(history.open())
        for each in fresh:
            if each.parent is not None:
                parent = history[each.parent]
                level = parent.suggestion.info["rung"]
                ended = [one for one in history if one.suggestion.info["rung"] == level and one.state.final]
                better = [one for one in ended if score(one.suggestion) > score(parent.suggestion)]
                assert len(better) < len(ended) // 3
                assert (each.assignment, each.info["rung"]) == (parent.assignment, level + 1)
        history = history.replaced(Trial(each, State.RUNNING) for each in fresh)
        one = rng.choice(history.open())
        history = history.replaced([trial(one.suggestion, State.SUCCEEDED, "accuracy", score(one.suggestion))])
    parents = [each.suggestion.parent for each in history if each.suggestion.parent is not None]
    assert len(parents) == len(set(parents)) > 20
    assert {each.suggestion.budget for each in history} == {1, 3, 9, 27}


def test_asha_decides_as_by_hand() -> None:
    made = search("asha")
    first = suggest(made, History(), 6)
    assert [each.budget for each in first] == [1] * 6
    losses = [0.5, 0.9, 0.1, 0.8, 0.3, 0.7]  # accuracies: 1, 3 are the top two of six
    ended = tuple(trial(each, State.SUCCEEDED, "accuracy", value) for each, value in zip(first, losses, strict=True))
    assert [(each.parent, each.budget) for each in suggest(made, History(ended[:2]), 1)] == [(None, 1)]
    assert [(each.parent, each.budget) for each in suggest(made, History(ended[:3]), 2)] == [(1, 3), (None, 1)]
    assert [(each.parent, each.budget) for each in suggest(made, History(ended), 3)] == [(1, 3), (3, 3), (None, 1)]


def test_new_trials_of_asha_are_those_of_random_search() -> None:
    drawn = [each.assignment for each in suggest(search("random"), History(), 30)]
    history = play(search("asha"), 4, seed=4, most=40)
    fresh = [each.assignment for each in history if each.suggestion.info["rung"] == 0]
    assert fresh == drawn[: len(fresh)]


@pytest.mark.parametrize("name", ["hyperband", "asha"])
def test_without_a_budget_it_is_said_what_is_missing(name: str) -> None:
    made = Experiment.model_construct(**(vars(search(name)) | {"budget": None}))
    assert [problem.where for problem in check_algorithm(made)] == ["budget"]
    assert "random and gp do without" in str(next(check_algorithm(made)))
