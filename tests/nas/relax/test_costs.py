"""What choices cost: by FLOPs and by a table of latencies, against whole networks; and what is expected."""

import json

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models.presets import space_of
from katib_flow.nas.relax.costs import choice_flops, choice_times, expected, shares_of_largest
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")

from katib_flow.models.latency import operations_on_maps, tabulated  # noqa: E402

SPACE = space_of(Architecture(space="mobile-chain", settings={"channels": 2, "layers": 2, "kernels": [3]}))
CELL = space_of(Architecture(space="cell", settings={"nodes": 3, "channels": 3}))  # two edges share each slot


def table_of(space):
    return {each.entry: 1.0 + number for number, each in enumerate(operations_on_maps(space.supernet()))}


@pytest.mark.parametrize("space", [SPACE, CELL])
def test_a_network_differs_from_another_by_what_its_choices_take(space, tmp_path):
    supernet, table = space.supernet(), table_of(space)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    times = choice_times(supernet, str(path))
    rng, sums, wholes = np.random.default_rng(0), [], []
    while len(sums) < 6:
        tokens = [int(rng.integers(space.choices(slot))) for slot in space.slots]
        network = space.topology(space.decode(tokens))
        if len(network.flat.live.vertices) == len(supernet.flat.live.vertices):  # nothing hangs on an edge that is out
            sums.append(sum(times[slot][token] for slot, token in zip(space.slots, tokens, strict=True)))
            wholes.append(tabulated(network, table))
    differences = [whole - own for whole, own in zip(wholes, sums, strict=True)]
    assert differences == pytest.approx([differences[0]] * 6)  # what is not searched
    assert len(set(sums)) > 1


def test_a_choice_that_the_table_lacks_is_named(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({name: 1.0 for name in table_of(SPACE) if "e=6" not in name}))
    with pytest.raises(KatibFlowError, match=r"latency: the table has no entry for mbconv\(c=2,e=6,k=3\) on 2x8x8"):
        choice_times(SPACE.supernet(), str(path))


def test_times_are_measured_here_or_counted_as_flops():
    supernet = SPACE.supernet()
    assert choice_times(supernet, "flops") == choice_flops(supernet)
    measured = choice_times(supernet, "measured")
    for slot, names in supernet.flat.groups.items():
        assert [time > 0 for time in measured[slot]] == [name != "none" for name in names]


def test_the_slope_of_what_is_expected_is_that_of_finite_differences():
    costs = shares_of_largest(choice_flops(SPACE.supernet()))
    rng = np.random.default_rng(2)
    alphas = {slot: torch.tensor(rng.normal(size=len(of)), requires_grad=True) for slot, of in costs.items()}

    def cost(values):
        return expected(costs, {slot: alpha.softmax(dim=0) for slot, alpha in values.items()})

    slopes = torch.autograd.grad(cost(alphas), list(alphas.values()))
    for (slot, alpha), slope in zip(alphas.items(), slopes, strict=True):
        for place in range(len(alpha)):
            step = torch.zeros_like(alpha)
            step[place] = 1e-6
            up, down = (cost({**alphas, slot: (alpha + side * step).detach()}) for side in (1, -1))
            assert slope[place].item() == pytest.approx((up - down).item() / 2e-6, abs=1e-8)


def test_of_one_hot_weights_it_is_the_cost_of_the_network():
    costs = choice_flops(SPACE.supernet())
    choice = {slot: len(of) - 1 for slot, of in costs.items()}
    weights = {slot: torch.eye(len(costs[slot]))[place] for slot, place in choice.items()}
    assert float(expected(costs, weights)) == sum(costs[slot][place] for slot, place in choice.items())
