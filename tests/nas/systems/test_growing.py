"""What the systems have in common that grow networks from one to start from, by a model of those that were tried."""

import numpy as np
import pytest
from grown_networks import ended, loss, network, plain, play, played, search
from kit import spec
from landscape import shuffled

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.history import History, State, Trial
from katib_flow.loop import suggest
from katib_flow.models.presets import space_of
from katib_flow.nas.growth import most_telling
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

every_system = pytest.mark.parametrize("name", ["nasbot", "network-morphism"])


@every_system
def test_it_begins_with_the_network_to_start_from_and_tries_none_twice(name):
    history = played(name)
    start = space_of(Architecture(space="chain")).initial
    hashes = [network(trial.suggestion).hash for trial in history]
    assert hashes[0] == start.hash
    assert len(set(hashes)) == len(hashes) == 10


@every_system
def test_results_of_others_lead_to_other_networks(name):
    made, history = search(name), played(name)
    hashes = [{network(each).hash for each in suggest(made, h, 3)} for h in (history, shuffled(history))]
    assert hashes[0] != hashes[1]


@every_system
def test_a_result_that_is_far_better_is_followed(name):
    """Of trials that are otherwise alike, what is suggested descends from the one that stands out, mostly."""
    made = search(name)
    history = History(tuple(ended(trial.suggestion, 0.0 if trial.index == 7 else 5.0) for trial in played(name)))
    suggestions = [suggest(made, history, 1, start=10 + number)[0] for number in range(6)]
    assert sum(7 in each.origin.parents for each in suggestions) >= 4


@every_system
def test_trials_that_run_are_reckoned_with(name):
    made, history = search(name), played(name)
    (first,) = suggest(made, history, 1)
    running = history.replaced([Trial(first, State.RUNNING)])
    (second,) = suggest(made, running, 1)
    assert network(second).hash != network(first).hash
    together = suggest(made, history, 2)
    assert plain(together) == plain([first, second])


@every_system
def test_failed_trials_are_survived_and_not_tried_again(name):
    made = search(name)
    history = History()
    while len(history) < 8:
        fresh = suggest(made, history, 2)
        assert len(fresh) == 2
        history = history.replaced(ended(each, None if each.index % 3 else loss(network(each))) for each in fresh)
    hashes = [network(trial.suggestion).hash for trial in history]
    assert len(set(hashes)) == 8
    failed = History(tuple(Trial(trial.suggestion, State.FAILED) for trial in history))
    assert {network(each).hash for each in suggest(made, failed, 2)}.isdisjoint(hashes)


@every_system
def test_the_history_in_another_order_gives_the_same(name):
    made, history = search(name), played(name)
    assert plain(suggest(made, History(tuple(reversed(history.trials))), 2)) == plain(suggest(made, history, 2))


@every_system
def test_no_network_has_more_weights_than_allowed(name):
    assert max(network(trial.suggestion).parameters for trial in play(search(name, max_parameters=1500), 8)) <= 1500


def test_where_no_edit_gives_a_network_that_is_allowed_it_ends():
    """Every morphism adds weights."""
    start = space_of(Architecture(space="chain")).initial
    assert len(play(search("network-morphism", max_parameters=start.parameters), 5)) == 1


@every_system
def test_fewer_weights_than_the_network_to_start_from_has_are_refused(name):
    (problem,) = check_algorithm(search(name, max_parameters=10))
    start = space_of(Architecture(space="chain")).initial
    assert str(problem) == (
        "algorithm.settings.max_parameters: found 10, "
        f"need at least {start.parameters}, the number of weights of the initial network"
    )


@every_system
def test_other_parameters_do_not_follow_from_the_network(name):
    """They are drawn after it: not from the numbers that decided on it."""
    made = Experiment.parse({**search(name).to_dict(), "parameters": {"lr": {"type": "float", "min": 0.0, "max": 1.0}}})
    (one,), (other,) = (suggest(made, history, 1, start=12) for history in (played(name), History()))
    assert one.assignment["lr"] != other.assignment["lr"]


@every_system
@pytest.mark.parametrize("space", ["cell", "macro"])
def test_a_space_with_slots_is_refused(name, space):
    made = Experiment.parse(spec(architecture=space, algorithm=name, limits={"max_trials": 9}))
    (problem,) = check_algorithm(made)
    assert (problem.where, problem.found) == ("architecture.space", space)
    assert "such as chain" in problem.need


@every_system
@pytest.mark.parametrize(
    ("settings", "where"),
    [({"max_parameters": 0}, "max_parameters"), ({"memory": 1}, "memory"), ({"preset": "large"}, "preset")],
)
def test_settings_out_of_range_are_refused(name, settings, where):
    made = Experiment.parse(spec(architecture="chain", algorithm={"name": name, "settings": settings}))
    assert f"algorithm.settings.{where}" in {problem.where for problem in check_algorithm(made)}


def test_most_telling_are_the_best_half_and_an_even_spread():
    losses = np.array([5.0, 1.0, 4.0, 0.0, 3.0, 2.0, 6.0])
    assert most_telling(losses, 100).tolist() == list(range(7))
    assert most_telling(losses, 4).tolist() == [1, 3, 5, 6]  # 0 and 1; of 2, 3, 4, 5, 6 the ends


@every_system
def test_it_learns_from_the_networks_of_earlier_experiments(name):
    """What they reported moves what is suggested; none of them is taken to be a trial of this experiment."""
    made, history = search(name), played(name)
    earlier = play(search(name, seed=5), 12)
    alone = suggest(made, history, 2)
    taught = suggest(made, history, 2, earlier=earlier)
    assert plain(taught) != plain(alone)
    assert plain(taught) != plain(suggest(made, history, 2, earlier=shuffled(earlier)))
    assert all(parent < len(history) for each in taught for parent in each.origin.parents)


def test_with_earlier_networks_nasbot_needs_no_beginning_and_morphisms_begin_with_their_own():
    start = space_of(Architecture(space="chain")).initial.hash
    (first,) = suggest(search("nasbot"), History(), 1, earlier=play(search("nasbot", seed=5), 12))
    assert network(first).hash != start
    assert first.origin.parents == ()
    (first,) = suggest(search("network-morphism"), History(), 1, earlier=play(search("network-morphism", seed=5), 6))
    assert network(first).hash == start


@every_system
def test_networks_for_other_images_teach_nothing(name):
    made, history = search(name), played(name)
    other = Experiment.parse(
        {**search(name, seed=5).to_dict(), "architecture": {"space": "chain", "settings": {"shape": [3, 8, 8]}}}
    )
    assert plain(suggest(made, history, 1, earlier=play(other, 5))) == plain(suggest(made, history, 1))


def test_a_network_of_this_experiment_is_grown_however_many_better_ones_there_were():
    """Those that the model learns from are the best, and all of these are of the earlier experiment."""
    made = search("network-morphism", memory=2)
    own = History(tuple(ended(trial.suggestion, 9.0 + trial.index) for trial in played("network-morphism", 4)))
    earlier = play(search("network-morphism", seed=5), 8)
    (child,) = suggest(made, own, 1, earlier=earlier)
    assert child.parent in range(4)
