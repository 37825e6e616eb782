"""Recurrent networks: cells that are unrolled in time, as the paper has them, whatever names and order they have."""

import json
import math
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from katib_flow.errors import InvalidSpec, KatibFlowError
from katib_flow.models import Space, Topology
from katib_flow.models.drawing import svg
from katib_flow.models.manager import build_model, load_model
from katib_flow.models.morphisms import inherited, modify, morph
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

TREE = space_of(Architecture(space="tree", settings={"tokens": 5, "features": 3}))
PAPER = {
    "0.merge": "add", "0.act": "tanh", "1.merge": "mul", "1.act": "relu", "2.merge": "mul", "2.act": "sigmoid",
    "state.merge": "add", "state.act": "relu", "state.to": 0, "state.from": "1.in",
}  # fmt: skip
"""The example of Zoph and Le (ICLR 2017), section 3.4: a tree of base 2."""
ELMAN: dict[str, Any] = {
    "input": {"tokens": 5},
    "output": {"classes": 5},
    "slots": {"act": {"among": ["tanh", "relu"]}},
    "graphs": {
        "net": {
            "vertices": {"h": "add", "before": "add", "sum": "add", "y": "add"},
            "edges": [
                {"id": "in", "src": "x", "dst": "sum", "op": "linear", "params": {"features": 4}},
                {"id": "back", "src": "before", "dst": "sum", "op": "linear", "params": {"features": 4, "bias": False}},
                {"id": "act", "src": "sum", "dst": "h", "op": "act", "params": {"name": {"slot": "act"}}},
                {"id": "state", "src": "h", "dst": "before", "op": "delay", "params": {"features": 4}},
                {"id": "out", "src": "h", "dst": "y", "op": "linear", "params": {"features": 5}},
            ],
        }
    },
}
"""A space as a user writes one."""


