"""OTMANN: by hand, against the linear programme, and what makes it a pseudo-distance."""

import itertools
import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from networks import grown, relabelled
from scipy.optimize import linprog

from katib_flow.models import Topology
from katib_flow.nas.distances.otmann import Label, Network, distances, mislabelled, network_of, shares

NU = (0.1, 0.8)


def chain(*operations: tuple[str, dict[str, Any]], shape: tuple[int, int, int] = (1, 1, 1), classes: int = 10) -> Any:
    edges = [
        {"id": f"{at}", "src": f"v{at}", "dst": f"v{at + 1}", "op": op, "params": params}
        for at, (op, params) in enumerate(operations)
    ]
    graph = {"inputs": ["v0"], "output": f"v{len(edges)}", "edges": edges}
    graph["vertices"] = {edge["dst"]: "add" for edge in edges}
    data = {"input": {"shape": shape}, "output": {"classes": classes}, "graphs": {"net": graph}}
    return network_of(Topology.parse(data))


def apart(one: Network, other: Network, nu: float = 0.5) -> float:
    return float(distances([one], [other], [nu])[0, 0, 0])


def dense(units: int) -> Any:
    return chain(("flatten", {}), ("dense", {"features": units}), classes=units)


def test_dense_layers_of_ten_and_twenty_units_by_hand():
    """Masses (1, 10, 1) and (2, 20, 2) in one place: what cannot be matched is 1 + 10 + 1."""
    ten, twenty = dense(10), dense(20)
    np.testing.assert_allclose(sorted(ten.masses), [1, 1, 10])
    np.testing.assert_allclose(sorted(twenty.masses), [2, 2, 20])
    assert apart(ten, twenty) == pytest.approx(12)
    assert shares(distances([ten], [twenty], [0.5]), [ten], [twenty])[0, 0, 0] == pytest.approx(12 / 36)


def test_networks_without_a_layer_are_not_apart():
    end: Any = ("head", {"classes": 10})
    one, other = chain(end, shape=(4, 8, 8)), chain(("act", {}), end, shape=(4, 8, 8))
    assert one.mass == other.mass == 0
    assert not shares(distances([one], [other], NU), [one], [other]).any()


@pytest.mark.parametrize(("kernels", "share"), [((3, 5), 0.2), ((5, 7), 0.2), ((3, 7), math.sqrt(8) / 10)])
def test_convolutions_of_other_kernels_are_a_share_of_their_mass_apart(kernels, share):
    end: Any = ("head", {"classes": 10})
    one, other = (chain(("conv", {"c": 6, "k": k}), end, shape=(4, 8, 8)) for k in kernels)
    assert apart(one, other) == pytest.approx(share * 24)


def test_a_path_through_one_layer_more_is_a_structural_cost_of_nu():
    """By hand: with a pooling of mass 4 more, the input is one further from the output in all ways, 1/2 in the mean."""
    end: Any = ("head", {"classes": 10})
    conv: Any = ("conv", {"c": 4})
    one, other = chain(conv, end, shape=(4, 8, 8)), chain(conv, ("max3", {}), end, shape=(4, 8, 8))
    matched = 16 + 3 * 1.6
    unmatched = 4 + 3 * 0.1 * 4  # the pooling, and what the ends and the decision weigh more
    for nu in (0.1, 0.4):
        assert apart(one, other, nu) == pytest.approx(unmatched + matched * nu / 2)


def test_the_lengths_of_paths_by_hand():
    edges = [("a", "x", "1", "conv3"), ("b", "1", "2", "conv3"), ("c", "1", "2", "skip"), ("d", "2", "y", "head")]
    made = [dict(zip(("id", "src", "dst", "op"), each, strict=True)) for each in edges]
    made[-1]["params"] = {"classes": 10}  # type: ignore[assignment]
    graph = {"vertices": dict.fromkeys("12y", "add"), "edges": made}
    network = network_of(
        Topology.parse({"input": {"shape": [4, 8, 8]}, "output": {"classes": 10}, "graphs": {"net": graph}})
    )
    assert [label.kind for label in network.labels] == ["input", "conv", "conv", "decision", "output"]
    from_input = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (2, 3, 2.5), (3, 4, 3.5)]
    to_output = [(3, 4, 3.5), (2, 3, 2.5), (2, 2, 2), (1, 1, 1), (0, 0, 0)]
    np.testing.assert_allclose(network.paths, np.hstack([from_input, to_output]))


