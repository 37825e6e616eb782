"""NSGA-II: its operators have the papers' distributions, its survivors are the paper's, and it finds known fronts."""

from typing import Any

import numpy as np
import pytest
from kit import experiment
from scipy import stats

from katib_flow import pareto
from katib_flow.algorithms.nsga2 import crossed, mutated, survivors
from katib_flow.history import History, Kind, Origin, State, Suggestion, Trial
from katib_flow.loop import answer, suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

TWO = [{"metric": "f1", "direction": "minimize"}, {"metric": "f2", "direction": "maximize"}]
NONE = np.zeros(1, dtype=bool)


def search(parameters: Any, name: str = "nsga2", **settings: Any) -> Experiment:
    return experiment(objective=TWO, parameters=parameters, algorithm={"name": name, "settings": settings, "seed": 1})


def ended(suggestion: Suggestion, values: tuple[float, float]) -> Trial:
    return Trial(suggestion, State.SUCCEEDED, {"f1": values[0], "f2": values[1]})


def play(made: Experiment, values: Any, most: int, batch: int = 1) -> History:
    history = History()
    while len(history) < most:
        fresh = suggest(made, history, min(batch, most - len(history)))
        history = history.replaced(ended(each, values(each.assignment)) for each in fresh)
    return history


def test_crossover_spreads_children_as_the_paper_says() -> None:
    rng, eta = np.random.default_rng(0), 3.0
    one, other = np.array([0.49]), np.array([0.51])  # far from the bounds
    children = np.array([crossed(one, other, NONE, eta, rng)[0] for _ in range(8000)])
    moved = children[(children != 0.49) & (children != 0.51)]
    spread = np.abs(moved - 0.5) / 0.01  # beta, of which half is below 1 (Deb and Agrawal, 1995, equation 8)

    def cdf(beta: Any) -> Any:
        return np.where(beta <= 1, 0.5 * beta ** (eta + 1), 1 - 0.5 * beta ** -(eta + 1))

    assert stats.kstest(spread, cdf).pvalue > 1e-3
    assert abs((moved > 0.5).mean() - 0.5) < 0.03
    assert 0.45 < len(moved) / 8000 < 0.55


def test_mutation_moves_as_the_paper_says() -> None:
    rng, eta = np.random.default_rng(1), 5.0
    moved = np.array([mutated(np.array([0.5]), NONE, 1.0, eta, rng)[0] for _ in range(8000)]) - 0.5
    rest = 0.5 ** (eta + 1)  # what of the density lies outside the bounds is cut off

    def cdf(step: Any) -> Any:  # of (1 - |step|)^eta, between the bounds
        tail = ((1 - np.abs(step)) ** (eta + 1) - rest) / (1 - rest) / 2
        return np.where(step < 0, tail, 1 - tail)

    assert stats.kstest(moved, cdf).pvalue > 1e-3


@pytest.mark.parametrize("operator", [crossed, mutated])
def test_children_stay_in_the_bounds(operator: Any) -> None:
    rng = np.random.default_rng(2)
    for _ in range(500):
        one, other = rng.choice([0.0, 0.01, 0.5, 1.0], (2, 3))
        kinds = np.array([False, False, True])
        second: Any = other if operator is crossed else kinds
        child = crossed(one, second, kinds, 20.0, rng) if operator is crossed else mutated(one, second, 1.0, 20.0, rng)
        assert (child >= 0).all()
        assert (child <= 1).all()
        if operator is crossed:
            assert child[2] in (one[2], other[2])


def test_survivors_are_whole_fronts_and_of_the_last_the_sparsest() -> None:
    first = [[0.0, 4.0], [4.0, 0.0]]
    second = [[1.0, 5.0], [2.0, 4.5], [2.2, 4.4], [5.0, 1.0]]
    losses = np.array([*second, *first])
    chosen = survivors(losses, 5)
    assert set(chosen[:2]) == {4, 5}
    assert set(chosen[2:]) == {0, 3, 2}  # the ends, and of the two in between the one with more room


def test_children_come_from_the_front_of_those_that_ended() -> None:
    made = search({f"x{i}": {"type": "float", "min": 0.0, "max": 1.0} for i in range(3)}, population=4, mutation=0.0)
    good = [Suggestion(0, {"x0": 0.11, "x1": 0.11, "x2": 0.11}), Suggestion(1, {"x0": 0.13, "x1": 0.12, "x2": 0.12})]
    bad = [Suggestion(2 + i, {"x0": 0.9, "x1": 0.8 + i / 50, "x2": 0.9}) for i in range(9)]
    history = History((
        *(ended(each, (0.0, 1.0)) for each in good),
        *(ended(each, (5.0 + each.index, 0.0)) for each in bad[:6]),
        *(Trial(each, State.FAILED, {}) for each in bad[6:8]),
        Trial(bad[8], State.RUNNING),
    ))  # fmt: skip
    fresh = suggest(made, history, 60)
    near = [each for each in fresh if all(float(str(value)) < 0.4 for value in each.assignment.values())]
    assert len(near) > len(fresh) / 3  # 9/16 are expected, and 1/16 of random draws


