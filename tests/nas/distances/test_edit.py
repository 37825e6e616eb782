"""The edit distance: by hand, against all alignments, and its embedding."""

import itertools
import math

import numpy as np
import pytest
from networks import grown, relabelled

from katib_flow.models import Topology
from katib_flow.models.morphisms import modify
from katib_flow.models.presets import space_of
from katib_flow.nas.distances.edit import (
    Embedding,
    Network,
    distances,
    layer_distances,
    network_of,
    skip_distance,
    squared,
)
from katib_flow.spec.sections import Architecture


def chain(*widths: int) -> Topology:
    return space_of(Architecture(space="chain", settings={"layers": list(widths)})).initial


def apart(one: Topology, other: Topology, weight: float = 1.0) -> float:
    return float(distances([network_of(one)], [network_of(other)], weight)[0, 0])


def test_a_chain_has_the_widths_of_its_layers_and_of_its_classifier():
    assert network_of(chain(4, 6)) == Network((4, 6, 10), ())


def test_one_morphism_each_by_hand():
    start = chain(4, 6, 8)
    assert apart(start, modify(start, [{"edit": "deepen", "edge": "conv1"}])) == 1
    assert apart(start, modify(start, [{"edit": "widen", "edge": "conv2", "to": 8}])) == pytest.approx(2 / 8)
    for kind in ("skip", "concat"):
        skipped = modify(start, [{"edit": kind, "src": "1", "dst": "3"}])
        assert network_of(skipped) == Network((4, 6, 8, 10), ((1, 2),))
        assert apart(start, skipped) == 1
        assert apart(start, skipped, 0.1) == pytest.approx(0.1)
    two = [modify(start, [{"edit": "skip", "src": src, "dst": dst}]) for src, dst in (("1", "3"), ("1.pool", "2"))]
    assert apart(*two) == pytest.approx(1 / (1 + 2))  # from one place, over two layers and over one


def by_all_alignments(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    best = math.inf
    for count in range(min(len(one), len(other)) + 1):
        for here in itertools.combinations(one, count):
            for there in itertools.combinations(other, count):
                changed = sum(abs(a - b) / max(a, b) for a, b in zip(here, there, strict=True))
                best = min(best, changed + len(one) + len(other) - 2 * count)
    return best


def test_the_distance_of_layers_is_the_least_over_all_alignments():
    rng = np.random.default_rng(0)
    drawn = [tuple(int(w) for w in rng.integers(1, 20, rng.integers(0, 6))) for _ in range(14)]
    expected = [[by_all_alignments(a, b) for b in drawn] for a in drawn]
    np.testing.assert_allclose(layer_distances(drawn, drawn), expected)


def test_the_distance_of_skips_is_the_least_over_all_matchings():
    rng = np.random.default_rng(1)
    for _ in range(40):
        one, other = (tuple((int(a), int(b)) for a, b in rng.integers(0, 5, (rng.integers(0, 4), 2))) for _ in range(2))
        few, many = sorted((one, other), key=len)
        costs = [
            sum(
                (abs(a[0] - b[0]) + abs(a[1] - b[1])) / max(max(a[0], b[0]) + max(a[1], b[1]), 1)
                for a, b in zip(few, chosen, strict=True)
            )
            for chosen in itertools.permutations(many, len(few))
        ]
        assert skip_distance(one, other) == pytest.approx(min(costs) + len(many) - len(few))


def test_it_is_symmetric_and_nothing_from_a_network_to_itself():
    made = [network_of(each) for each in grown(40)]
    d = distances(made, made, 0.5)
    np.testing.assert_allclose(d, d.T)
    assert not np.diag(d).any()
    assert d.max() > 2
    mirrored = np.array([[float(distances([a], [b], 0.5)[0, 0]) for b in made[:6]] for a in made[:6]])
    np.testing.assert_allclose(d[:6, :6], mirrored)


def test_of_two_paths_of_as_many_layers_the_one_with_more_work_is_the_network():
    """Whatever the order in which they stand."""
    paths = [("a", "conv1", 4), ("b", "conv3", 9)]
    for order in (paths, paths[::-1]):
        edges = [{"id": f"{v}1", "src": "x", "dst": v, "op": op, "params": {"c": c}} for v, op, c in order]
        edges += [{"id": f"{v}2", "src": v, "dst": "e", "op": "conv1", "params": {"c": 6}} for v, _, _ in order]
        edges.append({"id": "head", "src": "e", "dst": "y", "op": "head", "params": {"classes": 10}})
        graph = {"vertices": dict.fromkeys([*(v for v, _, _ in order), "e", "y"], "add"), "edges": edges}
        data = {"input": {"shape": [1, 8, 8]}, "output": {"classes": 10}, "graphs": {"net": graph}}
        assert network_of(Topology.parse(data)) == Network((9, 6, 10), ((0, 1), (1, 1)))


def test_names_and_the_order_of_edges_do_not_matter():
    for number, topology in enumerate(grown(20)):
        assert network_of(relabelled(topology, number)) == network_of(topology)


def test_the_kernel_of_the_embedding_is_positive_where_that_of_the_distance_is_not():
    """Distances of a star with paths of 1 from its middle: at a scale, exp(-d^2) has negative eigenvalues."""
    star = np.full((6, 6), 2.0)
    star[0], star[:, 0] = 1.0, 1.0
    np.fill_diagonal(star, 0.0)
    assert np.linalg.eigvalsh(np.exp(-0.05 * star**2)).min() < -1e-3
    places = Embedding.drawn(6, np.random.default_rng(0)).positions(star)
    assert np.linalg.eigvalsh(np.exp(-0.05 * squared(places, places))).min() > -1e-8
    made = [network_of(each) for each in grown(60)]
    for seed in range(3):
        d = distances(made, made[:40], 0.5)  # twenty that are no anchors
        places = Embedding.drawn(40, np.random.default_rng(seed)).positions(d)
        assert np.linalg.eigvalsh(np.exp(-squared(places, places))).min() > -1e-8


def test_the_embedding_stretches_no_distance_and_keeps_a_good_part_of_each():
    made = [network_of(each) for each in grown(40)]
    d = distances(made, made, 0.5)
    places = Embedding.drawn(40, np.random.default_rng(0)).positions(d)
    rho, apart_ = np.sqrt(squared(places, places)), d > 1e-9
    assert (rho <= d + 1e-9).all()
    assert (rho[apart_] > d[apart_] / (4 * math.log(40))).mean() > 0.95
    assert np.corrcoef(rho[apart_], d[apart_])[0, 1] > 0.7


def test_one_anchor_is_enough_to_begin_with():
    places = Embedding.drawn(1, np.random.default_rng(0)).positions(np.array([[0.0], [3.0]]))
    np.testing.assert_allclose(squared(places, places), [[0, 9], [9, 0]])
