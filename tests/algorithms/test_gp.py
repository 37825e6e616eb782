"""The Gaussian process against closed forms and finite differences, improvement against Monte Carlo, and the search."""

import math
from typing import Any

import numpy as np
import pytest
from kit import experiment, trial
from scipy import special, stats

from katib_flow.algorithms.branches import least_searched, searched_alone
from katib_flow.algorithms.features import Features
from katib_flow.algorithms.gaussian_process import (
    JITTER,
    MEAN_VARIANCE,
    GaussianProcess,
    Objective,
    Priors,
    fitted,
    group_distances,
    matern52,
)
from katib_flow.algorithms.gp import (
    believed_inside,
    expected,
    informative,
    log_improvement,
    standardised,
    winsorised,
)
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

GROUP = np.array([0, 1, 1])
THETA = np.array([-0.4, 0.3, 0.2, -4.0])


def data(count: int = 12, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    inputs = rng.random((count, 3))
    return inputs, standardised(np.sin(4 * inputs[:, 0]) + inputs[:, 1] * inputs[:, 2] + 0.05 * rng.normal(size=count))


def kernel(one: Any, other: Any) -> Any:
    """The covariance, element by element."""
    scales = np.exp(THETA[:-2])[GROUP]

    def of(a: Any, b: Any) -> float:
        r = math.sqrt(5) * math.sqrt(sum(((x - y) / s) ** 2 for x, y, s in zip(a, b, scales, strict=True)))
        return math.exp(THETA[-2]) * (1 + r + r * r / 3) * math.exp(-r) + MEAN_VARIANCE

    return np.array([[of(a, b) for b in other] for a in one])


def test_the_kernel_is_matern_with_five_halves_degrees() -> None:
    for r in (0.01, 0.3, 1.0, 2.5):  # Rasmussen and Williams, equation 4.14, by the Bessel function
        nu, scaled = 2.5, math.sqrt(5) * r
        exact = 2 ** (1 - nu) / special.gamma(nu) * scaled**nu * special.kv(nu, scaled)
        assert matern52(np.array([[r * r]]))[0, 0] == pytest.approx(exact)


def test_the_posterior_is_the_closed_form() -> None:
    inputs, outputs = data()
    points = np.random.default_rng(1).random((5, 3))
    covariance = kernel(inputs, inputs) + (math.exp(THETA[-1]) + JITTER) * np.eye(len(inputs))
    inverse, cross = np.linalg.inv(covariance), kernel(points, inputs)
    mean, variance = GaussianProcess.from_theta(inputs, outputs, GROUP, THETA).posterior(points)
    np.testing.assert_allclose(mean, cross @ inverse @ outputs, rtol=1e-6)
    np.testing.assert_allclose(variance, np.diag(kernel(points, points) - cross @ inverse @ cross.T), rtol=1e-6)


def test_the_objective_is_likelihood_times_prior_and_its_gradient_that_of_finite_differences() -> None:
    inputs, outputs = data()
    priors = Priors.in_dimensions(3)
    objective = Objective(group_distances(inputs, inputs, GROUP), outputs, priors)
    covariance = kernel(inputs, inputs) + (math.exp(THETA[-1]) + JITTER) * np.eye(len(inputs))
    likelihood = stats.multivariate_normal(np.zeros(len(outputs)), covariance).logpdf(outputs)
    means, deviations = priors.moments(len(THETA))
    constant = -0.5 * len(outputs) * math.log(2 * math.pi)
    by_hand = -(likelihood - constant) + 0.5 * np.sum(((THETA - means) / deviations) ** 2)
    assert objective(THETA)[0] == pytest.approx(by_hand)
    step = 1e-5 * np.eye(len(THETA))
    numeric = [(objective(THETA + each)[0] - objective(THETA - each)[0]) / 2e-5 for each in step]
    np.testing.assert_allclose(objective(THETA)[1], numeric, rtol=1e-5, atol=1e-7)


def test_the_fit_finds_which_inputs_matter() -> None:
    rng = np.random.default_rng(2)
    inputs = rng.random((40, 4))
    model = fitted(inputs, standardised(np.sin(7 * inputs[:, 2])), np.arange(4), Priors.in_dimensions(4))
    assert np.argmin(model.theta[:4]) == 2


def test_improvement_is_that_of_a_monte_carlo() -> None:
    normal = np.random.default_rng(3).normal(size=400_000)
    for z in (-2.0, -0.5, 0.0, 1.0, 3.0):
        sample = np.maximum(z - normal, 0)
        error = sample.std() / math.sqrt(len(sample))
        assert abs(math.exp(log_improvement(np.array([z]))[0]) - sample.mean()) < 5 * error  # once in two million


def test_improvement_far_below_the_best_still_has_an_order() -> None:
    z = -np.linspace(0, 1000, 2001)
    values = log_improvement(z)
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) < 0)
    for far in (-12.0, -40.0, -300.0):  # the asymptotic series of pdf(z) + z cdf(z); its next term is 105 / z^6
        series = stats.norm.logpdf(far) - 2 * math.log(-far) + math.log1p(-3 / far**2 + 15 / far**4)
        assert log_improvement(np.array([far]))[0] == pytest.approx(series, abs=1e-4)


