"""A policy over edits: what it reads, what it chooses, and that it learns the score function's way."""

import math
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (the extra nas)")
import torch

from katib_flow.nas.controller import Teaching, packed, unpacked
from katib_flow.nas.encoder import Drawn, Editor, EditPolicy, Impossible, Repeated, Shape
from katib_flow.nas.moves import Move

TEACHING = Teaching(lr=0.02, decay=0.9)
SHAPE = Shape(6, {"flag": 1, "kind": 3}, decoded=(2, 3), outside=1, embedding=4, units=5)


def flags(policy, seen, choose):
    for state in policy.encode(seen).states:
        choose(policy.flag("flag", state))


def kinds(policy, seen, choose):
    choose(policy.logits("kind", policy.encode(seen).states[0]))


def decoded(policy, seen, choose):
    """One of two; then nothing more, or one of three."""
    return policy.decode(policy.encode(seen), choose, lambda choices: 3 * choices[0] if choices else 2)


MOVES = {"flags": flags, "kinds": kinds, "decoded": decoded}


def editor(seed=0, teaching=TEACHING):
    return Editor(SHAPE, MOVES, teaching, seed)


def every(kind, seen):
    """All moves of a kind."""
    chosen = {
        "flags": [tuple(bits) for bits in np.ndindex(*[2] * len(seen))],
        "kinds": [(0,), (1,), (2,)],
        "decoded": [(0,), (1, 0), (1, 1), (1, 2)],
    }
    return [Move(kind, tuple(seen), each) for each in chosen[kind]]


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("seen", [(1,), (0, 5, 2), (3, 3, 1, 4)])
def test_the_chances_of_all_moves_add_up_to_one(kind, seen):
    logs = [torch.stack(editor().repeat(move).logs).sum() for move in every(kind, seen)]
    assert torch.stack(logs).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_moves_are_drawn_as_often_as_they_are_likely():
    known, rng = editor(), np.random.default_rng(0)
    known.policy.out[0].bias.data += torch.tensor([0.0, 1.5])
    moves = every("decoded", (0, 2))
    drawn = Counter(known.draw("decoded", (0, 2), rng).chosen for _ in range(1000))
    for move in moves:
        chance = math.exp(sum(log.item() for log in known.repeat(move).logs))
        assert drawn[move.chosen] == pytest.approx(1000 * chance, abs=4.5 * math.sqrt(1000 * chance * (1 - chance)))


def test_the_same_weights_read_networks_of_three_and_of_twelve_layers():
    known = editor()
    sizes = [tuple(weight.shape) for weight in known.policy.parameters()]
    for length in (3, 12):
        move = known.draw("flags", (1,) * length, np.random.default_rng(0))
        assert len(move.chosen) == length
        known.learn([(move,)], np.array([1.0]))
    assert [tuple(weight.shape) for weight in known.policy.parameters()] == sizes


def test_a_state_knows_the_tokens_on_both_sides_of_it():
    policy = EditPolicy(SHAPE, 0)
    states = policy.encode((0, 1, 2)).states
    for seen in ((3, 1, 2), (0, 1, 3)):
        assert (policy.encode(seen).states[1] - states[1]).abs().max().item() > 1e-3
    units = SHAPE.units
    ahead, back = policy.encode((0, 1, 3)).states[1], states[1]
    assert torch.equal(ahead[:units], back[:units])  # forwards, it has not come to the last


def test_the_last_state_is_that_of_the_last_token_forwards_and_of_the_first_backwards():
    encoded, units = EditPolicy(SHAPE, 0).encode((0, 1, 2)), SHAPE.units
    ends = torch.cat([encoded.states[-1, :units], encoded.states[0, units:]])
    assert torch.allclose(encoded.last[0][0], ends)


def test_a_flag_is_the_sigmoid_of_its_head():
    policy = EditPolicy(SHAPE, 0)
    state = policy.encode((0,)).states[0]
    logs = policy.flag("flag", state).log_softmax(dim=0)
    assert logs[1].item() == pytest.approx(torch.nn.functional.logsigmoid(policy.heads["flag"](state)).item())


def test_attention_is_the_scaled_product_of_a_query_and_keys():
    policy, keys = EditPolicy(SHAPE, 0), torch.rand(3, 10, dtype=torch.float64)
    state = policy.encode((0,)).states[0]
    expected = [sum(k * q for k, q in zip(key, (policy.query @ state).tolist(), strict=True)) for key in keys.tolist()]
    assert policy.attention(state, keys).tolist() == pytest.approx([each / math.sqrt(10) for each in expected])


