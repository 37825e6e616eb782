"""The search of SNAS: its draws, the gradient of its paper, one loss for both, its cost, what is derived."""

import numpy as np
import pytest
from kit import spec
from scipy.stats import chisquare

from katib_flow.algorithms import check_algorithm
from katib_flow.models.presets import space_of
from katib_flow.nas.relax.costs import choice_flops, shares_of_largest
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")

from katib_flow.models.build import build  # noqa: E402
from katib_flow.nas.systems.snas import Annealed, SnasSettings, relaxed  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402

torch.set_num_threads(1)
SPACE = space_of(Architecture(space="cell", settings={"nodes": 3, "channels": 3, "stages": 1}))
DATA = load_data("digits", 64)
NAMES = ("none", "skip", "conv3", "avg3")


def searching(seed=0, state=None, **settings):
    return Annealed(
        build(SPACE.supernet(), seed=seed, affine=False), DATA, SnasSettings(batch=16, **settings), seed, state
    )


def bits(tensors):
    return [tensor.detach().clone() for tensor in tensors]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_cold_draw_takes_each_choice_as_often_as_its_probability_says():
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5]) + 7  # of no meaning but by their differences
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([relaxed(logits, 0.01, generator) for _ in range(10_000)])
    counts = np.bincount(draws.argmax(dim=1).numpy(), minlength=4)
    assert chisquare(counts, 10_000 * logits.softmax(dim=0).numpy().astype(float), sum_check=False).pvalue > 0.001
    assert float(draws.amax(dim=1).mean()) > 0.98
    torch.testing.assert_close(draws.sum(dim=1), torch.ones(10_000))


def test_a_hot_draw_is_a_blend_of_all():
    draw = relaxed(torch.tensor([0.0, 5.0]), 1e3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draw, torch.tensor([0.5, 0.5]), atol=0.02, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_gradient_of_the_distribution_is_that_of_the_paper(temperature):
    """Section 2.3: dL/d(log a_k) = sum_k' dL/dZ_k' (delta(k' - k) - Z_k) Z_k' / temperature, of each slot."""
    search = searching()
    network = search.network.double().train()
    images, labels = DATA.train.images[:16], DATA.train.labels[:16]
    batch = torch.from_numpy(images).double(), torch.from_numpy(labels)
    logits = {
        slot: torch.linspace(-1, 1, 4, dtype=torch.float64).roll(place).requires_grad_()
        for place, slot in enumerate(SPACE.slots)
    }
    generator = torch.Generator().manual_seed(1)
    draw = {slot: relaxed(each, temperature, generator) for slot, each in logits.items()}
    leaves = {slot: each.detach().requires_grad_() for slot, each in draw.items()}
    ends = []
    for weights, at in ((draw, logits), (leaves, leaves)):
        network.choose(weights)
        loss = torch.nn.functional.cross_entropy(network(batch[0]), batch[1])
        ends.append(torch.autograd.grad(loss, list(at.values())))
    for mine, upstream, z in zip(ends[0], ends[1], leaves.values(), strict=True):
        z, upstream = z.detach().numpy(), upstream.numpy()
        paper = [
            sum(upstream[other] * ((other == k) - z[k]) * z[other] for other in range(4)) / temperature
            for k in range(4)
        ]
        np.testing.assert_allclose(mine.numpy(), paper, rtol=1e-8, atol=1e-12)


def test_a_step_moves_weights_and_distribution_by_one_loss_on_the_same_images():
    search = searching(distribution_lr=0.1)
    search.epoch = 1
    search.network.train()
    weights, logits = bits(search.network.weights()), bits(search.logits.values())
    search.step(tuple(part[:16] for part in search.train), torch.Generator().manual_seed(0))
    assert not any(torch.equal(a, b) for a, b in zip(logits, search.logits.values(), strict=True))
    assert not same(weights, search.network.weights())


def test_all_training_images_are_used_and_no_validation_image():
    search = searching(epochs=1)
    seen = []
    step = search.step
    search.step = lambda batch, generator: (seen.append(batch[0]), step(batch, generator))
    search.train_epoch()
    images = torch.cat(seen).flatten(1)
    assert torch.equal(images.sum(dim=1).sort().values, search.train[0].flatten(1).sum(dim=1).sort().values)
    assert len(images) == len(DATA.train)


@pytest.mark.parametrize("expected", [[2.0], [2.0, 0.125], [2.0, 0.5, 0.125], [2.0, 1.0, 0.5, 0.25, 0.125]])
def test_the_temperature_falls_by_equal_factors_from_the_first_epoch_to_the_last(expected):
    search = searching(epochs=len(expected), temperature=2.0, temperature_end=0.125)
    temperatures = []
    for epoch in range(1, len(expected) + 1):
        search.epoch = epoch
        temperatures.append(search.temperature)
    np.testing.assert_allclose(temperatures, expected)


def test_every_draw_of_a_search_is_another():
    search = searching(epochs=2)
    draws = []
    choose = search.network.choose
    search.network.choose = lambda draw: (draws.append(torch.stack(list(draw.values())).detach()), choose(draw))
    search.train_epoch()
    search.train_epoch()
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws) == 8


