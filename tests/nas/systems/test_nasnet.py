"""The controller of cells: its space, its rule, its reward, and whether it beats chance."""

import numpy as np
import pytest
from kit import spec
from landscape import best, every_loss, play, search

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.models.presets import space_of
from katib_flow.nas.policy import ProximalSettings
from katib_flow.nas.policy import objective_rewards as rewards
from katib_flow.nas.systems.nasnet import LEARNER
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

PAPER = Architecture(space="pairs", settings={"nodes": 5, "merge": "slot"})


def test_both_cells_are_decided_on_in_five_decisions_a_node() -> None:
    space = space_of(PAPER)
    assert len(space.slots) == 2 * 5 * 5
    node = [slot for slot in space.slots if slot.startswith("normal.3.")]
    assert {slot.rpartition(".")[2] for slot in node} == {"in0", "op0", "in1", "op1", "merge"}
    assert [space.choices(f"normal.{number}.in0") for number in range(2, 7)] == [2, 3, 4, 5, 6]


def test_cells_of_any_decisions_give_their_loose_ends_and_a_reduction_halves_maps() -> None:
    space = space_of(PAPER)
    for seed in range(20):
        network = space.topology(space.draw(np.random.default_rng(seed)))
        sizes = {shape[1] for shape in network.shapes.values() if len(shape) == 3}
        assert sizes == {8, 4}


def test_the_reward_is_the_objective_and_a_failure_has_the_lowest_there_was() -> None:
    results = np.array([[-0.9], [np.nan], [-0.4], [-0.7]])  # losses of an accuracy
    assert rewards(ProximalSettings(), results, [0, 1, 3, 1]) == [0.9, 0.4, 0.7, 0.4]
    assert rewards(ProximalSettings(), results[1:2], [0]) == [0.0]


def test_it_learns_by_proximal_policy_optimisation() -> None:
    controller = pytest.importorskip("katib_flow.nas.controller")
    rule = LEARNER.rule(ProximalSettings(updates=3, clip=0.1))
    assert rule == controller.PPO(3, 0.1)


def test_it_beats_random_search_at_equal_cost() -> None:
    pytest.importorskip("torch")
    losses = every_loss()
    rank = np.arange(1, len(losses) + 1)
    expected = float(np.diff(1 - (1 - rank / len(losses)) ** 100, prepend=0.0) @ losses)
    assert np.mean([best(play(search("nasnet", seed), 100, 5)) for seed in range(2)]) < expected


@pytest.mark.parametrize("sections", [{}, {"architecture": "chain"}])
def test_it_needs_slots(sections: dict[str, str]) -> None:
    made = Experiment.parse(spec(algorithm="nasnet", **sections))
    (problem,) = check_algorithm(made)
    assert "a space with slots to search" in problem.need
