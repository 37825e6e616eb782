"""ENAS over edges that may be out: a child is the network without them, and leaves alone what it does not read."""

import itertools

import numpy as np
import pytest

from katib_flow.errors import InvalidSpec
from katib_flow.models.optional import pulled
from katib_flow.models.presets import space_of
from katib_flow.models.space import Space
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from katib_flow.models.build import build  # noqa: E402
from katib_flow.nas.relax.shared import one_hot  # noqa: E402
from katib_flow.nas.systems.enas import EnasSettings, Sharing  # noqa: E402
from katib_flow.training.data import Data, Split, load_data  # noqa: E402

torch.set_num_threads(1)
MACRO = space_of(Architecture(space="macro", settings={"layers": 4, "channels": 4, "operations": ["conv3", "max3"]}))
DATA = load_data("digits", 64)
ROOM = {  # where the channels of an earlier layer stand in what a layer of the space above reads
    "2.fit": {"2.skip0": (0, 4)},
    "3.fit": {"3.skip0": (0, 8), "3.skip1": (8, 16)},
    "4.fit": {"4.skip0": (0, 8), "4.skip1": (8, 16), "4.skip2": (16, 24)},
}


def sharing(space=MACRO, data=DATA, seed=0, **recipe):
    network = build(space.supernet(), seed=seed, affine=False)
    small = {"epochs": 3, "batch": 16, "updates": 2, "children": 4, "candidates": 3, "units": 8}
    return Sharing(network, data, EnasSettings(**{**small, **recipe}), seed=seed)


def tokens(space, child):
    """A child's choices in the order of the space's slots."""
    return [child[slot] for slot in space.slots]


def slices(search, child):
    """For each weight of a child's own network: the shared one, and the input channels that it has of it."""
    taken = {}
    for name, each in search.network.named_parameters():
        slot = next((slot for slot in child if name.startswith(f"operations.{key_of(search, slot)}.")), None)
        everything = list(range(each.shape[1])) if each.ndim == 4 else None
        if slot is None:
            taken[name] = (name, everything)
        elif f".paths.{child[slot]}." in name:
            taken[name.replace(f".0.paths.{child[slot]}.", ".")] = (name, everything)
    for fit, room in ROOM.items():
        (name,) = (each for each in taken if fit_of(search, fit) in each)
        out = [place for slot, (low, high) in room.items() if child[slot] == 0 for place in range(low, high)]
        taken[name] = (name, [place for place in taken[name][1] if place not in out])
    return taken


def key_of(search, slot):
    """The name of the module of the edge that a slot decides on."""
    edges = [edge for edge in search.network.flat.edges if slot in (layer_group(edge), edge.key)]
    return search.network._names[edges[0].key]


def layer_group(edge):
    return next((getattr(layer, "group", None) for layer in edge.layers), None)


def fit_of(search, key):
    return f"operations.{search.network._names[key]}."


def test_a_child_computes_and_learns_what_its_own_network_with_the_shared_weights_does():
    search, rng = sharing(), np.random.default_rng(1)
    search.train_epoch()
    images, labels = (part[:16] for part in search.train)
    shared, seen = dict(search.network.named_parameters()), set()
    for _ in range(12):
        child = next(search.children(rng))
        seen.add(tuple(child.values()))
        own = build(MACRO.topology(MACRO.decode(tokens(MACRO, child))), seed=9, affine=False)
        taken = slices(search, child)
        with torch.no_grad():
            for name, each in own.named_parameters():
                source, channels = taken[name]
                each.copy_(shared[source] if channels is None else shared[source][:, channels])
        search.network.choose(one_hot(search.network, child))
        search.network.zero_grad(set_to_none=True)
        outs = [network.train()(images) for network in (search.network, own)]
        torch.testing.assert_close(*outs)
        for out in outs:
            torch.nn.functional.cross_entropy(out, labels).backward()
        for name, each in own.named_parameters():
            source, channels = taken[name]
            slope = shared[source].grad
            torch.testing.assert_close(slope if channels is None else slope[:, channels], each.grad)
            if channels is not None:
                assert not slope[:, [place for place in range(slope.shape[1]) if place not in channels]].any()
    assert len(seen) > 8


