"""Importance: the decomposition is that of a brute force, and the shares those of functions known in closed form."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import experiment, trial

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, State, Suggestion
from katib_flow.reports.importance import comparable, decomposed, importance, leaves_of
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

pytest.importorskip("sklearn", reason="importance needs scikit-learn, an extra")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999))
def test_the_decomposition_of_a_tree_is_that_of_a_brute_force(seed: int) -> None:
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(seed)
    points = np.round(rng.random((30, 3)), 1)  # thresholds lie at odd multiples of 0.05: a grid of 20 knows all cells
    tree = DecisionTreeRegressor(max_leaf_nodes=8, random_state=0).fit(points, rng.random(30))
    shares = decomposed(*leaves_of(tree.tree_, 3))
    assert shares is not None
    axis = (np.arange(20) + 0.5) / 20
    cube = tree.predict(np.array(list(itertools.product(axis, repeat=3)))).reshape(20, 20, 20)
    cube = cube - cube.mean()
    for j in range(3):
        marginal = cube.mean(axis=tuple(other for other in range(3) if other != j))
        assert shares[0][j] == pytest.approx((marginal**2).mean() / (cube**2).mean(), abs=1e-6)
    for i, j in itertools.combinations(range(3), 2):
        (rest,) = {0, 1, 2} - {i, j}
        both = (cube.mean(axis=rest) ** 2).mean() / (cube**2).mean() - shares[0][i] - shares[0][j]
        assert shares[1][i, j] == pytest.approx(both, abs=1e-6)


def test_a_constant_tree_explains_nothing() -> None:
    assert decomposed(np.zeros((1, 2)), np.ones((1, 2)), np.array([3.0])) is None


def search(parameters: Any) -> Experiment:
    return experiment(parameters=parameters, objective={"metric": "loss", "direction": "minimize"})


def history(made: Experiment, loss: Any, count: int = 600) -> History:
    rng = np.random.default_rng(0)
    drawn = [search_space(made).draw(rng) for _ in range(count)]
    return History(
        tuple(trial(Suggestion(i, each), State.SUCCEEDED, "loss", loss(each)) for i, each in enumerate(drawn))
    )


REALS: Any = {f"x{i}": {"type": "float", "min": -1.0, "max": 1.0} for i in range(4)}


def with_budgets(spec: Experiment, counts: dict[float | None, int]) -> History:
    """Random trials, whose loss is that of the parameter x0, x1 ... of their budget: that of the first is x0."""
    rng = np.random.default_rng(0)
    budgets = [(number, budget) for number, (budget, count) in enumerate(counts.items()) for _ in range(count)]
    draws = [search_space(spec).draw(rng) for _ in budgets]
    return History(
        tuple(
            trial(Suggestion(i, draw, budget=budget), State.SUCCEEDED, "loss", 100.0 * number + draw[f"x{number}"])
            for i, (draw, (number, budget)) in enumerate(zip(draws, budgets, strict=True))
        )
    )


@pytest.mark.parametrize(
    ("counts", "matters", "budget"),
    [
        ({1.0: 300, 3.0: 200, 9.0: 9}, "x1", 3.0),  # nine trials are too few, and 3 is the largest of the others
        ({3.0: 300, 1.0: 200}, "x0", 3.0),
        ({None: 100, 4.0: 60}, "x1", 4.0),
        ({None: 100}, "x0", None),
    ],
)
def test_only_trials_of_the_largest_budget_with_enough_trials_count(
    counts: dict[float | None, int], matters: str, budget: float | None
) -> None:
    shares = importance(search(REALS), with_budgets(search(REALS), counts))
    assert next(iter(shares.shares)) == matters
    assert shares.shares[matters] > 0.9  # of mixed budgets, no parameter would explain that much
    assert shares.budget == budget
    assert shares.trials == next(count for other, count in counts.items() if other == budget)


def test_if_no_budget_has_enough_trials_the_one_with_most_trials_counts() -> None:
    trials = with_budgets(search(REALS), {1.0: 4, 2.0: 6, 4.0: 6, 8.0: 1})
    assert {trial.suggestion.budget for trial in comparable(trials, 10)} == {4.0}
    assert len(comparable(trials, 4)) == 6
    assert {trial.suggestion.budget for trial in comparable(trials, 1)} == {8.0}


def test_the_shares_of_a_sum_and_a_product_are_those_of_the_closed_form() -> None:
    """Of 2 a + b + 2 a b, all even on [-1, 1]: the variances are 4/3, 1/3 and 4/9."""
    made = search(REALS)
    found = importance(made, history(made, lambda x: 2 * x["x0"] + x["x1"] + 2 * x["x0"] * x["x1"], 1500))
    total = 4 / 3 + 1 / 3 + 4 / 9
    assert list(found.shares)[:2] == ["x0", "x1"]
    assert found.shares["x0"] == pytest.approx(4 / 3 / total, abs=0.06)
    assert found.shares["x1"] == pytest.approx(1 / 3 / total, abs=0.04)
    assert found.shares["x2"] < 0.01
    assert found.pairs[0].parameters == ("x0", "x1")
    assert found.pairs[0].share == pytest.approx(4 / 9 / total, abs=0.05)
    assert found.trials == 1500


def test_categories_count_whatever_their_order() -> None:
    """Of a + 1.5 [kind is b], a even on [-1, 1], three kinds: the variances are 1/3 and 2.25 * 2/9 = 1/2."""
    made = search({"a": REALS["x0"], "kind": {"type": "categorical", "values": ["a", "b", "c"]}})
    found = importance(made, history(made, lambda x: x["a"] + 1.5 * (x["kind"] == "b")))
    assert found.shares["kind"] == pytest.approx(0.6, abs=0.05)
    assert found.shares["a"] == pytest.approx(0.4, abs=0.05)


def test_a_conditional_parameter_counts_where_it_is_active() -> None:
    """Of 3 m where kind is b, else 0; m even on [-1, 1]: the variance is 3/2, the mean over kind of m alone 3/4."""
    kind = {"type": "categorical", "values": ["a", "b"]}
    made = search({"kind": kind, "m": {**REALS["x0"], "when": {"kind": "b"}}, "idle": REALS["x1"]})
    found = importance(made, history(made, lambda x: 3 * x.get("m", 0.0)))
    assert found.shares["m"] == pytest.approx(0.5, abs=0.06)
    assert found.pairs[0].parameters == ("kind", "m")
    assert found.pairs[0].share == pytest.approx(0.5, abs=0.08)
    assert found.shares["idle"] < 0.02


def test_scales_are_priors() -> None:
    """Of log10(lr), drawn evenly in its logarithm over 4 decades, and b of the same variance: a half each."""
    lr = {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}
    made = search({"lr": lr, "b": {"type": "float", "min": 0.0, "max": 4.0}})
    found = importance(made, history(made, lambda x: np.log10(x["lr"]) + x["b"]))
    assert found.shares["lr"] == pytest.approx(0.5, abs=0.05)


def test_it_is_the_same_whenever_it_is_asked_and_for_the_objective_asked_for() -> None:
    made = search(REALS)
    trials = history(made, lambda x: x["x0"], 60)
    assert importance(made, trials) == importance(made, History(tuple(reversed(trials.trials))))
    other = made.objective[0].model_copy(update={"metric": "size"})
    with pytest.raises(KatibFlowError, match="found 0 trials with a finite value of 'size', need at least 10"):
        importance(made, trials, other)


def test_too_few_trials_or_all_alike_are_said() -> None:
    made = search(REALS)
    with pytest.raises(KatibFlowError, match="need at least 10"):
        importance(made, history(made, lambda x: x["x0"], 9))
    with pytest.raises(KatibFlowError, match="so there is no variance"):
        importance(made, history(made, lambda x: 1.0, 20))


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 1e308])
def test_the_unit_of_the_objective_does_not_matter(unit: float) -> None:
    made = search(REALS)
    one = importance(made, history(made, lambda x: x["x0"] + x["x1"], 60))
    other = importance(made, history(made, lambda x: unit * (x["x0"] / 2 + x["x1"] / 2), 60))
    assert list(other.shares) == list(one.shares)
    assert other.shares == pytest.approx(one.shares, abs=0.01)


def test_where_no_parameter_varies_none_matters() -> None:
    made = search({"kind": {"type": "categorical", "values": ["a"]}})
    values = iter(range(20))
    with pytest.raises(KatibFlowError, match="no parameter has more than one value"):
        importance(made, history(made, lambda _: float(next(values)), 20))
