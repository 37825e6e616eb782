import numpy as np
import pytest

from katib_flow.errors import InvalidSpec
from katib_flow.models import Space
from katib_flow.models.presets import presets, space_of
from katib_flow.spec.sections import Architecture

SETTINGS = {
    "katib": {
        "graphConfig": {"numLayers": 3, "inputSizes": [8, 8, 1], "outputSizes": [10]},
        "operations": [
            {
                "operationType": "convolution",
                "parameters": [
                    {"name": "filter_size", "parameterType": "categorical", "feasibleSpace": {"list": ["3", "5"]}},
                    {"name": "num_filter", "parameterType": "categorical", "feasibleSpace": {"list": ["4"]}},
                    {"name": "stride", "parameterType": "categorical", "feasibleSpace": {"list": ["1", "2"]}},
                ],
            },
            {
                "operationType": "reduction",
                "parameters": [
                    {"name": "reduction_type", "feasibleSpace": {"list": ["max_pooling", "avg_pooling"]}},
                    {
                        "name": "pool_size",
                        "parameterType": "int",
                        "feasibleSpace": {"min": "2", "max": "3", "step": "1"},
                    },
                ],
            },
        ],
    }
}
every_preset = pytest.mark.parametrize("name", presets.all())


def made(name: str) -> Space:
    return space_of(Architecture(space=name, settings=SETTINGS.get(name, {})))


@every_preset
def test_fifty_random_architectures_are_sound_and_train_a_step(name):
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    space, rng = made(name), np.random.default_rng(0)
    for seed in range(50 if space.slots else 1):
        topology = space.topology(space.draw(rng))
        network = build(topology, seed=seed)
        if tokens := topology.input.tokens:
            logits, _ = network(torch.randint(tokens, (2, 3)))
            assert logits.shape == (2, 3, tokens)
        else:
            logits = network(torch.rand(2, 1, 8, 8))
            assert logits.shape == (2, 10)
        if topology.parameters:
            logits.sum().backward()


@every_preset
def test_tokens_stand_for_decisions(name):
    space, rng = made(name), np.random.default_rng(1)
    for _ in range(20):
        decisions = space.draw(rng)
        assert decisions in space.decisions
        assert space.decode(space.encode(decisions)) == decisions


@every_preset
def test_a_mutation_changes_one_slot_and_what_hangs_on_it(name):
    space, rng = made(name), np.random.default_rng(2)
    if not space.slots:
        assert space.mutate({}, rng) == {}
        return
    for _ in range(50):
        before = space.draw(rng)
        after = space.mutate(before, rng)
        assert after in space.decisions
        changed = [slot for slot in before if slot in after and after[slot] != before[slot]]
        assert len(changed) == 1
        gone = before.keys() ^ after.keys()
        assert all(changed[0] in ancestors(space, slot) for slot in gone)


def ancestors(space, slot):
    """What a slot hangs on, near or far."""
    parents = set(space.parameters[slot].when)
    return parents.union(*(ancestors(space, parent) for parent in parents))


def test_mutations_are_even_over_the_slots_and_their_other_values():
    space, rng = made("cell"), np.random.default_rng(3)
    start = space.decode([0] * 6)
    counts: dict[tuple[str, object], int] = {}
    for _ in range(6000):
        ((slot, value),) = set(space.mutate(start, rng).items()) - set(start.items())
        counts[slot, value] = counts.get((slot, value), 0) + 1
    assert len(counts) == 18
    expected = 6000 / 18
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 42.3  # 17 degrees of freedom: exceeded by chance once in 1,700


def test_a_supernet_mixes_the_choices_of_each_slot():
    supernet = made("cell").supernet()
    assert set(supernet.flat.groups) == {"0>1", "0>2", "0>3", "1>2", "1>3", "2>3"}
    assert set(supernet.flat.groups.values()) == {("none", "skip", "conv3", "avg3")}


def test_a_supernet_needs_a_value_for_what_cannot_be_mixed():
    with pytest.raises(InvalidSpec, match=r"slots\.1\.k: found nothing, need a fixed value"):
        made("mobile").supernet()


