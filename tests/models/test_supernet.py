"""Supernets whose choices are sources and loose ends: a child is its own network, with the shared weights."""

from typing import Any

import numpy as np
import pytest

from katib_flow.errors import InvalidSpec
from katib_flow.models.optional import blocks
from katib_flow.models.presets import space_of
from katib_flow.models.space import Space
from katib_flow.spec.sections import Architecture

PAIRS = space_of(
    Architecture(space="pairs", settings={"nodes": 3, "channels": 4, "operations": ["skip", "sep3", "max3"]})
)


def drawn(space: Space, rng: np.random.Generator) -> dict[str, int]:
    return {slot: int(rng.integers(space.choices(slot))) for slot in space.slots}


def test_the_choices_of_a_source_are_the_vertices_that_an_edge_may_read() -> None:
    groups = PAIRS.supernet().flat.groups
    assert set(groups) == set(PAIRS.slots)
    assert groups["normal.4.in0"] == ("0", "1", "2", "3")
    assert groups["reduce.2.op1"] == ("skip(s=2)", "sep3(s=2)", "max3(s=2)") or groups["reduce.2.op1"][0] == "skip"


def test_a_vertex_is_a_loose_end_of_a_child_where_no_choice_reads_it() -> None:
    supernet, rng = PAIRS.supernet(), np.random.default_rng(0)
    stack = [block for block in blocks(supernet.flat, supernet.shapes) if block.readers[0].key.endswith("head")]
    assert len(stack) == 2  # the last node is always loose
    for _ in range(30):
        child = drawn(PAIRS, rng)
        network = PAIRS.topology(PAIRS.decode([child[slot] for slot in PAIRS.slots]))
        last = network.graphs["net"].edges[-1].src[0]
        joined = {edge.key for edge in network.flat.edges if edge.dst == f"{last}/y"}
        told = {f"{last}/{node}=" for node, block in zip(("2", "3"), stack, strict=True) if block.is_read(child)}
        assert joined == told | {f"{last}/4="}


def test_a_child_computes_what_its_own_network_with_the_shared_weights_does() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build
    from katib_flow.models.channels import escaped
    from katib_flow.nas.relax.shared import one_hot

    shared, rng = build(PAIRS.supernet(), seed=1, affine=False), np.random.default_rng(1)
    images, columns = torch.rand(6, 1, 8, 8), list(blocks(shared.flat, shared.shapes))
    weights: dict[str, Any] = dict(shared.named_parameters())
    for _ in range(4):
        child = drawn(PAIRS, rng)
        own = build(PAIRS.topology(PAIRS.decode([child[slot] for slot in PAIRS.slots])), seed=2, affine=False)
        for edge in own.flat.edges:
            for name, each in own.operation(edge).named_parameters():
                key, where = edge.key, ""
                if edge.key[-2:] in (".0", ".1"):  # c0.0/2.1: a side of a node
                    cell, side = edge.key.split("/")
                    kind = (
                        "normal"
                        if any(e.id == cell and e.op == "@normal" for e in own.topology.graphs["net"].edges)
                        else "reduce"
                    )
                    at, number = side.split(".")
                    source, op = (child[f"{kind}.{at}.{what}{number}"] for what in ("in", "op"))
                    key, where = f"{edge.key}<{source}", f"0.paths.{source}.0.paths.{op}."
                value = weights[f"operations.{escaped(key)}.{where}{name}"]
                out = [
                    place
                    for block in columns
                    for place in range(block.start, block.stop)
                    if key in [reader.key for reader in block.readers] and not block.is_read(child)
                ]
                if out and value.ndim > 1:
                    value = value[:, [place for place in range(value.shape[1]) if place not in out]]
                with torch.no_grad():
                    each.copy_(value)
        shared.choose(one_hot(shared, child))
        outs = [network.train()(images) for network in (shared, own)]
        torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-4)
        shared.zero_grad(set_to_none=True)
        outs[0].sum().backward()
        reached = {name for name, each in shared.named_parameters() if each.grad is not None and "paths" in name}
        for slot, number in child.items():
            if ".in" in slot:
                kind, node, side = slot.split(".")
                other = [
                    f"/{node}.{side[2:]}<{place}".replace(".", "·")
                    for place in range(PAIRS.choices(slot))
                    if place != number
                ]
                cells = [escaped(e.id) for e in shared.topology.graphs["net"].edges if e.op == f"@{kind}"]
                assert not [name for name in reached for cell in cells for each in other if f".{cell}{each}." in name]


def test_how_a_vertex_merges_cannot_be_mixed_and_the_reason_is_told() -> None:
    space = space_of(Architecture(space="pairs", settings={"merge": "slot", "nodes": 2}))
    assert space.parameters["normal.2.merge"].size == 2
    with pytest.raises(
        InvalidSpec, match=r"slots\.normal\.2\.merge: found nothing, need a fixed value, because it cannot"
    ):
        space.supernet()
    given = {name: "concat" for name in space.slots if name.endswith(".merge")}
    assert set(space.supernet(given).flat.groups) == set(space.slots) - given.keys()


def test_the_merge_of_a_vertex_is_a_decision() -> None:
    space = space_of(Architecture(space="pairs", settings={"merge": "slot", "nodes": 2}))
    first = space.decode([0] * len(space.slots))
    added, stacked = (space.topology({**first, "normal.2.merge": merge}) for merge in ("add", "concat"))
    assert {topology.graphs["normal"].vertices["2.in"] for topology in (added, stacked)} == {"add", "concat"}
    assert added.hash != stacked.hash
    assert stacked.parameters > added.parameters


@pytest.mark.parametrize("algorithm", ["enas", "darts"])
def test_pairs_is_searched_by_shared_weights_but_not_by_a_blend(algorithm: str) -> None:
    from katib_flow.algorithms.registry import check_algorithm
    from katib_flow.spec.experiment import Experiment

    data = {
        "name": "x",
        "objective": {"metric": "loss", "direction": "minimize"},
        "architecture": "pairs",
        "algorithm": algorithm,
    }
    wrong = [problem.where for problem in check_algorithm(Experiment.parse(data))]
    assert wrong == ([] if algorithm == "enas" else ["architecture.space"])
