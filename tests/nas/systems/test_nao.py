"""NAO: rounds of training, seeds that are improved in the space of codes, and what that is worth."""

import numpy as np
import pytest
from kit import spec
from landscape import ALONE, CELL, SLOTS, ended, play, search

from katib_flow.algorithms.learning import taught
from katib_flow.algorithms.registry import Ask, find_algorithm
from katib_flow.history import History, Kind, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

pytest.importorskip("torch", reason="needs torch (the extra nas)")
from katib_flow.nas import latent
from katib_flow.nas.systems.nao import LatentLearner, Learnt, _improved

OPERATIONS = CELL["settings"]["operations"]
SMALL = {"hidden": 48, "embedding": 16, "training_steps": 100, "lr": 0.01}


def ask(made, history=None):
    algorithm = find_algorithm("nao")
    assert algorithm is not None
    return Ask(made, history or History(), range(0), algorithm.settings_of(made))


def alone(assignment) -> float:
    """What each choice costs by itself."""
    return float(sum(ALONE[slot, OPERATIONS.index(assignment[name])] for slot, name in enumerate(SLOTS)))


def neighbours(assignment):
    return [{**assignment, slot: value} for slot in SLOTS for value in OPERATIONS if value != assignment[slot]]


@pytest.fixture(scope="module")
def history():
    return play(search("nao", 2, initial=80, batch=20, **SMALL), 120, 20, of=alone)


def test_what_is_decoded_is_better_than_neighbours_of_its_seeds_and_goes_beyond_these(history):
    improved = [trial for trial in history if trial.suggestion.origin.kind is Kind.MODIFY]
    assert len(improved) == 40
    ours = [alone(trial.assignment) for trial in improved]
    seeds = [history[trial.suggestion.origin.parents[0]].assignment for trial in improved]
    by_chance = [np.mean([alone(neighbour) for neighbour in neighbours(seed)]) for seed in seeds]
    assert np.mean(ours[:20]) < np.mean(by_chance[:20]) - 0.15
    assert np.mean(ours[:20]) < np.mean([alone(seed) for seed in seeds[:20]])
    assert min(ours) < min(alone(trial.assignment) for trial in history[:80])


def test_seeds_are_the_best_so_far(history):
    order = sorted(history[:80], key=lambda trial: alone(trial.assignment))
    best = {trial.index for trial in order[:10]}
    for trial in history[80:100]:
        assert set(trial.suggestion.origin.parents) <= best
    assert len({trial.suggestion.origin.parents for trial in history[80:100]}) > 1


def test_it_draws_by_chance_before_there_is_a_model(history):
    assert all(trial.suggestion.origin.kind is Kind.GENERATE for trial in history[:80])


def test_a_round_has_the_trials_with_a_result_and_waits_for_all():
    made = search("nao", initial=4, batch=2, **SMALL)
    space = search_space(made)
    trials = [
        ended(Suggestion(index, space.nth(index * 7)), value)
        for index, value in enumerate((3.0, None, 1.0, 2.0, 5.0, 4.0))
    ]
    first, second = LatentLearner().lessons(ask(made, History(tuple(trials))))
    assert (first.trials, first.losses) == ((0, 2, 3), (3.0, 1.0, 2.0))
    assert (second.trials, second.losses) == ((4, 5), (5.0, 4.0))
    running = History((*trials[:4], Trial(trials[4].suggestion), trials[5]))
    assert LatentLearner().lessons(ask(made, running)) == [first]


def test_seeds_come_from_all_rounds_the_best_first():
    made = search("nao", initial=4, batch=2, seeds=3, **{**SMALL, "training_steps": 1})
    space = search_space(made)
    values = (3.0, 6.0, 1.0, 2.0, 0.5, 4.0)
    trials = tuple(ended(Suggestion(index, space.nth(index * 7)), value) for index, value in enumerate(values))
    known, _ = taught(LatentLearner(), ask(made, History(trials)), ())
    assert known.seeds(3)[0] == [4, 2, 3]


def test_where_all_trials_fail_it_goes_on_by_chance():
    made = search("nao", initial=2, batch=2, **SMALL)
    history = play(made, 6, 2, of=lambda assignment: None)
    assert all(trial.state is State.FAILED for trial in history)
    assert len({tuple(trial.assignment.items()) for trial in history}) == 6


def test_equal_results_are_equal_scores():
    made = search("nao", initial=3, batch=1, **{**SMALL, "training_steps": 2})
    trials = tuple(ended(Suggestion(index, search_space(made).nth(index)), 1.0) for index in range(3))
    known, _ = taught(LatentLearner(), ask(made, History(trials)), ())
    assert known.model is not None
    assert all(bool(weight.isfinite().all()) for weight in known.model.parameters())


def test_two_results_are_enough_for_a_model_and_one_is_not():
    for count in (1, 2):
        made = search("nao", initial=count, batch=1, **{**SMALL, "training_steps": 1})
        trials = tuple(ended(Suggestion(index, search_space(made).nth(index)), index + 1.0) for index in range(count))
        known, _ = taught(LatentLearner(), ask(made, History(trials)), ())
        assert (known.model is not None) == (count == 2)


class Still:
    """A model whose codes do not move; it notes how far they were to go."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def improved(self, tokens, step):
        self.steps.append(step)
        return tokens

    def decode(self, states, is_active):
        for slot in range(states.shape[1]):
            assert all(is_active(row, slot, tokens[:slot].tolist()) for row, tokens in enumerate(states))
        return states


def test_seeds_move_on_up_to_twelve_steps_and_then_neighbours_of_them_are_tried():
    made = search("nao", initial=2, batch=1, seeds=2, step=0.5, **SMALL)
    space = search_space(made)
    trials = tuple(ended(Suggestion(index, space.nth(index * 7)), 2.0 - index) for index in range(2))
    asked, model = ask(made, History(trials)), Still()
    known = Learnt(model, LatentLearner().lessons(asked))
    proposed = list(_improved(asked, known, np.random.default_rng(0)))
    assert model.steps == [0.5 * length for length in range(1, 13)]
    assert [origin.parents for _, origin in proposed[:4]] == [(1,), (0,), (1,), (0,)]
    assert [assignment for assignment, _ in proposed[:2]] == [trials[1].assignment, trials[0].assignment]
    for assignment, origin in proposed[24:]:
        (seed,) = origin.parents
        assert sum(assignment[slot] != trials[seed].assignment[slot] for slot in SLOTS) == 1
    assert {origin.parents for _, origin in proposed[24:]} == {(0,), (1,)}
    assert {origin.kind for _, origin in proposed} == {Kind.MODIFY}


def test_where_the_space_is_used_up_there_are_fewer():
    cell = {"space": "cell", "settings": {"nodes": 2, "operations": ["skip", "conv3", "avg3"]}}
    made = Experiment.parse(spec(parameters={}, architecture=cell, algorithm="nao"))
    assert len(suggest(made, History(), 9)) == 3


@pytest.mark.parametrize("name", ["trials", "tokens", "losses"])
def test_rounds_that_lack_a_row_of_one_array_are_refused(name):
    question = ask(search("nao"))
    arrays = {
        "lengths": np.array([2, 1]),
        "trials": np.arange(3),
        "tokens": np.zeros((3, 6), int),
        "losses": np.ones(3),
    }
    assert len(LatentLearner().unpack(question, latent.packed(None, arrays)).rounds) == 2
    with pytest.raises(ValueError, match="other lengths"):
        LatentLearner().unpack(question, latent.packed(None, {**arrays, name: arrays[name][:2]}))
