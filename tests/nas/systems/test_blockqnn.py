"""BlockQNN: the reward and the schedule of the paper, replay, and blocks that get better as chance decides less."""

import math
from itertools import pairwise

import numpy as np
import pytest
from landscape import ended, loss, play, search, shuffled

from katib_flow.algorithms.registry import Ask, find_algorithm
from katib_flow.history import History, Suggestion
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.nas.policy import Batch
from katib_flow.nas.systems.blockqnn import BlockQnnSettings, ReplayLearner, cost, rewards
from katib_flow.spaces import architectures, search_space

PHASES = [[1.0, 8], [0.7, 6], [0.4, 6], [0.1, 6]]


def ask(made, history=None):
    algorithm = find_algorithm("blockqnn")
    assert algorithm is not None
    return Ask(made, history or History(), range(0), algorithm.settings_of(made))


def network(made, position):
    space = architectures(made)
    assert space is not None
    return space.topology(search_space(made).nth(position)).to_dict()


def test_networks_get_better_as_chance_decides_less():
    losses = np.array([in_phases(seed) for seed in range(2)])
    means = [float(losses[:, first:after].mean()) for first, after in pairwise((0, 64, 112, 160, 208))]
    assert all(later < earlier for earlier, later in pairwise(means))
    assert means[-1] < means[0] - 4 * losses[:, :64].std() / np.sqrt(96)


def in_phases(seed):
    made = search("blockqnn", seed, schedule=PHASES, batch=8, flops=0.0, density=0.0)
    return [loss(trial.assignment) for trial in play(made, 208, 8)]


def test_the_schedule_counts_batches_and_its_last_stage_goes_on():
    learner, made = ReplayLearner(), search("blockqnn", schedule=[[1.0, 2], [0.5, 1], [0.1, 1]], replay=0)
    known, epsilons = learner.begin(ask(made)), []
    for number in range(6):
        epsilons.append(known.table.epsilon)
        known = learner.learn(ask(made), known, Batch(((0, 0, 0, 0, 0, 0),), (1.0,)), number)
    assert epsilons == [1.0, 1.0, 0.5, 0.1, 0.1, 0.1]


def test_the_schedule_of_the_paper_has_178_iterations():
    stages = BlockQnnSettings.model_validate({"preset": "paper"}).schedule
    assert sum(count for _, count in stages) == 178
    assert [epsilon for epsilon, _ in stages] == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_of_two_networks_as_accurate_the_reward_differs_by_the_logarithm_of_their_costs():
    made = search("blockqnn", flops=2.0, density=0.0)
    positions = (0, 4095)
    trials = [
        ended(Suggestion(i, search_space(made).nth(at), topology=network(made, at)), 0.25)
        for i, at in enumerate(positions)
    ]
    first, second = rewards(ask(made, History(tuple(trials))), np.array([[0.25], [0.25]]), [0, 1])
    flops = [Topology.parse(network(made, at)).flops for at in positions]
    assert flops[0] != flops[1]
    assert first - second == pytest.approx(2.0 * math.log(flops[1] / flops[0]), rel=1e-12)
    assert first == pytest.approx(100 * -0.25 - 2.0 * math.log(flops[0]))


def test_density_is_edges_by_vertices():
    made = search("blockqnn")
    topology = network(made, 0)  # twice a cell of 6 edges on 4 vertices; stem, reduction, head, and two ways into cells
    settings = BlockQnnSettings(flops=0.0, density=3.0)
    assert cost(settings, topology) == pytest.approx(3.0 * math.log((2 * 6 + 5) / (2 * 4 + 3)))


def test_the_cost_is_that_of_flops_and_density_together_and_none_without_a_network():
    made = search("blockqnn")
    flops = Topology.parse(network(made, 0)).flops
    expected = math.log(flops) + math.log(17 / 11)
    assert cost(BlockQnnSettings(flops=1.0, density=1.0), network(made, 0)) == pytest.approx(expected)
    assert cost(BlockQnnSettings(), None) == 0.0


@pytest.mark.parametrize("shaping", ["even", "none"])
def test_every_decision_has_an_even_share_of_the_reward_where_the_settings_say_so(shaping):
    """Equation 3 backwards from the last decision, which has all of the reward, all values being 0 at first."""
    made, learner = search("blockqnn", shaping=shaping, rate=0.5, replay=0), ReplayLearner()
    lesson = Batch(((0, 1, 2, 3, 0, 1), (1, 1, 2, 3, 0, 1)), (1.0, 3.0))
    known = learner.learn(ask(made), learner.begin(ask(made)), lesson, 0)
    reward, value = 3.0 - 1.0, 0.5 * (3.0 - 1.0)
    for _ in range(5):
        value = 0.5 * ((reward / 6 if shaping == "even" else 0.0) + value)
    assert known.table.values[(0,)][1] == pytest.approx(value)


def test_what_is_kept_goes_on_where_it_was():
    made, learner = search("blockqnn", schedule=[[1.0, 1], [0.25, 1]], replay=4), ReplayLearner()
    known = learner.learn(ask(made), learner.begin(ask(made)), Batch(((0, 1, 2, 3, 0, 1),), (2.0,)), 0)
    again = learner.unpack(ask(made), learner.pack(known))
    assert (again.table.epsilon, again.batches, again.floor, again.trials) == (0.25, 1, 2.0, known.trials)
    assert again.table.values == known.table.values


def test_a_trial_that_failed_has_the_lowest_reward_so_far():
    made = search("blockqnn", flops=0.0, density=0.0)
    trials = [ended(Suggestion(i, search_space(made).nth(i)), value) for i, value in enumerate((0.2, 0.9, None))]
    results = np.array([[0.2], [0.9], [np.nan]])
    assert rewards(ask(made, History(tuple(trials))), results, [0, 2]) == pytest.approx([-20.0, -90.0])


def test_after_a_batch_the_table_learns_again_from_all_trials_so_far():
    lessons = [Batch(((0, 1, 2, 3, 0, 1), (1, 1, 2, 3, 0, 1)), (1.0, 3.0)), Batch(((2, 1, 2, 3, 0, 1),), (2.0,))]
    learner = ReplayLearner()

    def taught(replay):
        made = search("blockqnn", replay=replay, rate=0.5)
        known = learner.begin(ask(made))
        for number, lesson in enumerate(lessons):
            known = learner.learn(ask(made), known, lesson, number)
        return known

    once, again = taught(0), taught(200)
    assert len(again.trials) == 3
    assert again.floor == 1.0
    for token, reward in enumerate((0.0, 2.0, 1.0)):  # from the lowest of the first batch
        # the same five decisions follow each; the best of what follows and an even share of its own reward
        follows = max(again.table.values[(1, token)])
        assert again.table.values[(0,)][token] == pytest.approx(follows + reward / 6, rel=0.15)
        assert again.table.values[(0,)][token] >= once.table.values[(0,)][token]


def test_results_of_others_teach_it_something_else():
    made = search("blockqnn", schedule=[[1.0, 8], [0.0, 1]], batch=8)
    history = play(made, 64, 8)
    expected = [suggestion.assignment for suggestion in suggest(made, history, 8)]
    assert [suggestion.assignment for suggestion in suggest(made, shuffled(history), 8)] != expected
    assert np.mean([loss(assignment) for assignment in expected]) < np.mean(
        [loss(trial.assignment) for trial in history[:32]]
    )
