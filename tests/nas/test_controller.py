"""The controller's gradient against automatic differentiation and exact enumeration; what it learns."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from katib_flow.nas.controller import Controller, Shape

SHAPE = Shape((3, 2, 4), units=5, layers=2, spread=0.7)


def every(choices: tuple[int, ...]) -> np.ndarray:
    return np.array(list(itertools.product(*(range(count) for count in choices))))


def drawn(shape: Shape, seed: int = 0) -> Controller:
    return Controller.drawn(shape, np.random.default_rng(seed))


def objective(controller: Controller, tokens, advantage):
    """Log-probabilities by torch's own LSTM, entropy and divergence as torch has them, differentiated."""
    torch = pytest.importorskip("torch")
    shape, units = controller.shape, controller.shape.units
    weights = {name: torch.tensor(each, requires_grad=True) for name, each in controller.weights.items()}
    cells = [torch.nn.LSTMCell(units, units).double() for _ in range(shape.layers)]
    order = [0, 1, 3, 2]  # torch has input, forget, cell, output; ours are input, forget, output, cell
    state = [(torch.zeros(len(tokens), units).double(),) * 2 for _ in cells]
    read, total = weights["start"].expand(len(tokens), units), 0.0
    for slot in range(len(shape.choices)):
        for layer, cell in enumerate(cells):
            parts = weights[f"lstm{layer}"].split(units, dim=1)
            bias = weights[f"bias{layer}"].split(units)
            both, lean = torch.cat([parts[n] for n in order], 1).T, torch.cat([bias[n] for n in order])
            given = {"weight_ih": both[:, :units], "weight_hh": both[:, units:], "bias_ih": lean}
            state[layer] = torch.func.functional_call(
                cell, {**given, "bias_hh": torch.zeros_like(lean)}, (read, state[layer])
            )
            read = state[layer][0]
        logits = read @ weights[f"out{slot}"] + weights[f"outbias{slot}"]
        if shape.squash is not None:
            logits = shape.squash * torch.tanh(logits / 5)
        policy = torch.distributions.Categorical(logits=logits)
        token = torch.tensor(tokens[:, slot])
        here = torch.tensor(advantage) * policy.log_prob(token.clamp(min=0)) + shape.entropy * policy.entropy()
        for wanted, weight in [each[1:] for each in shape.wanted if each[0] == slot]:
            other = torch.distributions.Categorical(probs=torch.tensor(wanted, dtype=torch.float64))
            here = here - weight * torch.distributions.kl_divergence(policy, other)
        total = total + (here * (token >= 0)).sum()
        read = weights[f"embed{slot}"][token + 1]
    total.backward()
    return {
        name: each.grad.numpy() if each.grad is not None else np.zeros(each.shape) for name, each in weights.items()
    }


@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        replace(SHAPE, layers=1, squash=2.5),
        replace(SHAPE, squash=2.5, entropy=0.3, wanted=((1, (0.6, 0.4), 0.8),)),
    ],
    ids=["plain", "squashed", "all"],
)
def test_the_gradient_is_that_of_automatic_differentiation(shape):
    rng = np.random.default_rng(1)
    tokens = np.array([[0, 1, 3], [2, -1, 0], [1, 0, -1], [0, 1, 3]])
    advantage = rng.normal(size=4)
    mine, theirs = drawn(shape).gradient(tokens, advantage), objective(drawn(shape), tokens, advantage)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_the_score_function_gradient_is_that_of_the_exact_expected_reward():
    """Over all sequences: sum of p R grad log p equals the numerical gradient of sum of p R."""
    controller, tokens = drawn(SHAPE), every(SHAPE.choices)
    rewards = np.random.default_rng(2).random(len(tokens))
    chances = np.exp(controller.log_probability(tokens))
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    slope = controller.gradient(tokens, chances * rewards)
    rng = np.random.default_rng(3)
    for name, weight in controller.weights.items():
        way = rng.normal(size=weight.shape)

        def expected(step: float, name=name, weight=weight, way=way) -> float:
            moved = replace(controller, weights={**controller.weights, name: weight + step * way})
            return float(np.exp(moved.log_probability(tokens)) @ rewards)

        numeric = (expected(1e-5) - expected(-1e-5)) / 2e-5
        assert float((slope[name] * way).sum()) == pytest.approx(numeric, rel=1e-6, abs=1e-9), name


