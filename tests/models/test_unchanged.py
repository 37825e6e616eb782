"""Weights of edges that are the same in a child and its parent: ``weights: edges``."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (the extra nas)")
import torch

from katib_flow.models import Topology
from katib_flow.models.build import build, set_weights, weights_of
from katib_flow.models.channels import prefix
from katib_flow.models.morphisms import inherited
from katib_flow.models.presets import space_of
from katib_flow.models.weights import Weights
from katib_flow.spec.sections import Architecture

SPACE = space_of(Architecture(space="pairs", settings={"nodes": 2, "channels": 4, "cells": 2}))
PARENT = SPACE.draw(np.random.default_rng(3)) | {
    "normal.2.in0": "0",
    "normal.2.op0": "sep3",
    "normal.2.in1": "1",
    "normal.2.op1": "sep3",
    "normal.3.in0": "1",
    "normal.3.op0": "sep5",
}


def pair(**decisions: Any) -> tuple[Topology, Weights, Topology, Weights]:
    """A parent, its weights, the child of other decisions, and what that takes over."""
    parent = SPACE.topology(PARENT)
    weights = weights_of(build(parent, seed=0))
    changed = {name.replace("_", "."): value for name, value in decisions.items()}
    child = SPACE.topology({**PARENT, **changed}).model_copy(update={"weights": "edges"})
    return parent, weights, child, inherited(parent, weights, child)


def kinds(topology: Topology) -> dict[str, Any]:
    """What each edge does, and on which vertex."""
    return {edge.key: (edge.src, edge.op, dict(edge.params)) for edge in topology.flat.live.edges}


@pytest.mark.parametrize(
    "decisions", [{"normal_2_op0": "sep5"}, {"normal_2_op0": "dil3"}, {"normal_2_in0": "1"}, {"normal_3_in0": "0"}]
)
def test_an_edge_that_is_the_same_has_its_weights_bit_for_bit_and_a_changed_one_has_none(decisions: Any) -> None:
    parent, weights, child, taken = pair(**decisions)
    before, fresh = kinds(parent), list[str]()
    for edge in child.flat.live.edges:
        own = {name for name in weights_of(build(child, seed=1)) if name.startswith(prefix(edge))}
        if before[edge.key] != kinds(child)[edge.key]:
            fresh.append(edge.key)
            assert own
            assert not own & taken.keys()
        elif not edge.key.endswith(("fit0", "fit1", "head")):  # these read a stack, of which channels may be new
            assert own <= taken.keys()
            assert all(np.array_equal(taken[name], weights[name]) for name in own)
    _, node, side = next(iter(decisions)).split("_")
    assert len(fresh) == 4  # of the normal cells
    assert all(key.endswith(f"/{node}.{side[-1]}") for key in fresh)


def test_the_child_builds_with_what_it_takes_over_and_trains() -> None:
    *_, child, taken = pair(normal_2_op0="max3")
    network = build(child, seed=1)
    set_weights(network, taken)
    assert all(np.array_equal(weights_of(network)[name], value) for name, value in taken.items())
    network(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_how_weights_are_inherited_is_no_part_of_the_network() -> None:
    parent, weights, child, taken = pair()
    assert child.hash == parent.hash
    assert taken.keys() == weights.keys()
    assert Topology.parse(child.to_dict()).weights == "edges"
