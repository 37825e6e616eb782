"""CMA-ES: the library driven directly, convergence where its theory promises it, and what is not a generation."""

import math
import random
from typing import Any

import numpy as np
import pytest
from cmaes import CatCMAwM
from kit import experiment, trial

from katib_flow.algorithms import check_algorithm
from katib_flow.algorithms.cmaes import Axes, CMAESSettings, started
from katib_flow.algorithms.registry import Ask
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

REALS = {f"x{i}": {"type": "float", "min": 0.0, "max": 1.0} for i in range(4)}
MIXED = {
    **REALS,
    "layers": {"type": "int", "min": 1, "max": 9},
    "kind": {"type": "categorical", "values": ["a", "b", "c"]},
    "flag": {"type": "ordinal", "values": [0, 1]},
}


def search(parameters: Any, **settings: Any) -> Experiment:
    return experiment(
        parameters=parameters,
        objective={"metric": "loss", "direction": "minimize"},
        algorithm={"name": "cmaes", "seed": 2, "settings": settings},
        limits={"max_trials": 1000},
    )


def ellipsoid(assignment: Any) -> float:
    return sum(10**i * (assignment[f"x{i}"] - 0.3) ** 2 for i in range(4))


def mixed_loss(assignment: Any) -> float:
    far = (assignment["layers"] - 7) ** 2 / 10 + (assignment["kind"] != "c") + (assignment["flag"] != 1)
    return ellipsoid(assignment) + far


def sphere(assignment: Any) -> float:
    return sum((assignment[f"x{i}"] - 0.3) ** 2 for i in range(4))


def play(made: Experiment, loss: Any, most: int, batch: int = 1, order: random.Random | None = None) -> History:
    """``batch`` trials at a time, which end together, or one by one in a random order."""
    history = History()
    while len(history) < most:
        room = min(batch - len(history.open()), most - len(history))
        history = history.replaced(Trial(each, State.RUNNING) for each in suggest(made, history, room))
        ended = [order.choice(history.open())] if order else history.open()
        history = history.replaced(
            trial(one.suggestion, State.SUCCEEDED, "loss", loss(one.assignment)) for one in ended
        )
    return history


def losses(history: History) -> list[float]:
    return [each.observations.get("loss", math.inf) for each in history]


def test_a_generation_is_what_the_library_does_with_the_ranks() -> None:
    made = search(MIXED, population=8)
    history = play(made, mixed_loss, 40)
    space = search_space(made)
    z = [[space.parameters["layers"].unit(value) for value in range(1, 10)]]
    direct = CatCMAwM(
        x_space=[[0, 1]] * 4, z_space=z, c_space=[3, 2], population_size=8, mean=np.full(5, 0.5), sigma=0.15,
        cov=np.eye(5),
    )  # fmt: skip
    for first in range(0, 40, 8):
        asked = []
        for index in range(first, first + 8):
            direct.reseed_rng(np.random.SeedSequence((2, index)).generate_state(4))
            asked.append(direct.ask())
        for solution, one in zip(asked, history[first : first + 8], strict=True):
            assert solution.x is not None
            assert solution.z is not None
            assert solution.c is not None
            assert [one.assignment[f"x{i}"] for i in range(4)] == pytest.approx(list(solution.x))
            assert one.assignment["layers"] == 1 + z[0].index(solution.z[0])
            assert one.assignment["kind"] == "abc"[int(np.argmax(solution.c[0]))]
            assert one.assignment["flag"] == int(np.argmax(solution.c[1]))
        ranked = sorted(range(8), key=lambda each: losses(history)[first + each])
        direct.tell([(asked[each], float(rank)) for rank, each in enumerate(ranked)])


def test_it_converges_on_an_ill_conditioned_ellipsoid() -> None:
    found = losses(play(search(REALS), ellipsoid, 400, batch=8))
    points = np.random.default_rng(0).random((400, 4))
    drawn = min(ellipsoid({f"x{i}": x for i, x in enumerate(point)}) for point in points)
    assert min(found) < 1e-2 * drawn


def test_it_converges_in_a_mixed_space_with_trials_that_end_in_any_order() -> None:
    history = play(search(MIXED), mixed_loss, 240, batch=8, order=random.Random(0))
    best = min(history, key=lambda each: each.observations.get("loss", math.inf))
    assert (best.assignment["layers"], best.assignment["kind"], best.assignment["flag"]) == (7, "c", 1)
    assert best.observations["loss"] < 0.3


def test_a_straggler_holds_up_neither_the_workers_nor_the_order_of_generations() -> None:
    made = search(REALS, population=8)
    first = suggest(made, History(), 8)
    done = [trial(each, State.SUCCEEDED, "loss", ellipsoid(each.assignment)) for each in first]
    waiting = History((*done[:7], Trial(first[7], State.RUNNING)))
    more = suggest(made, waiting, 4)
    assert len(more) == 4
    untold = [each.assignment for each in suggest(made, History(), 4, start=8)]
    assert [each.assignment for each in more] == untold  # of the distribution before the generation is complete
    full = History(tuple(done))
    assert [each.assignment for each in suggest(made, full, 4)] != untold
    later = full.replaced(trial(each, State.SUCCEEDED, "loss", 0.0) for each in more)
    assert [each.assignment for each in suggest(made, later, 1, start=99)] == [
        each.assignment for each in suggest(made, full, 1, start=99)
    ]  # half a generation changes nothing