def test_a_step_leaves_every_bit_that_a_child_does_not_read_whatever_its_momentum():
    search = sharing(weight_decay=0.1)
    batch = tuple(part[:16] for part in search.train)
    every = {slot: 1 if "skip" in slot else 0 for slot in search.slots}
    search.weight_step(every, batch)
    search.weight_step(every, batch)  # now every tensor that is read has momentum
    before = {name: each.detach().clone() for name, each in search.network.named_parameters()}
    child = {**every, "2.skip0": 0, "4.skip1": 0, "3.op": 1}
    search.weight_step(child, batch)
    after = dict(search.network.named_parameters())
    for fit, room in ROOM.items():
        (name,) = (each for each in before if fit_of(search, fit) in each)
        moved = (before[name] != after[name]).any(dim=(0, 2, 3))
        for slot, (low, high) in room.items():
            assert moved[low:high].all() if child[slot] else not moved[low:high].any()
        low = max(high for _, high in room.values())
        assert moved[low:].all()  # the layer before is always read
    for slot in ("2.skip0", "4.skip1"):
        names = [name for name in before if name.startswith(f"operations.{key_of(search, slot)}.")]
        assert names
        assert all(torch.equal(before[name], after[name]) for name in names)
    names = [name for name in before if name.startswith(f"operations.{key_of(search, '3.skip0')}.")]
    assert all(not torch.equal(before[name], after[name]) for name in names)


def test_the_first_step_gives_no_momentum_to_what_was_not_read():
    search = sharing(weight_decay=0.1)
    batch = tuple(part[:16] for part in search.train)
    nothing = dict.fromkeys(search.slots, 0)
    search.weight_step(nothing, batch)
    (name,) = (each for each, _ in search.network.named_parameters() if fit_of(search, "2.fit") in each)
    weight = dict(search.network.named_parameters())[name]
    momentum = search.optimiser.state[weight]["momentum_buffer"]
    assert not momentum[:, :4].any()
    assert momentum[:, 4:].any()


TINY = {
    "schema": "topology/1",
    "input": {"shape": [1, 1, 1]},
    "output": {"classes": 2},
    "slots": {"over": {"among": [True, False]}, "op": {"among": ["identity", "none"]}},
    "graphs": {
        "net": {
            "vertices": {"s": "add", "m": "concat", "o": "add", "y": "add"},
            "edges": [
                {"id": "s", "src": "x", "dst": "s", "op": {"slot": "op"}},
                {"id": "keep", "src": "s", "dst": "m", "op": "identity"},
                {"id": "over", "src": "x", "dst": "m", "op": "identity", "when": {"over": [True]}},
                {"id": "mix", "src": "m", "dst": "o", "op": "conv1", "params": {"c": 2, "order": "conv"}},
                {"id": "mean", "src": "o", "dst": "y", "op": "global-mean"},
            ],
        }
    },
}


@pytest.mark.parametrize("there", [True, False])
def test_a_tiny_network_with_a_skip_takes_the_step_that_was_worked_out_by_hand(there):
    """Of one image v and one label 0: logits U1 v + U2 v, or U1 v where the skip is out; the slope is (p - y) v."""
    v, u, lr = 0.5, np.array([[0.3, -0.2], [0.1, 0.4]]), 0.1
    images, labels = np.full((2, 1, 1, 1), v, dtype=np.float32), np.array([0, 1])
    split = Split(images, labels)
    space = Space(TINY)
    assert space.supernet().flat.groups == {"op": ("identity", "none"), "over": ("in", "out")}  # as the slots' values
    search = sharing(space, Data(split, split, split), lr=lr, weight_decay=0.0, clip=1e9)
    weight, bias = search.network.weights()
    with torch.no_grad():
        weight.copy_(torch.tensor(u)[:, :, None, None])
        bias.zero_()
    search.weight_step({"op": 0, "over": 0 if there else 1}, (torch.tensor(images[:1]), torch.tensor([0])))
    logits = (u[:, 0] + u[:, 1]) * v if there else u[:, 0] * v
    chances = np.exp(logits) / np.exp(logits).sum()
    error = chances - np.array([1.0, 0.0])
    slope = error * v
    after = u - lr * 1.9 * np.stack([slope, slope if there else 0 * slope], axis=1)  # Nesterov's first step: 1 + 0.9
    np.testing.assert_allclose(weight.detach().numpy()[:, :, 0, 0], after, rtol=1e-6)
    np.testing.assert_allclose(bias.detach().numpy(), -lr * 1.9 * error, rtol=1e-6)