def test_samples_come_as_often_as_their_probability_says():
    controller, rng = drawn(replace(SHAPE, spread=1.5)), np.random.default_rng(4)
    tokens = every(SHAPE.choices)
    chances = np.exp(controller.log_probability(tokens))
    places = {tuple(each): place for place, each in enumerate(tokens.tolist())}
    counts = np.zeros(len(tokens))
    for _ in range(2000):
        counts[places[controller.sample(rng)]] += 1
    chi_square = float(((counts - 2000 * chances) ** 2 / (2000 * chances)).sum())
    assert chi_square < 53  # 23 degrees of freedom: exceeded by chance with odds below 1 in 2,500


def test_a_slot_that_is_inactive_has_no_token_and_no_say():
    controller = drawn(SHAPE)
    assert controller.sample(np.random.default_rng(0), lambda slot, before: slot != 1)[1] == -1
    slope = controller.gradient(np.array([[1, -1, 2]]), np.ones(1))
    assert not slope["out1"].any()
    assert slope["out0"].any()


CODE = np.array([2, 0, 3, 1, 1, 2])


def planted(samples: int, lr: float, *, shuffle: bool = False, seed: int = 0) -> Controller:
    """Taught by the share of slots that equal a secret code; shuffled, each gets the reward of an earlier child."""
    rng = np.random.default_rng(seed)
    controller = Controller.drawn(Shape((4,) * 6), rng)
    before = rng.random(8)
    for _ in range(samples // 8):
        tokens = np.array([controller.sample(rng) for _ in range(8)])
        rewards = (tokens == CODE).mean(axis=1)
        controller = controller.learnt(tokens, before if shuffle else rewards, lr=lr, decay=0.9)
        before = rewards
    return controller


def chance_of(controller: Controller) -> float:
    return float(np.exp(controller.log_probability(CODE[None]))[0])


def test_it_concentrates_on_a_planted_optimum():
    for seed in range(3):
        assert chance_of(planted(480, 0.01, seed=seed)) > 0.5  # by chance 1 / 4096


def test_with_the_rewards_of_others_it_learns_nothing():
    assert max(chance_of(planted(480, 0.01, shuffle=True, seed=seed)) for seed in range(3)) < 0.1


def test_the_baseline_is_a_moving_mean_of_rewards_and_its_own_reward_does_not_count():
    controller, tokens = drawn(SHAPE), np.array([[0, 0, 0], [1, 1, 1]])
    once = controller.learnt(tokens, np.array([1.0, 3.0]), lr=0.0, decay=0.75)
    twice = once.learnt(tokens, np.array([6.0, 6.0]), lr=0.0, decay=0.75)
    assert (once.baseline, twice.baseline) == (2.0, 3.0)
    slope = once.gradient(tokens, np.array([4.0, 4.0]))  # 6 less the mean of the rewards before
    np.testing.assert_allclose(twice.first["out0"], 0.9 * once.first["out0"] + 0.1 * slope["out0"] / 2)


def test_adam_steps_as_torch_does():
    torch = pytest.importorskip("torch")
    controller, rng = drawn(SHAPE), np.random.default_rng(5)
    theirs = torch.nn.Parameter(torch.tensor(controller.weights["start"]))
    adam = torch.optim.Adam([theirs], lr=0.01, maximize=True)
    for _ in range(5):
        slope = {name: rng.normal(size=weight.shape) for name, weight in controller.weights.items()}
        theirs.grad = torch.tensor(slope["start"])
        adam.step()
        controller = controller.moved(slope, 0.01)
    np.testing.assert_allclose(controller.weights["start"], theirs.detach().numpy(), rtol=1e-6)
