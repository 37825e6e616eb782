"""The controller as an algorithm: taught from the history alone, and better than chance."""

from collections import Counter

import numpy as np
import pytest
from kit import spec, trial
from landscape import SLOTS, best, ended, every_loss, play, search, shuffled

from katib_flow.algorithms.registry import Ask, find_algorithm
from katib_flow.errors import InvalidSpec
from katib_flow.history import History, Kind, Origin, State, Suggestion
from katib_flow.loop import suggest
from katib_flow.nas.policy import batches
from katib_flow.nas.systems.nas_rl import NasRlSettings, rewards
from katib_flow.nas.tokens import encoded
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

pytest.importorskip("torch")
CODE = dict(zip(SLOTS, ("conv5", "conv1", "sep3", "conv3", "conv3", "conv5"), strict=True))


def wrong(assignment) -> float:
    """How many decisions differ from a secret code."""
    return float(sum(assignment[slot] != CODE[slot] for slot in SLOTS))


def ask(made: Experiment, history: History) -> Ask:
    algorithm = find_algorithm("nas-rl")
    assert algorithm
    return Ask(made, history, range(0), algorithm.settings_of(made))


def test_it_finds_a_planted_optimum():
    """The code has 18 neighbours at distance 1 among 4,096; 240 random trials find it with odds of 6 in 100."""
    assert sum(best(play(search("nas-rl", seed), 240, 8, wrong)) == 0 for seed in range(2)) == 2


def test_it_decides_on_what_did_well_ever_more_often():
    """By chance 4.5 decisions are wrong, 0.17 more or less in the mean of 40; only 154 cells have no more than two."""
    history = play(search("nas-rl"), 120, 8, wrong)
    assert np.mean([wrong(each.assignment) for each in history[-40:]]) < 3.5


def test_results_of_others_teach_it_something_else():
    made = search("nas-rl")
    history = play(made, 120, 8, wrong)
    assert suggest(made, history, 8) != suggest(made, shuffled(history), 8)
    held = History(tuple(ended(t.suggestion, 1.0) for t in history))
    untaught = [wrong(each.assignment) for each in suggest(made, held, 40)]
    taught = [wrong(each.assignment) for each in suggest(made, history, 40)]
    assert np.mean(taught) < np.mean(untaught) - 1


def test_it_beats_random_search_at_equal_cost():
    """As amoebanet's test, but of the mean over 3 seeds."""
    losses = every_loss()
    rank = np.arange(1, len(losses) + 1)
    expected = float(np.diff(1 - (1 - rank / len(losses)) ** 100, prepend=0.0) @ losses)
    assert np.mean([best(play(search("nas-rl", seed), 100, 4)) for seed in range(3)]) < expected


def test_four_segments_of_fifteen_equal_one_of_sixty():
    made = search("nas-rl", seed=3)
    straight, again = play(made, 60), History()
    for most in (15, 30, 45, 60):
        again = play(made, most, history=History(tuple(reversed(again.trials))))  # nothing is kept from one to the next
        assert again == History(straight.trials[:most])


def test_a_batch_has_its_trials_and_what_was_decided_on_again():
    made, space = search("nas-rl", batch=2, power=2), search_space(search("nas-rl"))
    some = [space.nth(position) for position in (5, 900, 2000, 77)]
    repeats = [(), (), (0, 1, 0), ()]
    values = [3.0, 1.0, 2.0, None]
    trials = [
        ended(Suggestion(index, each, origin=Origin(repeats=known)), value)
        for index, (each, known, value) in enumerate(zip(some, repeats, values, strict=True))
    ]
    first, second = batches(ask(made, History(tuple(trials))), rewards)
    tokens = [encoded(space, each) for each in some]
    assert first.tokens == (tokens[0], tokens[1])
    assert first.rewards == (0.25, 1.0)  # no worse than half of the two, than both
    assert second.tokens == (tokens[2], tokens[3], tokens[0], tokens[1], tokens[0])
    third = (1 / 3) ** 2
    assert second.rewards == pytest.approx(((2 / 3) ** 2, 0.0, third, 1.0, third))