def net(edges: list[tuple[Any, ...]], given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Plain data of a network of (id, src, dst, op, params) edges that reads 5 tokens."""
    made = [dict(zip(("id", "src", "dst", "op", "params"), each, strict=False)) for each in edges]
    vertices = dict.fromkeys([each["dst"] for each in made], "add")
    graphs = {"net": {"vertices": vertices, "edges": made}}
    return {"input": given or {"tokens": 5}, "output": {"classes": 5}, "graphs": graphs}


def width(features: int) -> dict[str, int]:
    return {"features": features}


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def test_the_cell_that_the_paper_works_out_computes_what_the_paper_says() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    network = build(TREE.topology(PAPER), seed=1).double()
    w = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    w1, w2 = w["operations.cell/x>0·in.0.weight"], w["operations.cell/h>0·in.0.weight"]
    w3, w4 = w["operations.cell/x>1·in.0.weight"], w["operations.cell/h>1·in.0.weight"]
    tokens, h, c = [4, 0, 2, 2], np.zeros(3), np.zeros(3)
    logits = network(torch.tensor([tokens]))[0][0].detach().numpy()
    for token, found in zip(tokens, logits, strict=True):
        x = w["operations.embed.0.weight"][:, token]
        a0 = np.tanh(w1 @ x + w2 @ h)
        product = (w3 @ x) * (w4 @ h)
        a1 = np.maximum(product, 0)
        a0_new = np.maximum(a0 + c, 0)
        h, c = sigmoid(a0_new * a1), product
        expected = w["operations.softmax.0.weight"] @ h + w["operations.softmax.0.bias"]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_space_is_as_large_as_the_paper_says() -> None:
    """Of base 8: 15 nodes of 2 x 4, the second state 2 x 4, and the two nodes that it joins: about 6 x 10^16."""
    large = space_of(Architecture(space="tree", settings={"leaves": 8}))
    assert math.prod(large.choices(slot) for slot in large.slots) == 8**16 * 15**2
    assert 6e16 < 8**16 * 15**2 < 7e16


def test_a_sequence_in_pieces_is_the_sequence_in_one() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    rng = np.random.default_rng(0)
    for seed in range(12):
        network = build(TREE.topology(TREE.draw(rng)), seed=seed).double()
        tokens = torch.from_numpy(rng.integers(0, 5, (2, 7)))
        whole, last = network(tokens)
        state, pieces = None, []
        for piece in tokens.split([1, 1, 3, 2], dim=1):
            logits, state = network(piece, state)
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, 1), whole)
        torch.testing.assert_close(state, last)


def test_what_is_read_does_not_hang_on_later_tokens_but_on_earlier_ones() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    network = build(Space(ELMAN).initial, seed=0)
    one, other = (network(torch.tensor([tokens]))[0][0] for tokens in ([1, 2, 3, 0], [1, 4, 3, 0]))
    assert torch.equal(one[0], other[0])
    assert all(not torch.allclose(one[token], other[token]) for token in (1, 2, 3))


def test_a_delay_of_what_needs_no_state_and_one_that_nothing_else_reads() -> None:
    """The logits are those of this token and of the one before: no value goes round."""
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    edges = [
        ("e", "x", "e", "embed", width(5)), ("d", "e", "d", "delay", width(5)), ("dd", "d", "dd", "delay", width(5)),
        ("1", "e", "y", "identity"), ("2", "dd", "y", "identity"),
    ]  # fmt: skip
    network = build(Topology.parse(net(edges)), seed=0)
    embedding = network.state_dict()["operations.e.0.weight"].T
    logits, state = network(torch.tensor([[3, 1, 4, 1]]))
    expected = [embedding[3], embedding[1], embedding[4] + embedding[3], embedding[1] + embedding[1]]
    torch.testing.assert_close(logits[0], torch.stack(expected))
    torch.testing.assert_close(state["dd"][0], embedding[4])
    assert state.keys() == {"d", "dd"}


def test_where_the_output_is_a_state_itself() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    edges = [("e", "x", "y", "embed", width(5)), ("d", "y", "y", "delay", width(5))]
    network = build(Topology.parse(net(edges)), seed=0)
    embedding = network.state_dict()["operations.e.0.weight"].T
    logits, _ = network(torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(logits[0], torch.cumsum(embedding[:3], dim=0))


def test_gradients_are_those_of_finite_differences() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    decisions = {**PAPER, "state.act": "tanh", "1.act": "tanh"}
    network = build(TREE.topology(decisions), seed=3).double()
    tokens = torch.tensor([[1, 4, 2, 0], [3, 3, 1, 2]])
    weight = network.get_parameter("operations.cell/h>1·in.0.weight")

    def loss(value: Any) -> Any:
        made = torch.func.functional_call(network, {"operations.cell/h>1·in.0.weight": value}, (tokens,))
        return made[0].square().sum()

    assert torch.autograd.gradcheck(loss, (weight.detach().clone().requires_grad_(),))


def test_a_users_own_recurrent_space_is_searched_and_drawn_like_any_other() -> None:
    space = Space(ELMAN)
    one, other = space.topology({"act": "tanh"}), space.topology({"act": "relu"})
    assert one.hash != other.hash
    assert Topology.parse(one.to_dict()).hash == one.hash
    assert one.parameters == 5 * 4 + 4 + 4 * 4 + 4 * 5 + 5
    ET.fromstring(svg(one))
    assert ">h before<" in svg(one)
    assert ">tanh<" in svg(one)


def test_the_hash_knows_what_goes_round() -> None:
    def cell(*, state: str, first: str = "h", order: int = 1) -> Topology:
        vertices = {"i": "i", "h": first, "o": "o"}
        edges = [
            ("in", "x", "i", "linear", width(4)), ("back", "s", "i", "linear", width(4)),
            ("1", "i", vertices["h"], "act", {"name": "tanh"}), ("2", vertices["h"], "o", "act", {"name": "sigmoid"}),
            ("s", vertices.get(state, state), "s", "delay", width(4)), ("out", "o", "y", "linear", width(5)),
        ]  # fmt: skip
        return Topology.parse(net(edges[::order]))

    assert cell(state="h").hash == cell(state="h", first="renamed").hash == cell(state="h", order=-1).hash
    assert len({cell(state=vertex).hash for vertex in "iho"}) == 3
    bare = Topology.parse(net([("1", "x", "y", "linear", width(5))]))
    state = Topology.parse(net([("1", "x", "y", "linear", width(5)), ("s", "y", "y", "delay", width(5))]))
    assert bare.hash != state.hash


def test_different_cells_have_different_hashes_and_what_does_not_matter_changes_none() -> None:
    rng = np.random.default_rng(0)
    drawn = [TREE.draw(rng) for _ in range(60)]
    assert len({TREE.identity(each) for each in drawn}) == len({tuple(each.items()) for each in drawn})
    swapped = {**PAPER, "0.merge": "mul", "0.act": "relu", "1.merge": "add", "1.act": "tanh"}
    swapped |= {"state.to": 1, "state.from": "0.in"}  # the leaves of a product change places
    assert TREE.identity(swapped) == TREE.identity(PAPER)


@pytest.mark.parametrize(
    ("edges", "given", "message"),
    [
        (
            [("a", "x", "b", "linear", width(4)), ("b", "b", "c", "act"), ("c", "c", "b", "act"),
             ("d", "b", "y", "linear", width(5))],
            None,
            r"a cycle through b, c",
        ),
        (
            [("a", "x", "h", "linear", width(4)), ("d", "h", "h", "delay", width(3)),
             ("o", "h", "y", "linear", width(5))],
            None,
            r"vertex h: found 'add of 2', need equal shapes, not \(4,\), \(3,\)",
        ),
        (
            [("a", "x", "h", "linear", width(4)), ("d", "h", "s", "delay", width(3)),
             ("s", "s", "y", "linear", width(5))],
            None,
            r"edge d: found 'delay after vertex h', need a vector of 3 features for a delay, not a shape \(4,\)",
        ),
        (
            [("a", "x", "h", "global-mean"), ("l", "h", "y", "linear", width(5)), ("d", "y", "y", "delay", width(5))],
            {"shape": [1, 8, 8]},
            r"edge d: found 'delay in a network for images', need input: \{tokens: N\}, because a recurrent cell reads",
        ),
        ([("a", "x", "y", "conv", {"c": 5})], None, r"need maps of \(channel, height, width\) for a convolution"),
        (
            [("a", "x", "h", "linear", width(5)),
             ("d", "h", "y", "mixed", {"among": [{"op": "delay", "params": width(5)}, "skip"], "group": "g"})],
            None,
            r"delay among operations to choose from",
        ),
        ([("a", "x", "y", "delay", {"features": 0})], None, "features must be a whole number from 1 to 65,536, not 0"),
        ([("a", "x", "y", "linear", {"features": 5, "bias": 3})], None, "bias must be true or false, not 3"),
        ([("a", "x", "y", "identity")], {}, r"input: found nothing, need either shape: .* or tokens"),
        ([("a", "x", "y", "identity")], {"tokens": 5, "shape": [1, 2, 2]}, r"input: found 'both shape and tokens'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_recurrent_network_is_told(edges: Any, given: Any, message: str) -> None:
    data = net(edges, given) | ({"input": given} if given is not None else {})
    with pytest.raises(InvalidSpec, match=message):
        Topology.parse(data)


def test_what_is_wrong_with_a_recurrent_space_is_told_by_its_path() -> None:
    images = {**ELMAN, "input": {"shape": [1, 8, 8]}}
    with pytest.raises(InvalidSpec, match=r"edge state: found 'delay in a network for images', need input: \{tokens"):
        Space(images)
    wrong = {**ELMAN, "input": {"shape": [1, 8, 8], "tokens": 5}}
    with pytest.raises(InvalidSpec, match=r"input: found 'both shape and tokens', need either shape"):
        Space(wrong)


def test_a_recurrent_model_comes_back_as_it_was_stored(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build, load_network, save_network

    build_model(TREE, tmp_path, topology=None, decisions=PAPER)
    network = build(TREE.topology(PAPER), seed=5)
    save_network(network, tmp_path)
    tokens = torch.tensor([[0, 1, 2, 3, 4]])
    assert torch.equal(load_network(tmp_path)(tokens)[0], network(tokens)[0])
    other = TREE.topology({**PAPER, "state.from": "0.in"})
    (tmp_path / "topology.json").write_text(json.dumps(other.to_dict()))
    with pytest.raises(KatibFlowError, match="weights"):
        load_model(tmp_path)


def test_a_child_takes_over_what_its_parent_has_learnt() -> None:
    pytest.importorskip("torch")
    from katib_flow.models.build import build, weights_of

    parent, child = TREE.topology(PAPER), TREE.topology({**PAPER, "2.act": "tanh"})
    learnt = weights_of(build(parent, seed=2))
    taken = inherited(parent, learnt, child)
    assert taken.keys() == learnt.keys()
    assert all(np.array_equal(taken[name], learnt[name]) for name in learnt)


def test_a_morphism_keeps_the_function_of_a_recurrent_network_and_no_state_is_widened() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build, set_weights, weights_of

    parent = TREE.topology(PAPER)
    network = build(parent, seed=2)
    child, weights = morph(parent, weights_of(network), [{"edit": "widen", "edge": "embed", "to": 6, "seed": 1}])
    wider = build(child, seed=9)
    set_weights(wider, weights)
    assert wider.get_parameter("operations.embed.0.weight").shape == (6, 5)
    tokens = torch.tensor([[0, 4, 2, 1]])
    torch.testing.assert_close(wider(tokens)[0], network(tokens)[0])
    with pytest.raises(InvalidSpec, match=r"cell/x>1\.in"):
        modify(parent, [{"edit": "widen", "edge": "cell/x>1.in", "to": 6, "seed": 1}])


def test_the_time_that_a_token_takes_is_measured_and_looked_up() -> None:
    pytest.importorskip("torch")
    from katib_flow.models.build import build
    from katib_flow.models.latency import latency_seconds, measured_table, tabulated

    topology = TREE.topology(PAPER)
    assert latency_seconds(build(topology, seed=0), runs=1, warm_up=0) > 0
    table = measured_table([topology], runs=1, warm_up=0)
    assert not any(name.startswith("delay") for name in table)
    assert tabulated(topology, dict.fromkeys(table, 1.0)) == 10  # an embedding, 4 x weights, 4 activations, logits