def test_bad_losses_are_cut_off_and_good_ones_kept() -> None:
    losses = np.array([1.0, 2.0, 3.0, 4.0, 1e9])
    np.testing.assert_allclose(winsorised(losses), [1, 2, 3, 4, 6])
    assert standardised(np.full(3, 7.0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000])
def test_of_a_long_history_the_best_half_and_a_spread_are_seen(count: int) -> None:
    losses = np.random.default_rng(4).normal(size=count)
    seen = informative(losses)
    assert len(seen) == len(set(seen.tolist())) == min(count, 256)
    assert set(np.argsort(losses)[:128].tolist()) <= set(seen.tolist())
    assert int(np.argmax(losses)) in seen


def search(parameters: Any, seed: int = 1, **settings: Any) -> Experiment:
    algorithm = {"name": "gp", "seed": seed, "settings": settings}
    return experiment(parameters=parameters, limits={"max_trials": 100}, algorithm=algorithm)


def play(made: Experiment, value: Any, trials: int, batch: int = 1) -> History:
    history = History()
    while len(history) < trials:
        fresh = suggest(made, history, min(batch, trials - len(history)))
        history = history.replaced(trial(each, State.SUCCEEDED, "accuracy", value(each.assignment)) for each in fresh)
    return history


UNIT = {"x": {"type": "float", "min": 0, "max": 1}, "y": {"type": "float", "min": 0, "max": 1}}


@pytest.mark.parametrize("batch", [1, 4])
def test_a_smooth_function_is_solved_in_thirty_trials(batch: int) -> None:
    def value(point: Any) -> float:
        return -((point["x"] - 0.31) ** 2) - 2 * (point["y"] - 0.77) ** 2

    best = max(each.observations["accuracy"] for each in play(search(UNIT), value, 30, batch))
    assert best > -1e-3  # the square of a distance of 0.03; thirty random points come as near once in fifteen


def test_points_of_a_batch_keep_away_from_each_other_and_from_what_is_pending() -> None:
    history = play(search(UNIT), lambda point: -((point["x"] - 0.5) ** 2), 12)
    pending = [Trial(each, State.RUNNING) for each in suggest(search(UNIT), history, 2)]
    batch = suggest(search(UNIT), history.replaced(pending), 3)
    points = [tuple(each.assignment.values()) for each in (*(one.suggestion for one in pending), *batch)]
    for number, one in enumerate(points):
        assert all(math.dist(one, other) > 1e-3 for other in points[:number])  # type: ignore[arg-type]


def test_a_region_in_which_trials_fail_is_left() -> None:
    made, history = search(UNIT), History()
    while len(history) < 40:
        (fresh,) = suggest(made, history, 1)
        broken = fresh.assignment["x"] > 0.5  # type: ignore[operator]
        ended = (
            Trial(fresh, State.FAILED) if broken else trial(fresh, State.SUCCEEDED, "accuracy", fresh.assignment["x"])
        )
        history = history.replaced([ended])
    later = history[20:]
    assert sum(each.state is State.FAILED for each in later) < len(later) / 2


def test_the_right_branch_of_a_conditional_space_is_found() -> None:
    parameters = {
        "model": {"type": "categorical", "values": ["a", "b", "c"]},
        "x": {"type": "float", "min": 0, "max": 1, "when": {"model": "a"}},
        "y": {"type": "float", "min": 1e-4, "max": 1, "scale": "log", "when": {"model": ["b", "c"]}},
    }

    def value(point: Any) -> float:
        if point["model"] == "a":
            return 0.5 - (point["x"] - 0.5) ** 2
        return (0.8 if point["model"] == "b" else 0.6) - 0.1 * (math.log10(point["y"]) + 3) ** 2

    histories = [play(search(parameters, seed), value, 35) for seed in range(3)]
    assert all(max(each.observations["accuracy"] for each in history) > 0.79 for history in histories)