def test_a_failed_trial_is_the_worst_of_its_generation_and_no_worse() -> None:
    made = search(REALS, population=8)
    first = suggest(made, History(), 8)
    done = [trial(each, State.SUCCEEDED, "loss", float(rank)) for rank, each in enumerate(first)]
    failed, terrible = Trial(first[7], State.FAILED), trial(first[7], State.SUCCEEDED, "loss", 1e30)
    for last in (failed, terrible):
        other = suggest(made, History((*done[:7], last)), 3)
        assert [each.assignment for each in other] == [
            each.assignment for each in suggest(made, History(tuple(done)), 3)
        ]


def runs(history: History) -> list[int]:
    return [int(str(each.suggestion.info["run"])) for each in history]


def test_a_run_that_has_converged_is_followed_by_one_of_twice_the_population() -> None:
    history = play(search(REALS, population=8), sphere, 400, batch=8)
    numbers = runs(history)
    assert numbers == sorted(numbers)
    assert max(numbers) >= 1
    start = numbers.index(1)
    assert start % 8 == 0
    last = np.array([each.suggestion.info["point"] for each in history[start - 8 : start]])
    assert last.std(axis=0).max() < 1e-3
    new = np.array([each.suggestion.info["point"] for each in history[start : start + 8]])
    assert new.std(axis=0).max() > 0.1


def test_without_restarts_there_is_one_run() -> None:
    assert set(runs(play(search(REALS, population=4, restart_strategy="none"), sphere, 300, batch=4))) == {0}


def test_bipop_spends_as_much_on_small_populations_as_on_large_ones() -> None:
    made = search(REALS, population=8, restart_strategy="bipop")
    ask = Ask(made, History(), range(1), CMAESSettings(population=8, restart_strategy="bipop"))
    axes = Axes(search_space(made))
    first = started(ask, axes, None)
    first.spent[True] = 100
    small = started(ask, axes, first)
    assert (small.large, small.number) == (False, 1)
    assert 4 <= small.population <= 8
    small.spent[False] = 120
    large = started(ask, axes, small)
    assert (large.large, large.population, large.number) == (True, 16, 2)
    large.spent[True] += 400
    assert not started(ask, axes, large).large


def test_an_inactive_parameter_keeps_a_coordinate() -> None:
    parameters = {**MIXED, "momentum": {"type": "float", "min": 0.0, "max": 1.0, "when": {"kind": "a"}}}
    made = search(parameters, population=6)
    history = play(made, mixed_loss, 60)
    assert all(each.assignment in search_space(made) for each in history)
    assert {len(each.suggestion.info["point"]) for each in history} == {6}  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [{"kind": MIXED["kind"]}, {"flag": MIXED["flag"], "kind": MIXED["kind"]}])
def test_a_space_of_categories_only_is_refused_and_an_alternative_named(parameters: Any) -> None:
    (problem,) = check_algorithm(search(parameters))
    assert problem.where == "parameters"
    assert "tpe and gp do without" in str(problem)


def test_the_axes_of_a_space() -> None:
    axes = Axes(search_space(search({**MIXED, "one": {"type": "int", "min": 3, "max": 3}})))
    names = list(axes.space.parameters)
    assert [names[place] for place in axes.ordered] == ["x0", "x1", "x2", "x3", "layers"]
    assert [names[at] for at in axes.positions("unordered")] == ["kind", "flag"]
    assert [names[at] for at in axes.positions("constant")] == ["one"]


def test_trials_of_others_are_not_suggested_again() -> None:
    made = search({"layers": MIXED["layers"], "kind": MIXED["kind"]})
    others = [Suggestion(index, {"layers": 1 + index, "kind": "a"}) for index in range(9)]
    history = History(tuple(trial(each, State.SUCCEEDED, "loss", 0.0) for each in others))
    fresh = suggest(made, history, 30)
    assert len(fresh) == 18
    assert all(each.assignment["kind"] != "a" for each in fresh)


def test_it_begins_at_the_best_of_earlier_experiments() -> None:
    made = search(REALS, sigma=0.02)
    points = [Suggestion(index, {f"x{i}": value for i in range(4)}) for index, value in enumerate((0.2, 0.9, 0.5))]
    values = zip(points, (1.0, 0.1, 5.0), strict=True)
    earlier = History(tuple(trial(each, State.SUCCEEDED, "loss", value) for each, value in values))
    fresh = suggest(made, History(), 20, earlier=earlier)
    middle = np.mean([[float(str(x)) for x in each.assignment.values()] for each in fresh], axis=0)
    assert middle == pytest.approx([0.9] * 4, abs=0.02)  # 4 sigma