def test_what_the_decoder_chose_decides_on_what_it_chooses_next():
    policy = EditPolicy(SHAPE, 0)
    seen: list[list[float]] = []
    for first in (0, 1):
        choices = iter([first, 0])

        def choose(logits, choices=choices):
            seen.append(logits.tolist())
            return next(choices)

        policy.decode(policy.encode((1, 2)), choose, lambda choices: (2, 3)[len(choices)])
    assert seen[0] == seen[2]
    assert seen[1] != seen[3]
    assert [len(logits) for logits in seen] == [2, 3, 2, 3]


def test_its_mean_update_is_the_slope_of_the_expected_reward():
    """All episodes with their chances as weights: the score function against the expectation, differentiated."""
    known, seen = editor(), (0, 4, 2)
    moves = every("flags", seen)
    rewards = np.random.default_rng(0).normal(size=len(moves))
    logs = torch.stack([torch.stack(known.repeat(move).logs).sum() for move in moves])
    (logs.exp() * torch.from_numpy(rewards)).sum().backward()
    weights = dict(known.policy.named_parameters())
    expected = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
    known.baseline = 0.0
    known.learn([(move,) for move in moves], rewards * logs.exp().detach().numpy() * len(moves))
    assert len(expected) > 5
    for name, slope in expected.items():  # what was left of it after the step
        assert torch.allclose(weights[name].grad, slope, atol=1e-9), name


def test_a_bonus_for_entropy_is_its_slope():
    known = editor(teaching=Teaching(lr=0.02, decay=0.9, entropy=0.5))
    known.policy.heads["kind"].bias.data[:] = torch.tensor([2.0, 0.0, -1.0])
    move = Move("kinds", (1,), (2,))
    (entropy,) = known.repeat(move).entropies
    shares = [math.exp(known.repeat(each).logs[0].item()) for each in every("kinds", (1,))]
    assert entropy.item() == pytest.approx(-sum(share * math.log(share) for share in shares))
    for _ in range(20):
        known.learn([(move,)], np.array([3.0]))  # as good as ever: nothing but entropy to gain
    assert known.repeat(move).entropies[0].item() > entropy.item() + 0.05
    assert known.repeat(move).logs[0].item() > math.log(shares[2])


def test_the_reward_counts_against_the_moving_mean_of_those_before():
    known = editor()
    move = Move("kinds", (1,), (2,))
    known.learn([(move,)], np.array([3.0]))
    assert known.baseline == 3.0
    before = [weight.clone() for weight in known.policy.parameters()]
    known.learn([(move,), (move,)], np.array([4.0, 4.0]))
    assert known.baseline == pytest.approx(0.9 * 3.0 + 0.1 * 4.0)
    assert any(not torch.equal(one, two) for one, two in zip(before, known.policy.parameters(), strict=True))


@pytest.mark.parametrize(
    "move",
    [
        Move("jump", (1,), (0,)),
        Move("kinds", (), (0,)),
        Move("kinds", (6,), (0,)),
        Move("kinds", (1,), (3,)),
        Move("kinds", (1,), ()),
        Move("kinds", (1,), (0, 0)),
        Move("decoded", (1,), (0, 1)),
    ],
)
def test_a_move_that_it_cannot_have_made_is_refused_and_teaches_nothing(move):
    known, other = editor(), editor()
    with pytest.raises(Impossible):
        known.repeat(move)
    good = Move("kinds", (1,), (2,))
    known.learn([(move,), (good,)], np.array([100.0, 1.0]))
    other.learn([(good,)], np.array([1.0]))
    assert packed(known) == packed(other)
    known.learn([(good, move)], np.array([7.0]))
    assert packed(known) == packed(other)


def test_what_it_learnt_is_gone_on_from():
    moves = [(move,) for move in every("decoded", (2, 3))]
    one = editor()
    one.learn(moves, np.arange(4.0))
    again = unpacked(editor(), packed(one))
    for known in (one, again):
        known.learn(moves, np.arange(4.0)[::-1].copy())
    assert packed(one) == packed(again)
    assert packed(one) != packed(editor())


@pytest.mark.parametrize(("number", "position"), [(0.0, 0), (0.24, 0), (0.26, 1), (0.99999, 1)])
def test_a_choice_is_where_a_number_falls_among_the_chances(number, position):
    class Fixed:
        def random(self):
            return number

    assert Drawn(Fixed())(torch.tensor([0.25, 0.75], dtype=torch.float64).log()) == position


def test_a_repeated_choice_counts_once():
    repeated = Repeated((1, 0))
    logits = torch.zeros(2, dtype=torch.float64)
    assert [repeated(logits), repeated(logits)] == [1, 0]
    with pytest.raises(Impossible):
        repeated(logits)
