"""What a choice of every group makes of a supernet: the network that the decisions stand for, and how large it is."""

import itertools

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models.presets import space_of
from katib_flow.nas.relax.chain import normalised
from katib_flow.nas.relax.choice import Bounds, chosen, heaviest, leaning, likeliest
from katib_flow.spec.sections import Architecture

CELL = space_of(Architecture(space="cell", settings={"nodes": 3, "channels": 4, "stages": 1}))
MACRO = space_of(Architecture(space="macro", settings={"layers": 3, "operations": ["conv3", "avg3"]}))
NAMES = ("none", "skip", "conv3", "avg3")


@pytest.mark.parametrize("space", [CELL, MACRO])
def test_a_chosen_network_is_the_one_that_the_decisions_stand_for(space):
    rng = np.random.default_rng(0)
    for supernet in (space.supernet(), normalised(space.supernet())):
        for _ in range(8):
            tokens = [int(rng.integers(space.choices(slot))) for slot in space.slots]
            network = chosen(supernet, dict(zip(space.slots, tokens, strict=True)))
            expected = space.topology(space.decode(tokens))
            assert (network.hash, network.parameters) == (expected.hash, expected.parameters)


def choices(*tokens):
    return [dict(zip(CELL.slots, each, strict=True)) for each in tokens]


def test_different_networks_within_the_bounds_are_taken_in_their_order():
    same, small, large = choices((1, 0, 1), (1, 2, 0), (2, 2, 2))  # skip after skip; one convolution; three
    alike = choices((0, 1, 0))[0]  # a skip alone: the network of the first
    everything = [same, alike, large, small]
    bounds = Bounds(CELL.supernet())
    assert bounds.network(same)[0] == bounds.network(alike)[0]
    assert bounds.first(everything, 3) == [same, large, small]
    _, parameters, flops = bounds.network(small)
    for limits in ({"parameters": parameters}, {"flops": flops}):
        assert Bounds(CELL.supernet(), **limits).first(everything, 3) == [same, small]
        with pytest.raises(KatibFlowError, match=r"max_.*: no network within these bounds among 1 choice"):
            Bounds(CELL.supernet(), **limits).first([large], 3)


def test_sums_come_in_order_each_once():
    weights = [[0.9, 0.5, 0.1], [0.8, 0.75], [0.4, 0.2, 0.15]]
    found = list(heaviest(weights))
    assert sorted(found) == sorted(itertools.product(range(3), range(2), range(3)))
    sums = [sum(of[place] for of, place in zip(weights, places, strict=True)) for places in found]
    assert sums == pytest.approx(sorted(sums, reverse=True))


def test_the_likeliest_choices_come_first_and_of_equals_the_first():
    chances = {"a": [0.2, 0.5, 0.3], "b": [0.5, 0.5]}
    found = list(likeliest({slot: np.log(of).tolist() for slot, of in chances.items()}))
    assert found[:2] == [{"a": 1, "b": 0}, {"a": 1, "b": 1}]
    products = [chances["a"][choice["a"]] * chances["b"][choice["b"]] for choice in found]
    assert products == pytest.approx(sorted(products, reverse=True))
    assert len(found) == 6


def test_a_lean_is_towards_weights_where_they_come_up_less_often_and_never_of_skips():
    assert all(bias[2] == -bias[0] > 0 and bias[0] == bias[1] == bias[3] for bias in leaning(CELL.supernet(), 0.5, 2.5))
    assert {tuple(bias) for bias in leaning(CELL.supernet(), 0.25, 2.5)} == {(0.0,) * 4}
    assert {tuple(bias) for bias in leaning(MACRO.supernet(), 0.5, 2.5)} == {(0.0, 0.0)}