def test_a_branch_that_is_finite_is_not_tried_over_and_over() -> None:
    parameters = {
        "model": {"type": "categorical", "values": ["a", "b"]},
        "k": {"type": "int", "min": 1, "max": 3, "when": {"model": "a"}},
        "x": {"type": "float", "min": 0, "max": 1, "when": {"model": "b"}},
    }
    history = play(search(parameters), lambda point: 1.0 if point["model"] == "a" else point["x"] / 2, 25)
    assert sum(each.assignment["model"] == "a" for each in history) == 3


def test_a_history_longer_than_the_model_sees_is_answered() -> None:
    rng = np.random.default_rng(5)
    suggestions = [Suggestion(index, {"x": float(rng.random()), "y": float(rng.random())}) for index in range(400)]
    history = History(tuple(trial(each, State.SUCCEEDED, "accuracy", each.assignment["x"]) for each in suggestions))
    (found,) = suggest(search(UNIT), history, 1)
    assert found.assignment["x"] > 0.95  # type: ignore[operator]


THREE_BRANCHES = {
    "model": {"type": "categorical", "values": ["a", "b", "c"]},
    "x": {"type": "float", "min": 0, "max": 1, "when": {"model": "a"}},
    "y": {"type": "float", "min": 0, "max": 1, "when": {"model": "b"}},
    "z": {"type": "float", "min": 0, "max": 1, "when": {"model": "c"}},
}


def tried(points: list[dict[str, Any]], values: list[float]) -> History:
    return History(
        tuple(
            trial(Suggestion(index, point), State.SUCCEEDED, "accuracy", value)
            for index, (point, value) in enumerate(zip(points, values, strict=True))
        )
    )


def test_every_other_suggestion_is_for_the_branch_that_was_searched_least() -> None:
    points = [{"model": "a", "x": (k + 0.5) / 16} for k in range(16)]
    points += [{"model": "b", "y": (k + 0.5) / 6} for k in range(6)] + [{"model": "c", "z": k / 6} for k in range(7)]
    values = [1.0 - (k / 16 - 0.5) ** 2 if point["model"] == "a" else -5.0 for k, point in enumerate(points)]
    history, asked = tried(points, values), search(THREE_BRANCHES)
    models = [suggest(asked, history, 1, start=index)[0].assignment["model"] for index in range(30, 36)]
    assert models == ["a", "b", "a", "b", "a", "b"]


def test_a_branch_is_searched_where_it_improves_on_its_own_trials() -> None:
    points = [{"model": "a", "x": k / 8} for k in range(9)] + [{"model": "b", "y": k / 6} for k in range(7)]
    points += [{"model": "c", "z": k / 8} for k in range(9)]
    values = [{"a": 5.0, "b": 1 - (point.get("y", 0) - 0.4) ** 2, "c": -5.0}[point["model"]] for point in points]
    (suggestion,) = suggest(search(THREE_BRANCHES), tried(points, values), 1, start=31)
    assert suggestion.assignment["model"] == "b"
    assert suggestion.assignment["y"] == pytest.approx(0.4, abs=0.05)


def share_alone(parameters: dict[str, Any]) -> float:
    features = Features(search_space(search(parameters)))
    return sum(searched_alone(features, index) for index in range(1000)) / 1000


def test_branches_are_searched_alone_the_less_the_more_parameters_they_share() -> None:
    shared = {f"s{k}": {"type": "float", "min": 0, "max": 1} for k in range(6)}
    assert share_alone(shared) == 0
    assert share_alone(THREE_BRANCHES) == pytest.approx(1 / 2, abs=0.002)  # of two active parameters one depends
    assert share_alone({**THREE_BRANCHES, **shared}) == pytest.approx(1 / 8, abs=0.002)
    many = {
        "model": {"type": "categorical", "values": [f"m{k}" for k in range(12)]},
        **{f"x{k}": {"type": "float", "min": 0, "max": 1, "when": {"model": f"m{k}"}} for k in range(12)},
    }
    assert share_alone(many) == pytest.approx(1 / 4, abs=0.002)  # twice six branches, half as often


