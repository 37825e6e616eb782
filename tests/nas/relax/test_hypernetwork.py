"""Weights that a network writes: from the code alone, for what is read alone, and none of the supernet's own."""

from functools import partial

import numpy as np
import pytest

from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")

from katib_flow.models.build import build  # noqa: E402
from katib_flow.models.channels import escaped  # noqa: E402
from katib_flow.nas.relax.banks import bank_convs  # noqa: E402
from katib_flow.nas.relax.choice import chosen  # noqa: E402
from katib_flow.nas.relax.hypernetwork import OWN, READ, WRITE, Hypernetwork  # noqa: E402
from katib_flow.nas.relax.shared import one_hot  # noqa: E402

torch.set_num_threads(1)
BANKS = space_of(
    Architecture(
        space="banks",
        settings={"stages": 2, "layers": 3, "banks": 2, "channels": 2, "operations": ["conv3", "conv5", "max3"]},
    )
)
MACRO = space_of(Architecture(space="macro", settings={"layers": 3, "channels": 2, "operations": ["conv3", "avg3"]}))
spaces = pytest.mark.parametrize("space", [BANKS, MACRO], ids=["banks", "macro"])
MAKE = partial(Hypernetwork, growth=4, depth=2)


def supernet(space=BANKS, seed=0):
    return build(space.supernet(), seed=seed, affine=False, provider=MAKE)


def drawn(space, seed):
    rng = np.random.default_rng(seed)
    return {slot: int(rng.integers(space.choices(slot))) for slot in space.slots}


def written(network, child):
    with torch.no_grad():
        network.choose(one_hot(network, child))
    return {key: module.weight for key, module in network.provider._written.items()}


@spaces
def test_a_written_convolution_has_no_weights_of_its_own(space):
    network, plain = supernet(space), build(space.supernet(), seed=0, affine=False)
    convs = bank_convs(space.supernet())
    names = {f"operations.{escaped(conv.edge)}." for conv in convs}
    own = {name for name, _ in network.named_parameters()}
    gone = {name for name, _ in plain.named_parameters()} - own
    assert {name for name in own if name.startswith(tuple(names))} == set()
    assert gone == {name for name, _ in plain.named_parameters() if name.startswith(tuple(names))}
    count = {key: sum(each.numel() for each in of.parameters()) for key, of in (("all", network), ("plain", plain))}
    hyper = sum(each.numel() for each in network.provider.parameters())
    assert count["all"] == count["plain"] - sum(conv.channels * conv.inputs for conv in convs) + hyper


@spaces
def test_the_gradient_reaches_all_of_the_hypernetwork(space):
    network = supernet(space).train()
    network.choose(one_hot(network, drawn(space, 0)))
    torch.nn.functional.cross_entropy(network(torch.rand(8, 1, 8, 8)), torch.arange(8)).backward()
    slopes = [each.grad for each in network.provider.parameters()]
    assert len(slopes) == 3
    assert all(slope is not None and slope.abs().max() > 0 for slope in slopes)
    assert {id(each) for each in network.provider.parameters()} <= {id(each) for each in network.weights()}


@spaces
def test_the_same_code_gives_the_same_weights_and_any_other_decision_others(space):
    network, child = supernet(space), drawn(space, 1)
    before = written(network, child)
    again = written(supernet(space), child)
    assert all(torch.equal(before[key], again[key]) for key in before)
    seen = set(network.flat.groups) - {"1.1.op", "1.op"}  # what nothing optional comes before has no such convolution
    for slot in seen & {group for conv in bank_convs(space.supernet()) for group in groups_of(conv)}:
        other = written(network, {**child, slot: (child[slot] + 1) % space.choices(slot)})
        assert any(not torch.allclose(before[key], other[key], atol=1e-6) for key in before), slot


def groups_of(conv):
    bits = (*(bit for _, bit in conv.reads), *conv.writes)
    return {*conv.operations, *(bit[0] for bit in bits if bit is not None)}


def test_the_code_has_the_cells_that_are_read_and_written_and_what_operation_they_are_of():
    network = supernet()
    child = dict.fromkeys(BANKS.slots, 0) | {"1.2.read0": 1, "1.3.write0": 1, "1.2.op": 2, "1.3.op": 1}
    code = network.provider.code(one_hot(network, child))
    assert code.shape[1:] == (6, 4)  # two of one unit, two of two; two banks of two units
    rows = {"1.2.fit": 0, "1.3.fit": 1}
    assert [conv.edge for conv, _, _ in network.provider.grid.slices()][:2] == list(rows)
    assert code[READ, :2].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert code[WRITE, :2].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert code[OWN, :2].tolist() == [[1, 1, 0, 0]] * 2
    assert code[OWN + 1 :, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
    assert code[OWN + 1 :, 1].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert code[OWN, 2:].tolist() == [[1, 1, 1, 1]] * 4


@spaces
def test_filters_are_of_length_one_and_zero_where_nothing_is_read(space):
    network = supernet(space)
    for seed in range(3):
        child = drawn(space, seed)
        weights = written(network, child)
        for conv in bank_convs(space.supernet()):
            weight = weights[conv.edge]
            assert weight.shape == (conv.channels, conv.inputs, 1, 1)
            torch.testing.assert_close(weight.square().sum(dim=(1, 2, 3)), torch.ones(conv.channels))
            start = 0
            for width, bit in conv.reads:
                read = bit is None or child[bit[0]] == bit[1]
                assert bool(weight[:, start : start + width].any()) == read
                start += width


@spaces
def test_an_architecture_computes_what_its_own_network_with_the_written_weights_does(space):
    shared, images = supernet(space, seed=3).train(), torch.rand(6, 1, 8, 8)
    parameters = dict(shared.named_parameters())
    convs = {conv.edge: conv for conv in bank_convs(space.supernet())}
    for seed in range(4):
        child = drawn(space, seed)
        weights = written(shared, child)
        own = build(chosen(space.supernet(), child), seed=9, affine=False).train()
        for edge in own.flat.edges:
            for name, each in own.operation(edge).named_parameters():
                key = f"operations.{escaped(edge.key)}"
                if edge.key in convs:
                    bits = [(width, bit is None or child[bit[0]] == bit[1]) for width, bit in convs[edge.key].reads]
                    kept = [read for width, read in bits for _ in range(width)]
                    value = weights[edge.key][:, torch.tensor(kept)]
                elif f"{key}.{name}" in parameters:
                    value = parameters[f"{key}.{name}"]
                else:  # a choice of a mixed or an optional edge
                    place = next(
                        position
                        for group, position in child.items()
                        if group == edge.key or group in _groups(shared, edge)
                    )
                    value = parameters[f"{key}.0.paths.{place}.{name}"]
                with torch.no_grad():
                    each.copy_(value)
        with torch.no_grad():
            torch.testing.assert_close(shared(images), own(images), atol=1e-5, rtol=1e-4)


def _groups(network, edge):
    module = network.operations[escaped(edge.key)]
    return {part.group for part in module.modules() if hasattr(part, "group")}


def test_weights_that_are_written_to_be_looked_at_keep_no_graph():
    network = supernet()
    assert not any(weight.requires_grad for weight in written(network, drawn(BANKS, 0)).values())
    network.choose(one_hot(network, drawn(BANKS, 0)))
    assert all(module.weight.requires_grad for module in network.provider._written.values())
