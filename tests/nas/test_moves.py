"""How moves travel with suggestions, and what batches of trials teach."""

import json
from typing import Any

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms.registry import Ask
from katib_flow.history import History, Kind, Origin, State, Suggestion, Trial
from katib_flow.nas.moves import REPEATS, Lesson, Move, episodes, lessons, notes
from katib_flow.nas.policy import LearningSettings
from katib_flow.spec import Experiment

ONE = (Move("widen", (3, 1), (1, 0)), Move("deepen", (4, 1), (0, 1, 2)))
OTHER = (Move("widen", (3, 1), (0, 0)),)
SETTINGS = LearningSettings(batch=2, lr=0.1, units=4, baseline_decay=0.5, entropy=0.0)


def trial(index: int, info: Any, value: float | None = 0.5, origin: Origin | None = None) -> Trial:
    suggestion = Suggestion(index, {"lr": 0.1}, info=info, origin=origin or Origin())
    state = State.FAILED if value is None else State.SUCCEEDED
    return Trial(suggestion, state, {} if value is None else {"accuracy": value})


def taught(*trials: Trial) -> list[Lesson]:
    made = Experiment.parse(spec())
    ask = Ask(made, History(trials), range(0), SETTINGS)

    def reward(_: Any, results: Any, members: Any) -> list[float]:
        return np.nan_to_num(-results[list(members), 0], nan=-1.0).tolist()

    return list(lessons(ask, reward))


def test_what_a_suggestion_keeps_is_plain_json_and_comes_back() -> None:
    info = notes(ONE, [(3, OTHER), (0, ONE)])
    assert json.loads(json.dumps(info)) == info
    assert episodes(trial(7, info)) == [(7, ONE), (3, OTHER), (0, ONE)]
    assert "repeats" not in notes(ONE, [])


def test_no_more_repeats_are_kept_than_a_few() -> None:
    kept = episodes(trial(7, notes(ONE, [(number, OTHER) for number in range(40)])))
    assert [index for index, _ in kept] == [7, *range(REPEATS)]


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"moves": []},
        {"moves": "widen"},
        {"moves": [{"kind": "widen", "seen": [-1], "chosen": [0]}]},
        {"moves": [{"kind": "widen", "seen": [1 << 40], "chosen": [0]}]},
        {"moves": [{"kind": "widen", "seen": [0]}]},
        {**notes(ONE, []), "repeats": [[0]]},
    ],
)
def test_what_is_no_episode_teaches_nothing(info: Any) -> None:
    assert episodes(trial(1, info)) == []


def test_a_batch_that_is_over_is_a_lesson_with_what_was_come_upon_again() -> None:
    first = [trial(0, {}, 0.25), trial(1, notes(ONE, [(0, OTHER)]), 0.75)]
    second = [trial(2, notes(OTHER, []), None), trial(3, notes(ONE, [(1, ONE)]), 0.5)]
    assert taught(*first, *second) == [
        Lesson((ONE, OTHER), (0.75, 0.25)),
        Lesson((OTHER, ONE, ONE), (-1.0, 0.5, 0.75)),
    ]
    assert taught(*first, second[0]) == taught(*first)
    assert taught(first[0], Trial(first[1].suggestion, State.RUNNING), *second) == []


def test_batches_without_an_episode_and_trials_of_the_user_teach_nothing() -> None:
    given = trial(0, notes(ONE, []), origin=Origin(Kind.GIVEN))
    assert taught(given, trial(1, {}), trial(2, {})) == []


def test_repeats_of_what_is_no_trial_up_to_then_are_left_out() -> None:
    (lesson, _) = taught(
        trial(0, notes(ONE, [(99, ONE), (3, ONE)])), trial(1, {}), trial(2, notes(ONE, [])), trial(3, notes(ONE, []))
    )
    assert lesson.episodes == (ONE,)
