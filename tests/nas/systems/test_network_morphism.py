"""Network morphism against its paper: the tree of edits, the bound, and what a child inherits."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from grown_networks import network, play, played, search

from katib_flow.history import Kind
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.morphisms import inherited, modify, morphisms
from katib_flow.models.presets import space_of
from katib_flow.nas.distances.edit import network_of
from katib_flow.nas.growth import Candidate, Grown
from katib_flow.nas.morphing import morphism
from katib_flow.nas.systems.network_morphism import NetworkMorphismSettings, lower_bound, search_tree
from katib_flow.spec.sections import Architecture

START = space_of(Architecture(space="chain", settings={"layers": [4, 6]})).initial


def tree(value: Any, seed: int = 0, cost: float = 0.0, **settings: Any) -> Candidate | None:
    """What a search of the tree below one network finds."""
    root = Candidate(START)
    grown = Grown(root, [root], np.array([cost]), [], {START.hash})
    chosen = NetworkMorphismSettings(**settings)

    def bound(candidates: Any) -> Any:
        return np.array([value(each.topology) for each in candidates], dtype=float)

    return search_tree(grown, [(root, cost)], bound, chosen, np.random.default_rng(seed))


def depth(topology: Topology) -> int:
    return len(network_of(topology).widths)


def test_the_tree_is_followed_down_to_what_promises_most():
    found = tree(lambda topology: -depth(topology))
    assert found is not None
    assert depth(found.topology) >= depth(START) + 4
    assert len(found.edits) >= 4
    assert modify(START, found.edits).hash == found.topology.hash


def test_without_a_promise_the_tree_is_cut_the_sooner_the_colder_it_is():
    """At T a child that is worse by d is expanded with probability exp(-d / T)."""

    def edits(worse: float) -> list[int]:
        steps = [0]

        def value(topology: Topology) -> float:
            steps[0] += 1
            return worse

        return [steps[0] for seed in range(4) if tree(value, seed, lowest_temperature=0.3)]

    assert sum(edits(0.1)) > 2 * sum(edits(20.0))


def test_what_is_a_little_worse_is_followed_while_it_is_warm_only():
    """All children are worse by a half: of four, 2.3 stay at the first temperature, and 0.3 at a fifth of it.

    So the tree dies out; were it as warm all the time, it would be followed to the end, for 44 networks of four each.
    """
    looked_at: list[int] = []
    for seed in range(4):
        tree(lambda topology: looked_at.append(1) or 0.5, seed, lowest_temperature=1e-2, neighbours=4)
    assert 50 < len(looked_at) < 300


def test_the_search_ends_at_the_lowest_temperature():
    looked_at: list[int] = []
    tree(lambda topology: looked_at.append(1) or -depth(topology), lowest_temperature=0.85, neighbours=5)
    assert 0 < len(looked_at) <= 2 * 5  # 0.9, and 0.81, at which the last network is expanded


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_promising_root_is_expanded_first_and_what_is_far_worse_than_it_is_not_followed(order):
    """Children are worse than the best root by ten, and better than the other one: three networks are expanded."""
    good, bad = Candidate(START), Candidate(modify(START, [{"edit": "deepen", "edge": "conv1"}] * 3))
    grown = Grown(good, [good, bad], np.zeros(2), [], {good.topology.hash, bad.topology.hash})
    expanded: list[str] = []

    def bound(children: Any) -> Any:
        expanded.append("good" if min(depth(each.topology) for each in children) < depth(bad.topology) else "bad")
        return np.zeros(len(children))

    settings = NetworkMorphismSettings(lowest_temperature=0.85)
    search_tree(grown, [(good, -10.0), (bad, 10.0)][::order], bound, settings, np.random.default_rng(0))
    assert expanded == ["good", "bad"]


def test_what_promises_more_than_all_before_it_is_always_followed():
    expanded: list[list[Any]] = []
    root = Candidate(START)

    def bound(children: Any) -> Any:
        values = np.array([-10.0 * len(child.edits) - number for number, child in enumerate(children)])
        expanded.append([child.edits for child in children])
        return values

    grown = Grown(root, [root], np.zeros(1), [], {START.hash})
    settings = NetworkMorphismSettings(lowest_temperature=0.3, neighbours=4)
    search_tree(grown, [(root, 0.0)], bound, settings, np.random.default_rng(0))
    assert len(expanded) == 12  # 0.9 to the power of 11 is .31
    for before, after in pairwise(expanded):
        assert all(edits[: len(before[-1])] == before[-1] for edits in after)


def test_what_is_found_is_what_promises_most_of_all_that_was_looked_at():
    rng, looked_at = np.random.default_rng(1), dict[str, float]()

    def value(topology: Topology) -> float:
        return looked_at.setdefault(topology.hash, float(rng.normal()))

    found = tree(value, lowest_temperature=0.6)
    assert found is not None
    assert len(looked_at) > 10
    assert found.topology.hash == min(looked_at, key=looked_at.__getitem__)


def test_where_no_morphism_fits_nothing_is_suggested():
    made = search("network-morphism", max_parameters=space_of(Architecture(space="chain")).initial.parameters)
    history = play(made, 3)
    assert len(history) == 1


def test_the_best_of_its_own_trials_is_a_root_however_good_those_of_earlier_experiments_are():
    made, earlier = search("network-morphism", memory=2), played("network-morphism")
    own = play(made, 2, of=lambda topology: 100.0)
    (next_,) = suggest(made, own, 1, earlier=earlier)
    assert next_.parent in (0, 1)


def test_the_bound_is_the_mean_less_some_deviations():
    near, far = modify(START, [{"edit": "widen", "edge": "conv1", "to": 5}]), START
    for _ in range(6):
        far = modify(far, [{"edit": "deepen", "edge": "conv2"}])
    evaluated = [Candidate(START), Candidate(modify(START, [{"edit": "deepen", "edge": "conv1"}]))]
    costs = np.array([-1.0, 1.0])
    values: list[Any] = []
    for confidence in (0.0, 1.0, 2.5):
        settings = NetworkMorphismSettings(confidence=confidence)
        values.append(lower_bound(evaluated, costs, [], settings)([Candidate(near), Candidate(far)]))
    mean, deviation = values[0], values[0] - values[1]
    np.testing.assert_allclose(values[2], mean - 2.5 * deviation)
    assert (deviation > 0).all()
    assert deviation[1] > 1.2 * deviation[0]  # what is far is known less
    assert mean[0] < 0  # what is near the better one is taken to be good


def test_a_network_that_is_being_tried_is_less_uncertain():
    tried = Candidate(modify(START, [{"edit": "deepen", "edge": "conv2"}] * 2))
    known = [Candidate(START), Candidate(modify(START, [{"edit": "widen", "edge": "conv1", "to": 8}]))]
    costs, settings = np.array([-1.0, 1.0]), NetworkMorphismSettings()
    (before,), (after,) = (lower_bound(known, costs, pending, settings)([tried]) for pending in ([], [tried]))
    assert after > before + 0.5


def test_only_morphisms_are_drawn_and_all_four_of_them():
    rng = np.random.default_rng(0)
    drawn = [edit["edit"] for _ in range(60) for edit in morphism(START, rng)]
    assert set(drawn) == {"deepen", "widen", "skip", "concat"}
    assert set(drawn) <= set(morphisms())


def test_children_inherit_and_what_has_no_parent_is_trained_from_scratch():
    for trial in played("network-morphism"):
        topology, suggestion = network(trial.suggestion), trial.suggestion
        if suggestion.index < 2:  # before there was a result
            assert (suggestion.parent, topology.weights, topology.edits) == (None, "fresh", ())
        else:
            assert suggestion.parent is not None
            assert suggestion.origin.kind is Kind.MODIFY
            assert topology.weights == "inherit"
            assert topology.edits


def test_a_child_computes_what_its_parent_does_before_it_is_trained():
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build, set_weights, weights_of

    images = torch.rand(8, 1, 8, 8).double()
    history = played("network-morphism")
    grown = 0
    for trial in history.trials[2:]:
        child = network(trial.suggestion)
        parent = network(history.trials[trial.suggestion.parent or 0].suggestion)
        before = build(parent, seed=trial.index).eval()
        after = build(child, seed=99).eval()
        weights = inherited(parent, weights_of(before), child)
        assert set(weights) == set(after.state_dict())
        set_weights(after, weights)
        with torch.no_grad():
            worst = float((before.double()(images) - after.double()(images)).abs().max())
        assert worst < 1e-5
        grown += child.parameters > parent.parameters
    assert grown >= 7


def test_a_search_of_four_parts_is_that_of_one():
    made = search("network-morphism")
    history = play(made, 4)
    for most in (6, 8, 10):
        history = play(made, most, history=history)
    assert history == played("network-morphism")


def test_the_papers_values_can_be_asked_for():
    assert suggest(search("network-morphism", preset="paper"), played("network-morphism"), 1)