def test_katibs_operations_are_every_combination_of_their_parameters():
    space = made("katib")
    assert space.slots == ("1.op", "2.op", "2.skip0", "3.op", "3.skip0", "3.skip1")
    assert space.choices("1.op") == 2 * 2 + 2 * 2
    assert "convolution(k=3,c=4,s=2)" in space.parameters["1.op"].values()


TEMPLATE = {
    "schema": "topology/1",
    "input": {"shape": [1, 8, 8]},
    "output": {"classes": 10},
    "slots": {
        "op": {"among": ["conv", "skip", "wide"]},
        "k": {"among": [3, 5], "when": {"op": ["conv"]}},
        "tail": {"among": [False, True]},
    },
    "operations": {"wide": {"op": "conv", "params": {"k": 7}}},
    "graphs": {
        "net": {
            "vertices": {"a": "add", "b": "add", "y": "add"},
            "edges": [
                {"id": "1", "src": "x", "dst": "a", "op": {"slot": "op"}, "params": {"k": {"slot": "k"}}},
                {"id": "2", "src": "a", "dst": "b", "op": "conv3", "when": {"tail": [True]}},
                {"id": "3", "src": "b", "dst": "y", "op": "head", "params": {"classes": 10}, "when": {"tail": [True]}},
                {"id": "4", "src": "a", "dst": "y", "op": "head", "params": {"classes": 10}, "when": {"tail": [False]}},
            ],
        }
    },
}


def test_a_space_of_ones_own_has_conditions_operations_and_edges_that_come_and_go():
    space = Space(TEMPLATE)
    assert space.decisions.size == 4 * 2
    conv = space.topology({"op": "conv", "k": 5, "tail": True})
    assert [(edge.op, edge.params) for edge in conv.flat.edges[:2]] == [("conv", {"k": 5}), ("conv3", {})]
    wide = space.topology({"op": "wide", "tail": False})
    assert [(edge.op, edge.params) for edge in wide.flat.edges] == [("conv", {"k": 7}), ("head", {"classes": 10})]
    skip = space.topology({"op": "skip", "tail": False})
    assert skip.parameters < wide.parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": {**TEMPLATE["slots"], "op": {"among": ["conv", "skipp"]}}}, "found 'skipp', need an operation"),
        ({"slots": {"op": TEMPLATE["slots"]["op"]}}, "graphs.net.edges[0].params.k.slot: found 'k', need a slot: op"),
        (
            {"slots": {**TEMPLATE["slots"], "k": {"type": "float", "min": 0.0, "max": 1.0}}},
            "need a slot with countable values",
        ),
        ({"slots": {**TEMPLATE["slots"], "k": {"among": [2, 4]}}}, "k must be odd, not 2"),
        ({"slots": {**TEMPLATE["slots"], "k": {"among": []}}}, "slots.k.among: found []"),
    ],
)
def test_a_mistake_in_a_template_is_found_before_anything_runs(change, message):
    with pytest.raises(InvalidSpec) as caught:
        space_of(Architecture(space={**TEMPLATE, **change}))
    assert message in str(caught.value)
    assert str(caught.value).startswith("architecture.space.")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            {"space": "cel"},
            "architecture.space: found 'cel', need a template, or a space by name: banks, block, cell",
        ),
        (
            {"space": "cell", "settings": {"nodes": 1}},
            "architecture.settings.nodes: found 1, need a number of at least 2",
        ),
        ({"space": "cell", "settings": {"node": 3}}, "architecture.settings.node"),
        ({"space": "katib", "settings": {"operations": [{"operationType": "conv"}]}}, "operations[0].operationType"),
    ],
)
def test_a_mistake_in_an_architecture_is_told_by_its_path(architecture, message):
    with pytest.raises(InvalidSpec) as caught:
        space_of(Architecture.model_validate(architecture))
    assert message in str(caught.value)


def test_a_dense_space_of_one_stage_decides_on_no_reduction():
    def decisions(stages: int) -> set[str]:
        space = space_of(Architecture(space="dense", settings={"nodes": 1, "stages": stages}))
        assert set(space.supernet().flat.groups) == set(space.slots)
        return {name.partition(".")[0] for name in space.slots}

    assert (decisions(1), decisions(2)) == ({"normal"}, {"normal", "reduce"})