def zdt1(assignment: Any) -> tuple[float, float]:
    """Zitzler et al., 2000: the front is f2 = 1 - sqrt(f1), where all but the first are 0."""
    x = [assignment[f"x{i}"] for i in range(4)]
    g = 1 + 9 * sum(x[1:]) / 3
    return x[0], -g * (1 - (x[0] / g) ** 0.5)


def volume(history: History, made: Experiment) -> float:
    return pareto.hypervolume(pareto.losses_of(made, history), np.array([1.0, 2.0]))


def test_it_finds_a_front_that_random_search_does_not() -> None:
    parameters = {f"x{i}": {"type": "float", "min": 0.0, "max": 1.0} for i in range(4)}
    best = 1 + 2 / 3  # the integral of 2 - (1 - sqrt(x)) over [0, 1]
    found = volume(play(search(parameters), zdt1, 400, batch=4), search(parameters))
    drawn = volume(play(search(parameters, "random"), zdt1, 400, batch=4), search(parameters))
    assert best - found < 0.5 * (best - drawn)


def test_it_searches_a_mixed_conditional_space_for_a_front() -> None:
    parameters: Any = {
        "width": {"type": "int", "min": 1, "max": 64, "scale": "log"},
        "kind": {"type": "categorical", "values": ["a", "b", "c"]},
        "drop": {"type": "float", "min": 0.0, "max": 1.0, "when": {"kind": "b"}},
    }

    def values(assignment: Any) -> tuple[float, float]:
        gain = {"a": 0.0, "b": 0.5 - abs(assignment.get("drop", 0) - 0.3), "c": 0.1}[assignment["kind"]]
        return float(assignment["width"]), gain - 1 / assignment["width"]

    made = search(parameters)
    history = play(made, values, 200, batch=4)
    assert len({search_space(made).key(each.assignment) for each in history}) == 200
    front = pareto.front(made, history)
    large = [each.assignment for each in front if int(str(each.assignment["width"])) > 4]
    assert large
    assert all(each["kind"] == "b" and abs(float(str(each["drop"])) - 0.3) < 0.1 for each in large)


def test_parents_may_be_of_earlier_experiments() -> None:
    made = search({f"x{i}": {"type": "float", "min": 0.0, "max": 1.0} for i in range(3)}, population=8)
    points = [Suggestion(i, {f"x{j}": 0.1 + i / 1000 for j in range(3)}) for i in range(8)]
    earlier = History(tuple(ended(each, (each.index, each.index)) for each in points))
    fresh = suggest(made, History(), 12, earlier=earlier)
    assert np.mean([float(str(x)) < 0.3 for each in fresh for x in each.assignment.values()]) > 0.8


LINE = {"x": {"type": "float", "min": 0, "max": 1}, "y": {"type": "float", "min": 0, "max": 1}}


def values(assignment: Any) -> tuple[float, float]:
    return float(assignment["x"]), float(assignment["y"]) - float(assignment["x"])


def test_a_child_names_those_that_it_was_bred_of() -> None:
    """Without mutation a coordinate that did not cross over is its first parent's, and that is about half of them."""
    made = search(LINE, population=6, mutation=0.0)
    history = play(made, values, 30)
    children = [trial for trial in history if trial.index >= 6]
    assert all(trial.suggestion.origin == Origin() for trial in history[:6])
    assert {len(trial.suggestion.origin.parents) for trial in children} == {2}  # of one alone it would be that again
    same = 0
    for child in children:
        parents = [history[index] for index in child.suggestion.origin.parents]
        assert all(parent.index < child.index for parent in parents)
        same += sum(child.assignment[name] == pytest.approx(parents[0].assignment[name]) for name in LINE)
        for name in LINE:  # and one that did cross lies near them: eta is 20
            near = [abs(float(child.assignment[name]) - float(parent.assignment[name])) for parent in parents]
            assert min(near) <= 0.5 * max(0.2, abs(near[0] - near[-1]))
    assert same > len(children) / 2


def test_a_child_without_crossover_has_one_parent() -> None:
    history = play(search(LINE, population=4, crossover=0.0), values, 12)
    assert [len(trial.suggestion.origin.parents) for trial in history] == [0] * 4 + [1] * 8


def test_parents_of_an_earlier_experiment_are_not_named_by_an_index_of_this_one() -> None:
    made = search(LINE, population=6)
    earlier = play(made, values, 8)
    fresh = answer(made, History(), 6, earlier=earlier).suggestions
    assert [each.origin for each in fresh] == [Origin(Kind.MODIFY)] * 6