def test_what_a_choice_costs_is_what_it_adds_to_the_network():
    supernet = SPACE.supernet()
    costs = choice_flops(supernet)
    base = SPACE.topology(SPACE.decode([0, 1, 1])).flops  # alive through skips, which cost nothing
    assert costs["0>1"][2] == SPACE.topology(SPACE.decode([2, 1, 1])).flops - base > 0
    assert costs["1>2"][:2] == (0.0, 0.0)
    shares = shares_of_largest(costs)
    assert sum(max(choices) for choices in shares.values()) == pytest.approx(1)


def test_the_cost_of_probabilities_is_the_expected_cost_of_draws():
    search = searching()
    with torch.no_grad():
        for place, logits in enumerate(search.logits.values()):
            logits.copy_(torch.linspace(-1, 1, 4).roll(place))
    probabilities = {slot: logits.detach().softmax(dim=0) for slot, logits in search.logits.items()}
    generator, total = torch.Generator().manual_seed(0), 0.0
    for _ in range(2000):
        draw = {slot: relaxed(logits.detach(), 0.02, generator) for slot, logits in search.logits.items()}
        total += float(search.cost_of(draw))
    assert float(search.cost_of(probabilities)) == pytest.approx(total / 2000, abs=0.02)


def test_the_heavier_the_cost_weighs_the_cheaper_is_what_is_expected():
    expected = []
    for cost in (0.0, 2.0, 20.0):
        search = searching(epochs=3, distribution_lr=0.1, cost=cost, temperature_end=0.5)
        for _ in range(3):
            search.train_epoch()
        expected.append(search.metrics(DATA)["cost"])
    assert expected[0] > expected[1] > expected[2]


def test_the_likeliest_choice_of_every_edge_is_derived_none_included():
    search = searching()
    search.epoch = 1
    wanted = {"0>1": 2, "0>2": 0, "1>2": 3}
    with torch.no_grad():
        for slot, place in wanted.items():
            search.logits[slot][place] = 3.0
    metrics = search.metrics(DATA)
    for slot, place in wanted.items():
        assert metrics[f"choice/{slot}"] == place
        probabilities = [metrics[f"alpha/{slot}/{k}-{name}"] for k, name in enumerate(NAMES)]
        assert probabilities[place] == pytest.approx(np.exp(3) / (np.exp(3) + 3))


def test_the_likeliest_networks_are_trained_again_the_likeliest_first():
    search = searching(retrain=4)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for logits in search.logits.values():
            logits.copy_(torch.from_numpy(rng.normal(size=4)))
    probabilities = {slot: logits.detach().softmax(dim=0).numpy() for slot, logits in search.logits.items()}
    everything = [dict(zip(SPACE.slots, places, strict=True)) for places in np.ndindex(4, 4, 4)]
    everything.sort(key=lambda choice: -np.prod([probabilities[slot][place] for slot, place in choice.items()]))
    networks, expected = set(), []
    for choice in everything:
        if (network := search.bounds.network(choice)[0]) not in networks:
            networks.add(network)
            expected.append(choice)
    assert search.derived() == expected[:4]


def test_a_search_in_segments_is_the_search_in_one_bit_for_bit():
    whole = searching(seed=3, epochs=4, distribution_lr=0.02)
    for _ in range(4):
        whole.train_epoch()
    state = None
    for _ in range(4):
        part = searching(seed=3, state=state, epochs=4, distribution_lr=0.02)
        part.train_epoch()
        state = part.state()
    assert part.epoch == 4
    assert same(bits(whole.network.parameters()), bits(part.network.parameters()))
    assert same(bits(whole.logits.values()), bits(part.logits.values()))


@pytest.mark.parametrize(("temperature_end", "problems"), [(0.5, 0), (0.51, 1)])
def test_the_temperature_does_not_rise(temperature_end, problems):
    algorithm = {"name": "snas", "settings": {"temperature": 0.5, "temperature_end": temperature_end}}
    found = check_algorithm(Experiment.parse(spec(architecture="cell", algorithm=algorithm)))
    assert [problem.where for problem in found] == ["algorithm.settings.temperature_end"] * problems