@pytest.mark.parametrize("layers", [2, 4])
def test_the_architecture_of_a_child_is_the_one_that_its_tokens_stand_for(layers):
    """The live part of the supernet, edges that are out left aside, has the hash of the decoded topology."""
    space = space_of(Architecture(space="macro", settings={"layers": layers, "operations": ["conv3", "avg3"]}))
    supernet, rng = space.supernet(), np.random.default_rng(0)
    for _ in range(20):
        child = {slot: int(rng.integers(len(names))) for slot, names in supernet.flat.groups.items()}
        data = supernet.to_dict()
        edges = []
        for edge in data["graphs"]["net"]["edges"]:
            params = edge.get("params", {})
            if edge["op"] == "mixed":
                chosen = params["among"][child[params["group"]]]
                edges.append({**edge, "op": chosen["op"], "params": chosen["params"]})
            elif edge["op"] == "optional":
                if child[params["group"]] == 1:
                    edges.append({**edge, **params["of"]})
            else:
                edges.append(edge)
        data["graphs"]["net"]["edges"] = edges
        taken = type(supernet).parse(data)
        decoded = space.topology(space.decode([child[slot] for slot in space.slots]))
        assert taken.hash == decoded.hash


def test_the_controller_is_drawn_towards_the_rate_of_skips_and_by_nothing_else():
    rates = {}
    for weight in (0.0, 4.0):
        search = sharing(weighted=0.0, controller_lr=0.05, entropy=0.0, skip_rate=0.1, skip_weight=weight)
        search.loss = lambda some, chosen=None: 0.5  # type: ignore[method-assign]
        rng = np.random.default_rng(0)
        for _ in range(60):
            search.controller_step(rng)
        drawn = list(itertools.islice(search.children(rng), 300))
        skips = [child[slot] for child in drawn for slot in child if "skip" in slot]
        rates[weight] = np.mean(skips)
        assert np.mean([child["1.op"] for child in drawn]) == pytest.approx(0.5, abs=0.12)
    assert rates[0.0] == pytest.approx(0.5, abs=0.06)
    assert rates[4.0] == pytest.approx(0.1, abs=0.05)


def test_the_divergence_is_summed_over_the_skips_of_a_layer_and_averaged_over_layers():
    flat = MACRO.supernet().flat
    names = list(flat.groups)
    assert [(names[slot], towards) for slot, towards, _ in pulled(flat, 0.25, 0.9)] == [
        (slot, (0.75, 0.25)) for slot in names if "skip" in slot
    ]
    assert [weight for *_, weight in pulled(flat, 0.25, 0.9)] == pytest.approx([0.9 / 3] * 6)  # of layers 2, 3 and 4
    ((_, towards, weight),) = pulled(Space(TINY).supernet().flat, 0.25, 0.9)
    assert (towards, weight) == ((0.25, 0.75), 0.9)  # there comes first in that slot
    assert pulled(space_of(Architecture(space="cell")).supernet().flat, 0.25, 0.9) == ()


def changed(**graph):
    net = {**TINY["graphs"]["net"], **graph}
    return {**TINY, "graphs": {"net": net}}


def edges(**changes):
    """The edges of the tiny network, some with other fields."""
    return [{**edge, **changes.get(edge["id"], {})} for edge in TINY["graphs"]["net"]["edges"]]


NO_CONVOLUTION = edges(mix={"op": "max3", "params": {}}, mean={"op": "head", "params": {"classes": 2}})
MEAN = {"s": "add", "m": "mean", "o": "add", "y": "add"}
THREE = {"over": {"among": [True, False, 3]}, "op": TINY["slots"]["op"]}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (changed(vertices=MEAN), "vertex m: found 'mean', need one of add"),
        (changed(edges=NO_CONVOLUTION), "edge mix: found 'max3', need a convolution, because it reads the stack m"),
        ({**TINY, "slots": THREE}, "slots.over: found nothing, need a fixed value"),
        (
            {**changed(edges=edges(over={"when": {"op": ["identity"]}})), "slots": {"op": TINY["slots"]["op"]}},
            "slots.op: found nothing, need a fixed value",
        ),
    ],
)
def test_an_edge_that_cannot_be_left_out_by_zeros_is_refused(template, message):
    with pytest.raises(InvalidSpec) as refused:
        Space(template).supernet()
    assert message in str(refused.value)
