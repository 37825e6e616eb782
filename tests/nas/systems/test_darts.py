"""The search of DARTS: its gradient against finite differences and closed forms, what a step moves, what is derived."""

import math
from dataclasses import replace

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from katib_flow.models.build import build  # noqa: E402
from katib_flow.nas.systems.darts import EPSILON, Bilevel, DartsSettings, architecture_gradient, loss_of, ranked  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402

torch.set_num_threads(1)
SPACE = space_of(Architecture(space="cell", settings={"nodes": 3, "channels": 3, "stages": 1}))
DATA = load_data("digits", 64)


def supernet(seed=0, double=False):
    network = build(SPACE.supernet(), seed=seed, affine=False)
    with torch.no_grad():
        for alpha in network.architecture_weights().values():
            alpha.copy_(torch.randn(alpha.shape, generator=torch.Generator().manual_seed(seed)))
    return network.double() if double else network


def batch_of(network, rows):
    images, labels = torch.from_numpy(DATA.train.images[rows]), torch.from_numpy(DATA.train.labels[rows])
    return images.to(next(network.parameters()).dtype), labels


def unrolled(network, train, valid, xi):
    """The validation loss after a step of the weights, as it stands in equation 6."""
    weights = network.weights()
    before = [each.detach().clone() for each in weights]
    slopes = torch.autograd.grad(loss_of(network, train), weights)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= xi * slope
        value = loss_of(network, valid).item()
        for weight, here in zip(weights, before, strict=True):
            weight.copy_(here)
    return value


def test_the_difference_is_as_long_as_the_paper_has_it():
    """Section 2.3: a hundredth over the norm of the gradient of the validation loss at the weights."""
    assert EPSILON == 0.01


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("xi", [0.0, 0.1, 1.0])
def test_the_architecture_gradient_is_that_of_finite_differences(xi, seed, monkeypatch):
    monkeypatch.setattr("katib_flow.nas.systems.darts.EPSILON", 1e-6)  # so small that it meets no kink of a ReLU
    network = supernet(seed, double=True)
    train, valid = batch_of(network, slice(0, 16)), batch_of(network, slice(16, 32))
    mine = torch.cat(architecture_gradient(network, train, valid, xi)).numpy()
    numeric = []
    for alpha in network.architecture_weights().values():
        for place in range(len(alpha)):
            sides = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    alpha[place] += step
                sides.append(unrolled(network, train, valid, xi))
                with torch.no_grad():
                    alpha[place] -= step
            numeric.append((sides[0] - sides[1]) / 2e-6)
    np.testing.assert_allclose(mine, numeric, rtol=1e-5, atol=1e-8)
    first = torch.cat(architecture_gradient(network, train, valid, 0.0)).numpy()
    assert np.allclose(mine, first, rtol=1e-2) == (xi == 0)  # the second order is another


