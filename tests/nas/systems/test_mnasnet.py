"""Platform-aware search: its reward against the paper's numbers, and that the target moves what is decided on."""

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.history import History, State, Trial
from katib_flow.loop import suggest
from katib_flow.nas.systems.mnasnet import MnasNetSettings, rewards
from katib_flow.spec import Experiment

TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "latency", "direction": "minimize"}]
OPERATIONS = ["conv1", "conv3", "conv5", "sep3"]  # with weights, so that no two decisions make one network
CELL = {"space": "cell", "settings": {"operations": OPERATIONS}}


def reward(accuracy: float, latency: float, **settings: float) -> float:
    (value,) = rewards(MnasNetSettings(**{"target": 10.0, **settings}), np.array([[-accuracy, latency]]), [0])
    return value


def test_on_the_target_the_reward_is_the_accuracy() -> None:
    assert reward(0.7, 10.0) == pytest.approx(0.7)


@pytest.mark.parametrize("latency", [2.0, 10.0, 40.0])
def test_twice_the_latency_is_worth_five_percent_more_accuracy(latency: float) -> None:
    """The paper chooses -0.07 so that a(1 + 5 %)(2l/T)^w is a(l/T)^w, nearly."""
    assert reward(0.7 * 1.05, 2 * latency) == pytest.approx(reward(0.7, latency), rel=1e-3)


def test_a_hard_target_ignores_the_latency_below_it_and_halves_the_reward_at_twice_it() -> None:
    hard = {"below": 0.0, "above": -1.0}
    assert reward(0.7, 1.0, **hard) == reward(0.7, 9.9, **hard) == 0.7
    assert reward(0.7, 20.0, **hard) == pytest.approx(0.35)


@pytest.mark.filterwarnings("error")
def test_a_trial_that_failed_or_has_no_latency_has_reward_nothing() -> None:
    results = np.array([[np.nan, np.nan], [-0.7, np.nan], [-0.7, 0.0], [-0.7, -5.0], [-0.7, 10.0]])
    assert rewards(MnasNetSettings(target=10.0), results, range(5)) == pytest.approx([0, 0, 0, 0, 0.7])
    inverse = MnasNetSettings(target=10.0, below=-1.0)  # of which a negative latency has a power
    assert rewards(inverse, results, range(5)) == pytest.approx([0, 0, 0, 0, 0.7])


@pytest.mark.filterwarnings("error")
def test_where_all_of_the_first_batch_failed_the_target_is_one() -> None:
    results = np.array([[np.nan, np.nan], [np.nan, np.nan], [-0.5, 4.0]])
    (reward,) = rewards(MnasNetSettings(batch=2, above=-0.5), results, [2])
    assert reward == pytest.approx(0.5 / 2)


def test_without_a_target_it_is_the_median_of_the_first_batch() -> None:
    results = np.array([[-0.5, 4.0], [-0.5, 6.0], [-0.5, np.nan], [-0.5, 1e9]])
    assert rewards(MnasNetSettings(batch=3), results, [0, 1]) == pytest.approx(
        rewards(MnasNetSettings(batch=3, target=5.0), results, [0, 1])
    )


def latency_decided_on(target: float, seed: int) -> float:
    """Of the last decisions, where each operation takes more time than the one before it, and is a little better."""
    settings = {"target": target, "below": 0.0, "above": -1.0, "batch": 10, "lr": 0.03}
    data = spec(parameters={}, objective=TWO, architecture=CELL, limits={"max_trials": 500})
    made = Experiment.parse({**data, "algorithm": {"name": "mnasnet", "seed": seed, "settings": settings}})
    history, latencies = History(), list[float]()
    for _ in range(6):
        fresh = suggest(made, history, 10)
        latencies = [1.0 + sum(map(OPERATIONS.index, each.assignment.values())) for each in fresh]
        history = history.replaced(
            Trial(each, State.SUCCEEDED, {"accuracy": 0.5 + 0.02 * latency, "latency": latency})
            for each, latency in zip(fresh, latencies, strict=True)
        )
    return float(np.mean(latencies))


def test_what_is_decided_on_moves_with_the_target() -> None:
    pytest.importorskip("torch")
    slow, fast = ([latency_decided_on(target, seed) for seed in range(2)] for target in (30.0, 1.0))
    assert min(slow) > max(fast)


def test_it_needs_an_accuracy_and_a_latency() -> None:
    made = Experiment.parse(spec(architecture="mobile", algorithm="mnasnet"))
    (problem,) = check_algorithm(made)
    assert (problem.where, problem.found) == ("objective", "maximize accuracy")
    assert "then a latency to minimize" in problem.need
