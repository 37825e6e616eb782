"""The controller against enumeration, finite differences and torch's own distributions; what it learns by each rule."""

import itertools
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra nas)")

from katib_flow.nas.controller import PPO, Controller, Policy, Reinforce, Shape, Teaching, packed, unpacked  # noqa: E402

SHAPE = Shape((3, 2, 4), units=5, layers=2, spread=0.7)
SQUASHED = Shape((3, 2, 4), units=5, layers=1, spread=0.7, squash=2.5)
RULES = pytest.mark.parametrize("rule", [Reinforce(), PPO()], ids=["reinforce", "ppo"])


def every(choices: tuple[int, ...]) -> np.ndarray:
    return np.array(list(itertools.product(*(range(count) for count in choices))))


def chances(policy: Policy, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return policy.log_probability(torch.from_numpy(tokens)).sum(dim=1).exp().numpy()


def controller(shape: Shape = SHAPE, seed: int = 0, **teaching) -> Controller:
    return Controller(shape, Teaching(**{"lr": 0.01, "decay": 0.9, **teaching}), seed)


def slopes(made: Controller, tokens: np.ndarray, before, advantage) -> dict[str, np.ndarray]:
    """The gradient of what is maximised, by the names of the weights."""
    made.policy.zero_grad()
    made.objective(torch.from_numpy(tokens), before, torch.as_tensor(advantage)[:, None]).backward()
    return {name: weight.grad.numpy().copy() for name, weight in made.policy.named_parameters()}


def log_probability(made: Controller, tokens: np.ndarray):
    with torch.no_grad():
        return made.policy.log_probability(torch.from_numpy(tokens))


def test_the_first_weights_lie_evenly_on_both_sides_of_zero():
    weights = torch.cat([weight.detach().flatten() for weight in Policy(Shape((4,) * 6, spread=0.1), 0).parameters()])
    assert weights.abs().max() <= 0.1
    assert abs(float(weights.mean())) < 0.002  # of 20,000 draws with a deviation of 0.058
    assert float((weights.abs() < 0.05).double().mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [SHAPE, SQUASHED], ids=["plain", "squashed"])
def test_the_chances_of_all_sequences_sum_to_one(shape):
    assert chances(Policy(shape, 0), every(shape.choices)).sum() == pytest.approx(1, abs=1e-12)


def test_the_logits_are_those_of_an_lstm_read_step_by_step():
    """Written once more with a cell of torch's for each layer, one decision after the other."""
    policy, tokens = Policy(SQUASHED, 1), np.array([[0, 1, 3], [2, -1, 0], [1, 0, -1]])
    cell = torch.nn.LSTMCell(5, 5).double()
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in policy.core.named_parameters()})
    for row in tokens.tolist():
        hidden = state = torch.zeros(1, 5).double()
        read, total = policy.start[None], 0.0
        for slot, token in enumerate(row):
            hidden, state = cell(read, (hidden, state))
            logits = hidden[0] @ policy.out[slot] + policy.bias[slot]
            logits = 2.5 * torch.tanh(logits[: SQUASHED.choices[slot]] / 5)
            if token >= 0:
                total += torch.distributions.Categorical(logits=logits).log_prob(torch.tensor(token)).item()
            read = policy.embedded[slot, token + 1][None]
        assert math.log(chances(policy, np.array([row]))[0]) == pytest.approx(total, rel=1e-12)


@RULES
def test_the_gradient_is_that_of_the_expected_reward(rule):
    """Over all sequences: what is maximised, each weighted by its chance, rises as the expected reward does."""
    made, tokens = controller(rule=rule), every(SHAPE.choices)
    rewards = np.random.default_rng(2).random(len(tokens))
    share = chances(made.policy, tokens)
    slope = slopes(made, tokens, log_probability(made, tokens), len(tokens) * share * rewards)
    rng = np.random.default_rng(3)
    for name, weight in made.policy.named_parameters():
        way, at = torch.from_numpy(rng.normal(size=weight.shape)), weight.detach().clone()

        def expected(step: float, weight=weight, way=way, at=at) -> float:
            with torch.no_grad():
                weight.copy_(at + step * way)
            return float(chances(made.policy, tokens) @ rewards)

        numeric = (expected(1e-5) - expected(-1e-5)) / 2e-5
        expected(0.0)
        assert float((slope[name] * way.numpy()).sum()) == pytest.approx(numeric, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),  # within the clip: ratio times advantage, whose slope at log p is itself
        (1.5, 2.0, 2.4, 0.0),  # better, and as far as it may go: 1.2 times 2
        (0.5, 2.0, 1.0, 1.0),  # better, and less likely than it was: not clipped
        (0.5, -2.0, -1.6, 0.0),  # worse, and as unlikely as it may get: .8 times -2
        (1.5, -2.0, -3.0, -3.0),  # worse, and more likely than it was: not clipped
    ],
)
def test_ppo_gains_nothing_beyond_the_clip(ratio, advantage, value, slope):
    now = torch.tensor([[math.log(ratio) - 1.0]], dtype=torch.float64, requires_grad=True)
    gain = PPO(clip=0.2).objective(now, torch.tensor([[-1.0]]), torch.tensor([[advantage]]))
    gain.sum().backward()
    assert gain.item() == pytest.approx(value)
    assert now.grad is not None
    assert now.grad.item() == pytest.approx(slope)