class Toy(nn.Module):
    """The paper's example: L_valid = a w - 2 a + 1, L_train = w^2 - 2 a w + a^2, with one weight and one alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.a = nn.Parameter(torch.tensor([-2.0]).double()), nn.Parameter(torch.tensor([2.0]).double())

    def architecture_weights(self):
        return {"a": self.a}

    def weights(self):
        return [self.w]


@pytest.mark.parametrize("xi", [0.0, 0.1, 0.5])
def test_the_papers_example_ends_where_its_closed_form_says(xi, monkeypatch):
    """Descent on both ends at a = w = 2 / (1 + 2 xi): with xi = 0.5, the exact inner step, at the true optimum, 1."""
    toy = Toy()

    def loss(module, batch):
        a, w = module.a, module.w
        return (a * w - 2 * a + 1).sum() if batch == "valid" else (w**2 - 2 * a * w + a**2).sum()

    monkeypatch.setattr("katib_flow.nas.systems.darts.loss_of", loss)
    for _ in range(1500):
        (slope,) = architecture_gradient(toy, "train", "valid", xi)  # type: ignore[arg-type]
        (inner,) = torch.autograd.grad(loss(toy, "train"), [toy.w])
        with torch.no_grad():
            toy.a -= 0.05 * slope
            toy.w -= 0.05 * inner
    assert toy.a.item() == pytest.approx(2 / (1 + 2 * xi), abs=1e-3)
    assert toy.w.item() == pytest.approx(2 / (1 + 2 * xi), abs=1e-3)


def bits(parameters):
    return [each.detach().clone() for each in parameters]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_step_moves_its_own_parameters_by_its_own_images():
    network = supernet()
    bilevel = Bilevel(network, DATA, DartsSettings(batch=16))
    network.train()
    parts = [tuple(part[:16] for part in half) for half in (bilevel.train, bilevel.valid)]
    assert not torch.equal(parts[0][0], parts[1][0])
    weights, alphas = bits(bilevel.weights), bits(bilevel.alphas)
    bilevel.architecture_step(*parts, 0.025)
    assert same(weights, bilevel.weights)
    assert not any(torch.equal(a, b) for a, b in zip(alphas, bilevel.alphas, strict=True))
    alphas = bits(bilevel.alphas)
    bilevel.weight_step(parts[0])
    assert same(alphas, bilevel.alphas)
    assert not same(weights, bilevel.weights)


def test_the_weights_never_see_the_second_half_and_first_order_never_the_first():
    changed = replace(DATA, train=replace(DATA.train, images=DATA.train.images.copy()))
    changed.train.images[32:] = 0.5  # the second half
    ends = []
    for data in (DATA, changed):
        bilevel = Bilevel(supernet(), data, DartsSettings(batch=16, order=1))
        bilevel.network.train()
        bilevel.weight_step(tuple(part[:16] for part in bilevel.train))
        ends.append(bits(bilevel.weights))
        bilevel.architecture_step(bilevel.train, bilevel.valid, 0.025)
        ends.append(bits(bilevel.alphas))
    assert same(ends[0], ends[2])
    assert not same(ends[1], ends[3])


def test_a_search_in_segments_is_the_search_in_one_bit_for_bit():
    recipe = DartsSettings(epochs=4, batch=16, alpha_lr=0.02)
    whole = Bilevel(supernet(), DATA, recipe, seed=3)
    for _ in range(4):
        whole.train_epoch()
    state = None
    for _ in range(4):
        part = Bilevel(supernet(), DATA, recipe, seed=3, state=state)
        part.train_epoch()
        state = part.state()
    assert same(bits(whole.network.parameters()), bits(part.network.parameters()))
    assert part.epoch == 4


def test_a_derived_cell_keeps_the_two_heaviest_edges_of_a_node_and_takes_no_none():
    space = space_of(Architecture(space="cell", settings={"stages": 1}))
    shares = {
        "0>1": [0.9, 0.05, 0.04, 0.01],  # none, skip, conv3, avg3: the only edge of its node stays, and is not none
        "0>2": [0.1, 0.2, 0.6, 0.1],
        "1>2": [0.7, 0.1, 0.1, 0.1],
        "0>3": [0.1, 0.4, 0.3, 0.2],
        "1>3": [0.1, 0.1, 0.3, 0.5],
        "2>3": [0.5, 0.35, 0.1, 0.05],
    }
    names = ("none", "skip", "conv3", "avg3")
    found = {slot: names[place] for slot, place in next(ranked(space.supernet(), shares, 2)).items()}
    expected = {"0>1": "skip", "0>2": "conv3", "1>2": "skip", "0>3": "skip", "1>3": "avg3", "2>3": "none"}
    assert found == expected
    kept = next(ranked(space.supernet(), shares, 1))
    assert [slot for slot, place in kept.items() if place] == ["0>1", "0>2", "1>3"]


def test_what_is_reported_says_which_choice_is_taken_and_what_it_weighs():
    bilevel = Bilevel(supernet(), DATA, DartsSettings(epochs=8, batch=16))
    bilevel.train_epoch()
    told = bilevel.metrics(DATA)
    assert told["search/progress"] == 1 / 8
    for slot in SPACE.slots:
        alphas = [told[f"alpha/{slot}/{place}-{name}"] for place, name in enumerate(("none", "skip", "conv3", "avg3"))]
        assert math.isclose(sum(alphas), 1, rel_tol=1e-6)
    for rank, network in enumerate(bilevel.derived(), 1):
        names = [f"choice/{slot}" if rank == 1 else f"rival/{rank}/{slot}" for slot in network]
        assert [told[name] for name in names] == list(network.values())


@pytest.mark.parametrize("order", [1, 2])
def test_only_the_second_order_looks_at_the_images_of_the_weights(order):
    ends = []
    for rows in (slice(0, 16), slice(16, 32)):
        bilevel = Bilevel(supernet(), DATA, DartsSettings(batch=16, order=order, alpha_lr=0.1))
        bilevel.network.train()
        train = tuple(part[rows] for part in bilevel.train)
        bilevel.architecture_step(train, bilevel.valid, 0.5)
        ends.append(bits(bilevel.alphas))
    assert same(*ends) == (order == 1)


def test_the_step_of_the_architecture_is_adams_with_the_papers_momenta():
    bilevel = Bilevel(supernet(), DATA, DartsSettings(batch=16, order=1, alpha_weight_decay=0.0))
    slopes = architecture_gradient(bilevel.network, bilevel.train, bilevel.valid, 0.0)
    bilevel.architecture_step(bilevel.train, bilevel.valid, 0.1)
    for alpha, slope in zip(bilevel.alphas, slopes, strict=True):
        state = bilevel.architect.state[alpha]
        torch.testing.assert_close(state["exp_avg"], 0.5 * slope, rtol=1e-4, atol=0.0)  # beta1 = .5
        torch.testing.assert_close(state["exp_avg_sq"], 0.001 * slope**2, rtol=1e-4, atol=0.0)  # beta2 = .999


def test_the_gradient_of_the_weights_is_clipped():
    bilevel = Bilevel(supernet(), DATA, DartsSettings(batch=16, clip=1e-3, weight_decay=0.0))
    bilevel.weight_step(bilevel.train)
    moved = [state["momentum_buffer"] for state in bilevel.optimiser.state.values()]
    assert float(torch.sqrt(sum((each**2).sum() for each in moved))) == pytest.approx(1e-3, rel=1e-3)


def test_the_learning_rate_falls_along_one_cosine():
    bilevel = Bilevel(supernet(), DATA, DartsSettings(epochs=4, batch=32, lr=0.4, lr_end=0.0, order=1))
    rates = []
    for _ in range(4):
        bilevel.train_epoch()
        rates.append(bilevel.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi * quarter / 4)) for quarter in range(4)])


def test_what_is_derived_after_the_best_are_the_next_heaviest_networks_within_the_bound():
    bilevel = Bilevel(supernet(), DATA, DartsSettings(batch=16, retrain=5))
    derived = bilevel.derived()
    assert len({bilevel.bounds.network(choice)[0] for choice in derived}) == 5
    sizes = [bilevel.bounds.network(choice)[1] for choice in derived]
    smaller = Bilevel(supernet(), DATA, DartsSettings(batch=16, retrain=5, max_parameters=min(sizes)))
    assert max(smaller.bounds.network(choice)[1] for choice in smaller.derived()) <= min(sizes) < max(sizes)
    impossible = Bilevel(supernet(), DATA, DartsSettings(batch=16, max_parameters=1))
    with pytest.raises(KatibFlowError, match=r"settings: max_parameters: 1: no network within these bounds among"):
        impossible.derived()


def test_after_the_best_come_the_likeliest_networks_not_those_of_the_largest_sum_of_weights():
    space = space_of(Architecture(space="cell", settings={"nodes": 3, "stages": 1}))
    shares = {"0>1": [0.1, 0.5, 0.3, 0.1], "0>2": [0.7, 0.2, 0.06, 0.04], "1>2": [0.0, 0.9, 0.06, 0.04]}
    found = [tuple(choice[slot] for slot in shares) for choice in ranked(space.supernet(), shares, 2)]
    chances = [np.prod([of[place] for of, place in zip(shares.values(), places, strict=True)]) for places in found]
    assert found[:2] == [(1, 1, 1), (2, 1, 1)]  # .3 for .5, though .06 for .2 would cost less of the sum
    assert len(found) == 27
    assert chances == pytest.approx(sorted(chances, reverse=True))
