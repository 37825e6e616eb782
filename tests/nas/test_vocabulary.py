"""Networks as tokens of layers: what is a layer, what is a block, and what is the next level of a width."""

from typing import Any

import pytest

from katib_flow.models import Topology
from katib_flow.models.morphisms import modify
from katib_flow.models.presets import space_of
from katib_flow.nas.vocabulary import Vocabulary
from katib_flow.spec.sections import Architecture

WORDS = Vocabulary((4, 8, 12), (16, 32), (1, 3, 5))


def chain(*layers: int, reductions: Any = (1,)) -> Topology:
    return space_of(Architecture(space="chain", settings={"layers": layers, "reductions": reductions})).initial


def test_a_convolution_is_its_level_and_its_kernel_and_a_pooling_is_one_token() -> None:
    network = modify(chain(8, 3, 16), [{"edit": "deepen", "edge": "conv2", "k": 5}])
    levels = {"conv1": 2, "pool1": None, "conv2": 0, "conv2.deep1": 0, "conv3": 3}
    tokens = WORDS.tokens(network)
    assert list(tokens) == list(levels)  # in the order in which they are computed
    assert tokens["pool1"] == WORDS.pool == max(tokens.values())
    kernels = {"conv2.deep1": 2}
    assert {edge: token for edge, token in tokens.items() if edge != "pool1"} == {
        edge: 4 * level + kernels.get(edge, 1) for edge, level in levels.items() if level is not None
    }


def test_kernels_that_are_not_told_apart_have_one_token() -> None:
    networks = [modify(chain(8), [{"edit": "kernel", "edge": "conv1", "k": k}]) for k in (7, 9)]
    assert [WORDS.tokens(network)["conv1"] for network in networks] == [4 * 2 + 3] * 2


def dense(features: int) -> Topology:
    edges = [
        {"id": "conv", "src": "x", "dst": "a", "op": "conv", "params": {"c": 4}},
        {"id": "mean", "src": "a", "dst": "b", "op": "global-mean"},
        {"id": "dense", "src": "b", "dst": "c", "op": "dense", "params": {"features": features}},
        {"id": "classes", "src": "c", "dst": "y", "op": "dense", "params": {"features": 10, "act": "identity"}},
    ]
    graph = {"vertices": {"a": "add", "b": "add", "c": "add", "y": "add"}, "edges": edges}
    return Topology.parse(
        {
            "schema": "topology/1",
            "input": {"shape": [1, 8, 8]},
            "output": {"classes": 10},
            "root": "net",
            "graphs": {"net": graph},
        }
    )


@pytest.mark.parametrize(("features", "level"), [(15, 0), (16, 1), (31, 1), (32, 2), (99, 2)])
def test_a_dense_layer_is_its_level_and_the_classifier_is_no_layer(features: int, level: int) -> None:
    tokens = WORDS.tokens(dense(features))
    assert list(tokens) == ["conv", "dense"]
    assert tokens["dense"] == WORDS.dense + level
    assert WORDS.wider(tokens["dense"]) == (16, 32, 0)[level]


@pytest.mark.parametrize(("width", "wider"), [(1, 4), (4, 8), (5, 8), (8, 12), (12, 0), (100, 0)])
def test_the_next_level_is_the_first_that_is_wider(width: int, wider: int) -> None:
    assert WORDS.wider(WORDS.tokens(chain(width))["conv1"]) == wider
    assert WORDS.wider(WORDS.pool) == 0


def test_blocks_are_what_lies_between_poolings() -> None:
    conv, dense, pool = 0, WORDS.dense, WORDS.pool
    assert WORDS.blocks([conv, conv, pool, conv, pool, pool, conv, dense]) == [[0, 1], [3], [6, 7]]
    assert WORDS.blocks([pool, conv]) == [[1]]
    tokens = list(WORDS.tokens(chain(4, 4, 4, reductions=(2,))).values())
    assert WORDS.blocks(tokens) == [[0, 1], [3]]


def test_every_token_is_known_by_one_number() -> None:
    convolutions = {4 * level + kernel for level in range(4) for kernel in range(4)}
    assert WORDS.dense == len(convolutions) == max(convolutions) + 1
    assert WORDS.pool == WORDS.dense + 3
