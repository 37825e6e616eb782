"""Population based training: truncation selection by hand, what explores and how, and whose checkpoint is continued."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment, parameter, parameter_sets, trial

from katib_flow.algorithms import check_algorithm
from katib_flow.algorithms.pbt import explored, perturbed
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Experiment
from katib_flow.spec.sections import AlgorithmSpec
from katib_flow.spec.space import SearchSpace

LR: Any = {"lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}}


def search(parameters: Any = LR, budget: Any = None, **settings: Any) -> Experiment:
    parts = {} if budget is None else {"budget": {"parameter": "epochs", **budget}}
    chosen = {"name": "pbt", "seed": 4, "settings": {"n_population": 10} | settings}
    return experiment(parameters=parameters, algorithm=chosen, limits={"max_trials": 400}, **parts)


def ended(suggestion: Suggestion, accuracy: float, state: State = State.SUCCEEDED) -> Trial:
    return trial(suggestion, state, "accuracy", accuracy)


def test_the_worst_fifth_take_over_from_the_best_fifth_and_the_others_go_on() -> None:
    first = suggest(search(), History(), 99)
    assert [each.info for each in first] == [{"member": member, "generation": 0} for member in range(10)]
    accuracy = [0.5, 0.9, 0.1, 0.6, 0.2, 0.7, 0.3, 0.8, 0.4, 0.55]  # the worst are 2 and 4, the best 1 and 7
    history = History(tuple(ended(each, value) for each, value in zip(first, accuracy, strict=True)))
    second = suggest(search(), history, 99)
    for each in second:
        member = each.info["member"]
        assert each.info["generation"] == 1
        if member in (2, 4):
            assert each.parent in (1, 7)
            before = float(str(history[each.parent].assignment["lr"]))
            after = float(str(each.assignment["lr"]))
            assert after in (pytest.approx(before * 1.2), pytest.approx(before * 0.8), 1.0, 1e-4)
        else:
            assert each.parent == member
            assert each.assignment == history[each.parent].assignment
    spec = search().algorithm.model_dump()
    seeds = [search().model_copy(update={"algorithm": AlgorithmSpec(**(spec | {"seed": seed}))}) for seed in range(20)]
    taken = {each.parent for made in seeds for each in suggest(made, history, 99) if each.info["member"] == 2}
    assert taken == {1, 7}


def test_a_member_goes_on_as_soon_as_it_has_ended_and_is_compared_with_what_there_is() -> None:
    first = suggest(search(), History(), 10)
    running = [Trial(each, State.RUNNING) for each in first]
    assert not suggest(search(), History(tuple(running)), 3)
    one = History((ended(first[0], 0.1), *running[1:]))
    (alone,) = suggest(search(), one, 3)
    assert (alone.parent, alone.info["member"]) == (0, 0)  # nobody to take over from
    two = History((ended(first[0], 0.1), ended(first[1], 0.9), *running[2:]))
    assert [each.parent for each in suggest(search(), two, 3)] == [1, 1]  # the worse of the two takes over


def test_a_failed_member_is_taken_over_by_the_best_and_a_killed_one_waited_for() -> None:
    first = suggest(search(), History(), 10)
    states = [State.FAILED, State.KILLED, *[State.SUCCEEDED] * 8]
    history = History(tuple(ended(each, 0.1 * each.index, state) for each, state in zip(first, states, strict=True)))
    second = {each.info["member"]: each.parent for each in suggest(search(), history, 99)}
    assert second[0] == 9  # a fifth of the eight that have a value is one
    assert 1 not in second
    nobody = History(tuple(ended(each, 0.0, State.FAILED) for each in first))
    fresh = suggest(search(), nobody, 10)
    assert [each.parent for each in fresh] == [None] * 10
    assert not {each.assignment["lr"] for each in fresh} & {each.assignment["lr"] for each in first}


def play(made: Experiment, batch: int, seed: int, most: int = 300) -> History:
    """Up to ``batch`` trials at a time, which end in a random order; accuracy grows with good settings and training."""
    rng, history = random.Random(seed), History()
    while len(history) < most:
        fresh = suggest(made, history, min(batch - len(history.open()), most - len(history)))
        history = history.replaced(Trial(each, State.RUNNING) for each in fresh)
        if not history.open():
            break
        one = rng.choice(history.open())
        before = history[one.suggestion.parent].observations["accuracy"] if one.suggestion.parent is not None else 0.0
        gain = 1 / (1 + abs(np.log10(float(str(one.assignment["lr"])) / 0.1)))
        history = history.replaced([ended(one.suggestion, before + gain)])
    return history


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_every_member_trains_up_to_the_budget_in_steps_of_the_least(batch: int) -> None:
    history = play(search(budget={"min": 2, "max": 7}), batch, seed=batch)
    assert {each.suggestion.budget for each in history} == {2, 4, 6, 7}
    for each in history:
        parent = history[each.suggestion.parent] if each.suggestion.parent is not None else None
        spent = (parent.suggestion.budget or 0) if parent else 0
        assert each.suggestion.budget == min(7, spent + 2)
    last = {each.suggestion.info["member"]: each.suggestion.budget for each in history}
    assert last == dict.fromkeys(range(10), 7)


def test_the_population_moves_to_what_trains_best() -> None:
    history = play(search(), 4, seed=0)
    early = np.mean([each.observations["accuracy"] for each in history[:10]])
    gains = [
        each.observations["accuracy"] - history[each.suggestion.parent].observations["accuracy"]
        for each in history[-30:]
        if each.suggestion.parent is not None and each.state is State.SUCCEEDED
    ]
    assert np.mean(gains) > 1.5 * early


def test_without_a_budget_a_limit_must_end_it() -> None:
    made = Experiment.parse(search().to_dict() | {"limits": {}})
    assert [problem.where for problem in check_algorithm(made)] == ["limits"]
    assert not list(check_algorithm(Experiment.parse(search(budget={"min": 1, "max": 3}).to_dict() | {"limits": {}})))


@pytest.mark.parametrize(
    ("fields", "value", "up", "down"),
    [
        ({"type": "float", "min": 0.0, "max": 1.0}, 0.5, 0.6, 0.4),
        ({"type": "float", "min": 0.0, "max": 1.0}, 0.9, 1.0, 0.72),
        ({"type": "float", "min": 0.0, "max": 1.0, "step": 0.1}, 0.2, 0.3, 0.1),
        ({"type": "int", "min": 1, "max": 100}, 50, 60, 40),
        ({"type": "int", "min": 1, "max": 4}, 2, 3, 1),
        ({"type": "int", "min": 1, "max": 4}, 4, 4, 3),
        ({"type": "ordinal", "values": [8, 16, 64]}, 16, 64, 8),
        ({"type": "ordinal", "values": [8, 16, 64]}, 8, 16, 8),
        ({"type": "categorical", "values": ["a", "b"]}, "a", "a", "a"),
    ],
)
def test_a_perturbation_by_hand(fields: Any, value: Any, up: Any, down: Any) -> None:
    each = parameter(**fields)
    assert perturbed(each, value, True) == pytest.approx(up)
    assert perturbed(each, value, False) == pytest.approx(down)
    assert each.contains(perturbed(each, value, True))


@given(parameter_sets(), st.integers(0, 999), st.sampled_from([0.0, 0.3, 1.0]))
def test_what_explores_stays_in_the_space(parameters: Any, seed: int, resample: float) -> None:
    space = SearchSpace({name: parameter(**fields) for name, fields in parameters.items()})
    rng = np.random.default_rng(seed)
    assert explored(space, space.draw(rng), resample, rng) in space


def test_resampling_draws_as_often_as_it_is_told() -> None:
    space = SearchSpace({"x": parameter(type="float", min=0.0, max=1.0)})
    rng = np.random.default_rng(0)
    values = [float(str(explored(space, {"x": 0.5}, 0.25, rng)["x"])) for _ in range(2000)]
    assert np.mean([value not in (0.6, 0.4) for value in values]) == pytest.approx(0.25, abs=0.04)  # 4 sigma