def test_ppo_steps_along_a_batch_as_often_as_it_has_epochs_and_compares_with_the_policy_of_the_first():
    """One decision between two, and a reward above the baseline: its chance rises up to the clip, and no further."""
    made = controller(Shape((2,), units=3), rule=PPO(epochs=200, clip=0.2), lr=0.001)
    made.baseline = 0.0
    tokens = np.array([[1]])
    before = chances(made.policy, tokens)[0]
    made.learn(tokens, np.array([1.0]))
    assert made.state()["steps"] == 200
    assert 1.2 <= chances(made.policy, tokens)[0] / before < 1.25  # Adam goes on a little by its momentum


def test_entropy_and_what_is_wanted_are_those_of_torchs_distributions():
    made = controller(entropy=0.3, wanted=((1, (0.6, 0.4), 0.8),))
    tokens = np.array([[0, 1, 3], [2, -1, 0], [1, 0, -1]])
    decided = torch.from_numpy(tokens)
    advantage = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64)
    logs, total = made.policy(decided), 0.0
    for row, slot in itertools.product(range(3), range(3)):
        if tokens[row, slot] < 0:
            continue
        policy = torch.distributions.Categorical(logits=logs[row, slot, : SHAPE.choices[slot]])
        total = total + advantage[row, 0] * policy.log_prob(decided[row, slot]) + 0.3 * policy.entropy()
        if slot == 1:
            wanted = torch.distributions.Categorical(probs=torch.tensor([0.6, 0.4], dtype=torch.float64))
            total = total - 0.8 * torch.distributions.kl_divergence(policy, wanted)
    assert made.objective(decided, logs[:, :, 0], advantage).item() == pytest.approx(total.item() / 3, rel=1e-12)


def test_samples_come_as_often_as_their_probability_says():
    policy, rng = Policy(Shape((3, 2, 4), units=5, spread=1.5), 0), np.random.default_rng(4)
    tokens = every(SHAPE.choices)
    places = {tuple(each): place for place, each in enumerate(tokens.tolist())}
    counts, share = np.zeros(len(tokens)), chances(policy, tokens)
    for each in policy.sample(rng, 2000).tolist():
        counts[places[tuple(each)]] += 1
    chi_square = float(((counts - 2000 * share) ** 2 / (2000 * share)).sum())
    assert chi_square < 53  # 23 degrees of freedom: exceeded by chance with odds below 1 in 2,500


def test_a_slot_that_is_inactive_has_no_token_and_no_say():
    made = controller(entropy=0.1)
    drawn = made.sample(np.random.default_rng(0), 2, lambda row, slot, before: (row, slot) != (1, 1))
    assert (drawn >= 0).tolist() == [[True, True, True], [True, False, True]]
    slope = slopes(made, np.array([[1, -1, 2]]), torch.zeros(1, 3), np.ones(1))
    assert not slope["out"][1].any()
    assert slope["out"][0].any()
    assert slope["out"][2].any()


def test_a_slot_is_asked_for_with_the_tokens_before_it():
    asked = []
    made = controller()
    (drawn,) = made.sample(
        np.random.default_rng(0), 1, lambda row, slot, before: asked.append((slot, *before)) or slot != 1
    ).tolist()
    assert asked == [(0,), (1, drawn[0]), (2, drawn[0], -1)]


@RULES
def test_it_finds_the_best_arm_of_a_bandit(rule):
    """Four arms; the best pays .8 on average, the others .2 to .6, with noise."""
    means = np.array([0.2, 0.6, 0.8, 0.4])
    for seed in range(3):
        rng = np.random.default_rng(seed)
        made = controller(Shape((4,), units=8), seed, rule=rule, lr=0.03)
        for _ in range(40):
            tokens = made.sample(rng, 8)
            made.learn(tokens, means[tokens[:, 0]] + 0.1 * rng.normal(size=8))
        assert chances(made.policy, np.arange(4)[:, None])[2] > 0.8