def test_a_branch_is_searched_the_more_the_more_parameters_it_has() -> None:
    parameters = {
        "model": {"type": "categorical", "values": ["a", "b"]},
        "x": {"type": "float", "min": 0, "max": 1, "when": {"model": "a"}},
        **{f"y{k}": {"type": "float", "min": 0, "max": 1, "when": {"model": "b"}} for k in range(3)},
    }
    space = search_space(search(parameters))
    features = Features(space)

    def least(of_a: int, of_b: int) -> set[str]:
        """The parameters that are active in the branch that was searched least."""
        points = [{"model": "a", "x": 0.5}] * of_a + [{"model": "b", "y0": 0.5, "y1": 0.5, "y2": 0.5}] * of_b
        branch = least_searched(features, np.array([space.encode(point) for point in points]))
        return {name for name, inactive in zip(space.parameters, branch, strict=True) if not inactive} - {"model"}

    # of a two parameters are active, of b four: with one more, three trials of a weigh as much as five of b
    assert least(3, 4) == {"y0", "y1", "y2"}
    assert least(3, 6) == {"x"}


def test_a_hollow_is_found_in_the_branch_that_is_worse_nearly_everywhere() -> None:
    parameters = {
        "model": {"type": "categorical", "values": ["flat", "deep"]},
        "x": {"type": "float", "min": 0, "max": 1, "when": {"model": "flat"}},
        **{f"y{k}": {"type": "float", "min": 0, "max": 1, "when": {"model": "deep"}} for k in range(3)},
    }

    def value(point: Any) -> float:
        if point["model"] == "flat":
            return 0.6 - 0.1 * (point["x"] - 0.4) ** 2
        return math.exp(-4 * sum((point[f"y{k}"] - at) ** 2 for k, at in enumerate((0.8, 0.2, 0.7))))

    histories = [play(search(parameters, seed), value, 45) for seed in range(3)]
    assert all(max(one.observations["accuracy"] for one in history) > 0.95 for history in histories)


def model_of_noise() -> GaussianProcess:
    inputs, outputs = data(20)
    return GaussianProcess.from_theta(inputs, outputs, GROUP, THETA)


def test_improvement_is_less_where_another_noisy_loss_teaches_little() -> None:
    model, points = model_of_noise(), np.vstack([data(20)[0][:4], np.random.default_rng(4).random((4, 3))])
    mean, variance = model.posterior(points)
    lowest = model.posterior(model.inputs)[0].min()
    normal = np.random.default_rng(6).normal(size=400_000)
    for row, value in enumerate(expected(model, lambda units: units, augmented=True)(points)):
        drawn = mean[row] + math.sqrt(variance[row]) * normal
        improvement = np.maximum(lowest - drawn, 0.0).mean()
        noise = math.exp(THETA[-1])
        factor = 1 - math.sqrt(noise) / math.sqrt(variance[row] + noise)  # Huang et al.
        assert math.exp(value) == pytest.approx(improvement * factor, rel=0.05, abs=1e-5)


def test_a_point_that_is_known_up_to_noise_has_a_finite_value() -> None:
    inputs, outputs = data(20)
    often = GaussianProcess.from_theta(np.repeat(inputs, 20, axis=0), np.repeat(outputs, 20), GROUP, THETA)
    assert np.isfinite(expected(often, lambda units: units, augmented=True)(inputs)).all()


def test_the_belief_is_a_beta_density_that_fades_with_the_number_of_trials() -> None:
    features = Features(search_space(search(UNIT)))
    points = np.array([[0.5, 0.5], [0.3, 0.9], [0.2, 0.5]])
    densities = stats.beta(2, 2).logpdf(points) - stats.beta(2, 2).logpdf(0.5)
    for trials in (8, 100):
        value = believed_inside(lambda units: np.zeros(len(units)), features, trials)(points)
        np.testing.assert_allclose(value, 4 / trials * densities.sum(axis=1), atol=1e-12)


def test_the_belief_says_nothing_of_categories_and_inactive_parameters_and_little_of_bounds() -> None:
    features = Features(search_space(search(THREE_BRANCHES)))
    value = believed_inside(lambda units: units[:, 1], features, 1)  # of x, which is active in branch a alone
    points = features.snap(np.array([[0.1, 0.5, 0.0, 0.0], [0.1, 1.0, 0.5, 0.5]]))
    np.testing.assert_allclose(value(points), [0.5, 1.0 + 4 * math.log(0.1)])


def test_early_trials_leave_the_corners() -> None:
    """In six dimensions, nearly all of what a model is uncertain about lies at the bounds."""
    cube = {f"x{number}": {"type": "float", "min": 0, "max": 1} for number in range(6)}
    accuracies = iter(np.random.default_rng(7).random(20))
    history = play(search(cube), lambda point: float(next(accuracies)), 20)
    positions = np.array([list(trial.assignment.values()) for trial in history[8:]], dtype=float)
    assert np.mean((positions < 0.02) | (positions > 0.98)) < 0.1
