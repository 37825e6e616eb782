"""Q-learning against value iteration, and what shaping is for."""

import itertools

import numpy as np
import pytest

from katib_flow.nas.qtable import QTable, Slots, packed, unpacked

COUNTS = (3, 4, 3)
GAIN = np.random.default_rng(3).random((4, 3))
"""Of the last two decisions; the first is worth nothing."""


def taught(episodes=4_000, **how):
    table = QTable(Slots.named(["a", "b", "c"], COUNTS), rate=0.5, **how)
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        (tokens,) = table.sample(rng)
        table.learn(tokens, GAIN[tokens[1], tokens[2]])
    return table


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_it_comes_to_the_values_of_value_iteration(discount):
    table = taught(shaping="none", discount=discount)
    best_last = GAIN.max(axis=1)  # of each second decision
    for first, second in itertools.product(range(3), range(4)):
        assert table.values[(2, second)] == pytest.approx(list(GAIN[second]), abs=1e-2)
        assert table.values[(1, first)] == pytest.approx(list(discount * best_last), abs=1e-2)
    assert table.values[(0,)] == pytest.approx([discount**2 * best_last.max()] * 3, abs=1e-2)


def test_an_even_share_of_the_reward_is_added_to_what_follows():
    table = QTable(Slots.named(["a", "b", "c"], COUNTS), rate=1.0, shaping="even")
    table.learn([1, 2, 0], 6.0)
    assert table.values == {(0,): [0, 10.0, 0], (1, 1): [0, 0, 8.0, 0], (2, 2): [6.0, 0, 0]}


def test_a_value_moves_by_the_rate_towards_what_was_learnt():
    table = QTable(Slots.named(["a"], [2]), rate=0.25)
    for expected in (1.0, 1.75):
        table.learn([1], 4.0)
        assert table.values[(0,)] == [0, expected]


def test_without_chance_it_takes_what_is_worth_most_and_draws_among_equals():
    table = QTable(Slots.named(["a", "b"], [3, 2]), rate=1.0, epsilon=0.0)
    table.values = {(0,): [1.0, 2.0, 2.0], (1, 1): [0.0, -1.0], (1, 2): [0.0, 1.0]}
    rows = {tuple(int(token) for token in row) for row in table.sample(np.random.default_rng(1), 40)}
    assert rows == {(1, 0), (2, 1)}


def test_chance_decides_as_often_as_epsilon_says():
    table = QTable(Slots.named(["a"], [4]), rate=1.0, epsilon=0.4)
    table.values = {(0,): [0.0, 1.0, 0.0, 0.0]}
    share = np.mean(table.sample(np.random.default_rng(2), 4_000)[:, 0] != 1)
    assert share == pytest.approx(0.4 * 3 / 4, abs=4 * np.sqrt(0.3 * 0.7 / 4_000))


LAYERS = 5


def is_active(row, slot, before):
    return not slot or before[slot - 1] == 0  # 0 goes on, 1 ends


def length(shaping, seed):
    """Of greedy blocks, after some whose reward is equal however long they are."""
    table = QTable(Slots.named([f"{layer}.kind" for layer in range(LAYERS)], [2] * LAYERS), rate=0.1, shaping=shaping)
    rng = np.random.default_rng(seed)
    for _ in range(150):
        (tokens,) = table.sample(rng, 1, is_active)
        table.learn(tokens, 1.0)
    table.epsilon = 0.0
    return np.mean((table.sample(rng, 20, is_active) >= 0).sum(axis=1))


def test_without_shaping_ending_early_is_overrated_at_first():
    pairs = np.array([[length(shaping, seed) for shaping in ("even", "none")] for seed in range(20)])
    assert (pairs[:, 0] >= pairs[:, 1]).all()
    assert pairs[:, 0].mean() > pairs[:, 1].mean() + 1


def test_a_state_is_the_layer_before_and_what_was_decided_of_its_own():
    slots = Slots.named(["1.kind", "1.first", "2.kind", "2.first", "2.second", "3.kind"], [9] * 6)
    assert slots.layers == (0, 0, 1, 1, 1, 2)
    tokens = [4, 5, 6, 7, -1, 8]
    assert slots.state(1, tokens) == (1, 4)
    assert slots.state(3, tokens) == (3, 4, 5, 6)
    assert slots.state(5, tokens) == (5, 6, 7, -1)


def test_a_slot_that_is_inactive_is_neither_decided_on_nor_learnt():
    table = QTable(Slots.named(["a", "b", "c"], COUNTS), rate=1.0, shaping="none")
    table.learn([0, -1, 2], 3.0)
    assert table.values == {(0,): [3.0, 0, 0], (2, -1): [0, 0, 3.0]}


def test_what_is_packed_is_the_table():
    table = taught(50)
    again = QTable(table.slots, rate=0.5)
    unpacked(again, packed(table))
    assert again.values == table.values


@pytest.mark.parametrize(
    "rows",
    [[[[], [1.0]]], [[[7], [1.0, 0, 0]]], [[[0], [1.0]]], [[[0], ["x", 0, 0]]], [[[0], [float("nan"), 0, 0]]], 3],
)
def test_what_is_no_table_is_refused(rows):
    with pytest.raises(ValueError):
        unpacked(QTable(Slots.named(["a", "b", "c"], COUNTS), rate=0.5), rows)