def test_decision_layers_share_a_tenth_of_the_mass():
    edges = [("a", "x", "1", "conv3", {}), *((name, "1", "y", "head", {"classes": 10}) for name in "bc")]
    made = [dict(zip(("id", "src", "dst", "op", "params"), each, strict=True)) for each in edges]
    graph = {"vertices": dict.fromkeys("1y", "add"), "edges": made}
    network = network_of(
        Topology.parse({"input": {"shape": [4, 8, 8]}, "output": {"classes": 10}, "graphs": {"net": graph}})
    )
    by_kind = [(label.kind, mass) for label, mass in zip(network.labels, network.masses, strict=True)]
    assert by_kind == [("input", 1.6), ("conv", 16), ("decision", 0.8), ("decision", 0.8), ("output", 1.6)]


@lru_cache
def networks() -> tuple[Network, ...]:
    return tuple(network_of(topology) for topology in grown(60))


def test_it_is_a_pseudo_distance_on_random_networks():
    made = networks()
    for d in distances(made, made, NU):
        scale = d.max()
        assert scale > 0
        assert np.abs(np.diag(d)).max() < 1e-7 * scale
        assert np.abs(d - d.T).max() < 1e-7 * scale
        assert all((d <= d[:, [k]] + d[[k], :] + 1e-7 * scale).all() for k in range(len(made)))


def test_it_tells_networks_apart():
    d = distances(networks(), networks(), [0.5])[0]
    assert (d[~np.eye(len(d), dtype=bool)] > 1e-6).mean() > 0.95


def test_names_and_the_order_of_edges_do_not_matter():
    for number, topology in enumerate(grown(12)):
        other = network_of(relabelled(topology, number))
        assert apart(network_of(topology), other) == pytest.approx(0, abs=1e-6 * other.mass)


def by_linear_programme(one: Network, other: Network, nu: float) -> float:
    """Equation 3 as it stands, with a dummy layer on each side."""
    cost = np.array([[mislabelled(a, b) for b in other.labels] for a in one.labels])
    cost = cost + nu * np.abs(one.paths[:, None] - other.paths[None]).mean(axis=2)
    cost = np.pad(cost, ((0, 1), (0, 1)), constant_values=1.0)
    cost[-1, -1] = 0.0
    supply, demand = np.append(one.masses, other.mass), np.append(other.masses, one.mass)
    rows = np.vstack([np.kron(np.eye(len(supply)), np.ones(len(demand))), np.tile(np.eye(len(demand)), len(supply))])
    bounds = [(0, None if math.isfinite(each) else 0) for each in cost.ravel()]
    prices = np.where(np.isfinite(cost), cost, 0.0).ravel()
    solved = linprog(prices, A_eq=rows, b_eq=np.concatenate([supply, demand]), bounds=bounds, method="highs")
    return float(solved.fun)


def test_it_is_the_optimum_of_the_linear_programme_of_the_paper():
    some = networks()[::5]
    for one, other in itertools.pairwise(some):
        for nu in NU:
            assert apart(one, other, nu) == pytest.approx(by_linear_programme(one, other, nu), rel=1e-6, abs=1e-6)


def test_labels_are_a_distance_of_their_own():
    labels = [Label("conv", family, k) for family in ("plain", "separable", "dilated") for k in (1, 3, 5, 7)]
    labels += [Label("pool", kind, k) for kind in ("max", "avg") for k in (2, 3, 5)]
    for a, b, c in itertools.product(labels, repeat=3):
        assert mislabelled(a, c) <= mislabelled(a, b) + mislabelled(b, c) + 1e-12
    assert mislabelled(Label("pool", "max", 3), Label("pool", "avg", 3)) == 0.25
    assert mislabelled(Label("conv", "plain", 3), Label("conv", "separable", 3)) == pytest.approx(0.1)
    assert mislabelled(Label("conv", "plain", 3), Label("conv", "separable", 5)) == pytest.approx(0.9 * 0.2 + 0.1)
    assert mislabelled(labels[0], Label("pool", "max", 3)) == math.inf