CODE = np.array([2, 0, 3, 1])


def planted(rule, *, shuffle: bool = False, seed: int = 0) -> float:
    """The chance of a secret code, after 320 samples whose rewards are the share of slots that equal it.

    Args:
        shuffle: each gets the reward of an earlier sample.
    """
    rng = np.random.default_rng(seed)
    made = controller(Shape((4,) * 4), seed, rule=rule, lr=0.02 / rule.epochs)
    before = rng.random(8)
    for _ in range(40):
        tokens = made.sample(rng, 8)
        rewards = (tokens == CODE).mean(axis=1)
        made.learn(tokens, before if shuffle else rewards)
        before = rewards
    return float(chances(made.policy, CODE[None])[0])


@RULES
def test_it_concentrates_on_a_planted_optimum_and_with_the_rewards_of_others_on_nothing(rule):
    assert min(planted(rule, seed=seed) for seed in range(2)) > 0.9  # by chance 1 / 256
    assert planted(rule, shuffle=True) < 0.05


def test_the_baseline_is_a_moving_mean_of_rewards_and_its_own_reward_does_not_count():
    made, tokens = controller(lr=0.0, decay=0.75), np.array([[0, 0, 0], [1, 1, 1]])
    made.learn(tokens, np.array([1.0, 3.0]))
    assert made.baseline == 2.0
    moment = made.state()["first/out"].numpy()
    made.learn(tokens, np.array([6.0, 6.0]))
    assert made.baseline == 3.0
    slope = slopes(made, tokens, log_probability(made, tokens), np.array([4.0, 4.0]))  # 6 less the mean before
    np.testing.assert_allclose(made.state()["first/out"], 0.9 * moment + 0.1 * slope["out"], atol=1e-15)


def test_it_steps_as_torchs_own_adam_does_uphill():
    made, rng, tokens = controller(lr=0.01, decay=0.0), np.random.default_rng(5), every(SHAPE.choices)
    other = Policy(SHAPE, 0)
    adam = torch.optim.Adam(other.parameters(), lr=0.01, maximize=True)
    decided, baseline = torch.from_numpy(tokens), None
    for _ in range(5):
        rewards = rng.random(len(tokens))
        baseline = rewards.mean() if baseline is None else baseline
        adam.zero_grad()
        gain = torch.from_numpy(rewards - baseline)[:, None] * other.log_probability(decided)
        gain.sum(dim=1).mean().backward()
        adam.step()
        made.learn(tokens, rewards)
        baseline = rewards.mean()
    for mine, theirs in zip(made.policy.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@RULES
def test_what_is_packed_goes_on_as_if_nothing_had_been(rule):
    made, tokens, rng = controller(rule=rule), every(SHAPE.choices), np.random.default_rng(1)
    for _ in range(3):
        made.learn(tokens, rng.random(len(tokens)))
    again = unpacked(controller(rule=rule, seed=9), packed(made))
    assert packed(again) == packed(made)
    rewards = rng.random(len(tokens))
    for each in (made, again):
        each.learn(tokens, rewards)
    assert packed(again) == packed(made)
    assert (again.sample(np.random.default_rng(0), 9) == made.sample(np.random.default_rng(0), 9)).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        pickle.dumps({"baseline": 1.0}),
        packed(controller(Shape((3, 2, 5), units=5))),
        packed(controller(Shape((3, 2, 4), units=6))),
    ],
    ids=["empty", "json", "pickle", "other slots", "other units"],
)
def test_what_is_no_state_of_such_a_controller_is_refused(content):
    with pytest.raises(ValueError, match=r"not valid safetensors|not the state of this controller"):
        unpacked(controller(), content)


def test_fewer_steps_than_none_are_refused():
    kept = controller().state() | {"steps": torch.tensor(-1.0, dtype=torch.float64)}
    with pytest.raises(ValueError, match="not the state of this controller: steps"):
        controller().restore(kept)


def test_weights_that_are_no_numbers_are_refused():
    made = controller()
    with torch.no_grad():
        made.policy.out[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="not the state of this controller: weight/out"):
        unpacked(controller(), packed(made))


def test_it_comes_to_the_same_bits_whatever_the_number_of_threads():
    ends = []
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        made, rng = controller(Shape((16,) * 40, units=128)), np.random.default_rng(0)
        made.learn(made.sample(rng, 64), rng.random(64))
        ends.append(packed(made))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert ends[0] == ends[1]