def test_what_it_decides_on_again_is_named_as_often_as_it_does():
    """Of four points three are known, and the controller has learnt nothing: it comes upon the fourth by chance."""
    parameters = {name: {"type": "categorical", "values": [0, 1]} for name in "ab"}
    counts = []
    for seed in range(12):
        made = Experiment.parse(spec(parameters=parameters, algorithm={"name": "nas-rl", "seed": seed}))
        known = [Suggestion(index, {"a": index // 2, "b": index % 2}) for index in range(3)]
        history = History(tuple(trial(each, State.SUCCEEDED, "accuracy", 0.5) for each in known))
        (fourth,) = suggest(made, history, 1)
        assert dict(fourth.assignment) == {"a": 1, "b": 1}
        assert set(fourth.origin.repeats) <= {0, 1, 2}
        counts.append(len(fourth.origin.repeats))
    assert 1 < np.mean(counts) < 6  # three on average


def test_what_the_user_named_is_no_decision_to_learn_from_but_one_to_be_compared_with():
    made, space = search("nas-rl", batch=2, power=1), search_space(search("nas-rl"))
    origins = [Origin(Kind.GIVEN), Origin(), Origin()]
    trials = [
        ended(Suggestion(index, space.nth(7 * index), origin=origin), value)
        for index, (origin, value) in enumerate(zip(origins, (2.0, 1.0, 3.0), strict=True))
    ]
    (batch,) = batches(ask(made, History(tuple(trials))), rewards)
    assert batch.tokens == (encoded(space, space.nth(7)), encoded(space, space.nth(14)))
    assert batch.rewards == pytest.approx((1.0, 1 / 3))  # no worse than all three, than itself


def test_a_batch_that_still_runs_is_waited_for_by_later_ones_but_nobody_else():
    made = search("nas-rl", batch=4)
    history = play(made, 12, 4)
    running = history.replaced([type(history[5])(history[5].suggestion)])
    assert len(list(batches(ask(made, running), rewards))) == 1
    assert len(suggest(made, running, 3)) == 3


def test_ranges_are_decided_on_by_parts():
    parameters = {
        "lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"},
        "wide": {"type": "int", "min": 1, "max": 1000},
        "op": {"type": "categorical", "values": list(range(20))},
    }
    made = Experiment.parse(spec(parameters=parameters, algorithm={"name": "nas-rl", "seed": 2}))
    tokens = Counter(tuple(encoded(search_space(made), each.assignment)) for each in suggest(made, History(), 400))
    columns = list(zip(*tokens, strict=True))
    assert [len(set(column)) for column in columns] == [16, 16, 20]


def test_a_space_without_a_slot_is_refused() -> None:
    made = Experiment.parse(spec(parameters={}, architecture="chain", algorithm="nas-rl"))
    with pytest.raises(InvalidSpec, match=r"architecture.space: found 'chain', need a space with slots"):
        suggest(made, History(), 1)


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("accuracy", (0.5**3, 0.8**3, 0.0, 0.0)),
        ("perplexity", (80 / 4**2, 80 / 2**2, 0.0, 80.0)),
    ],
)
def test_the_rewards_of_the_paper(reward, expected):
    """Zoph and Le, ICLR 2017: the accuracy to the power of 3 (section 4.1); 80 / perplexity^2 (section 4.2)."""
    losses = {"accuracy": [-0.5, -0.8, np.nan, 0.2], "perplexity": [4.0, 2.0, np.nan, 0.5]}[reward]
    settings = NasRlSettings(reward=reward)
    assert rewards(settings, np.array(losses)[:, None], [0, 1, 2, 3]) == pytest.approx(expected)


def test_an_infinite_perplexity_is_worth_nothing():
    assert rewards(NasRlSettings(reward="perplexity"), np.array([[np.inf], [1.0]]), [0, 1]) == [0.0, 80.0]


@pytest.mark.parametrize(
    ("reward", "direction", "need"), [("accuracy", "minimize", "maximize"), ("perplexity", "maximize", "minimize")]
)
def test_a_reward_that_does_not_go_with_the_objective_is_refused(reward, direction, need):
    objective = {"metric": "value", "direction": direction}
    algorithm = {"name": "nas-rl", "settings": {"reward": reward}}
    made = Experiment.parse(spec(objective=objective, architecture="tree", algorithm=algorithm))
    with pytest.raises(InvalidSpec, match=rf"settings\.reward: found '{reward}', need rank, or an objective to {need}"):
        suggest(made, History(), 1)


def cells(seed=0, **settings):
    """A search over recurrent cells."""
    objective = {"metric": "loss", "direction": "minimize"}
    algorithm = {"name": "nas-rl", "seed": seed, "settings": settings}
    small = {"space": "tree", "settings": {"tokens": 3, "features": 2}}
    made = spec(objective=objective, parameters={}, architecture=small, algorithm=algorithm)
    return Experiment.parse(made | {"limits": {"max_trials": 5000}})


CELL = {
    "0.merge": "add", "0.act": "tanh", "1.merge": "mul", "1.act": "relu", "2.merge": "mul", "2.act": "sigmoid",
    "state.merge": "add", "state.act": "relu", "state.to": 0, "state.from": "1.in",
}  # fmt: skip


def perplexity(assignment):
    """1 and a half for each decision that is not the paper's cell."""
    return 1 + 0.5 * sum(assignment[slot] != value for slot, value in CELL.items())


@pytest.mark.parametrize("reward", ["rank", "perplexity"])
def test_it_learns_which_recurrent_cells_did_well_but_nothing_from_the_results_of_others(reward):
    """By chance 6.3 of 10 decisions are wrong, so a perplexity of 4.2, 0.1 more or less in the mean of 32."""
    made = cells(reward=reward)
    space, rng = search_space(made), np.random.default_rng(1)
    drawn = [Suggestion(index, space.draw(rng)) for index in range(160)]
    history = History(tuple(ended(each, perplexity(each.assignment)) for each in drawn))
    of_its_own, of_others = (
        np.mean([perplexity(each.assignment) for each in suggest(made, told, 32)])
        for told in (history, shuffled(history))
    )
    assert of_its_own < 2.5
    assert of_others > 3.8
