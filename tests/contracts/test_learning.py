"""What every algorithm keeps to that may learn: what was kept of an earlier ask changes nothing but the time it takes.

One that learns nothing keeps to it too. A new algorithm joins by being registered.
"""

import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import test_algorithms as plain_search
import test_nas_algorithms as nas_search
from kit import trial

from katib_flow.algorithms import registered_algorithms
from katib_flow.algorithms.learning import Answer
from katib_flow.history import History, Learnt, State, Suggestion, Trial
from katib_flow.loop import answer
from katib_flow.spec import Experiment

NAMES = tuple(plain_search.HERE)
LEARNING = [name for name in NAMES if registered_algorithms()[name].learner]
every_algorithm = pytest.mark.parametrize("name", NAMES)
every_learner = pytest.mark.parametrize("name", LEARNING)


def search(name: str, seed: int = 4) -> Experiment:
    """An experiment that an algorithm can search: of architectures where it searches nothing else."""
    if name in plain_search.ARCHITECTURES:
        return nas_search.search(name, seed)
    return plain_search.search(name, plain_search.SPACE, seed)


def ended(name: str, suggestion: Suggestion) -> Trial:
    value = suggestion.index * 5 % 7 / 7
    if name in plain_search.ARCHITECTURES:
        return nas_search.ended(suggestion, value)
    return trial(suggestion, State.SUCCEEDED, "accuracy", value)


def asks(name: str, most: int = 12, batch: int = 2) -> Iterator[tuple[History, tuple[Learnt, ...], Answer]]:
    """A search: the history of each question, what was kept then, and the answer."""
    made, history, kept = search(name), History(), tuple[Learnt, ...]()
    while len(history) < most:
        answered = answer(made, history, batch, kept=kept)
        yield history, kept, answered
        if not answered.suggestions:
            return
        history = history.replaced(ended(name, each) for each in answered.suggestions)
        kept = (answered.learnt,) if answered.learnt else kept


def last(name: str) -> tuple[History, tuple[Learnt, ...], Answer]:
    """A question that follows one from which something was kept, with something new to learn."""
    found = [ask for ask in asks(name) if ask[1] and ask[2].learnt]
    assert found, f"{name} has learnt nothing in 12 trials; need a longer search here"
    return found[-1]


def suggestions(answered: Answer) -> list[dict[str, Any]]:
    return [each.to_dict() for each in answered.suggestions]


@every_algorithm
def test_what_was_kept_is_what_is_learnt_anew(name):
    for history, kept, answered in asks(name):
        anew = answer(search(name), history, 2)
        assert suggestions(answered) == suggestions(anew)
        if anew.learnt:
            (now,) = (answered.learnt,) if answered.learnt else kept
            assert now == anew.learnt  # bit for bit


@every_algorithm
def test_the_order_of_the_history_changes_nothing(name):
    *_, (history, kept, answered) = asks(name, 8)
    again = answer(search(name), History(tuple(reversed(history.trials))), 2, kept=kept)
    assert suggestions(again) == suggestions(answered)
    assert again.learnt == answered.learnt


@every_algorithm
@pytest.mark.parametrize("state", [State.KILLED, State.FAILED, State.RUNNING])
def test_a_trial_that_is_no_longer_what_it_was_is_not_remembered(name, state):
    """It was tried again, or its run was restored; what was kept has learnt from how it ended before."""
    *_, (history, kept, _) = asks(name, 10)
    changed = history.replaced([replace(history[1], state=state, observations={})])
    assert suggestions(answer(search(name), changed, 2, kept=kept)) == suggestions(answer(search(name), changed, 2))


@every_learner
def test_what_was_kept_is_gone_on_from(name, monkeypatch):
    history, kept, answered = last(name)
    learner, numbers = registered_algorithms()[name].learner, []
    learn = learner.learn
    counted = lambda ask, known, lesson, number: numbers.append(number) or learn(ask, known, lesson, number)  # noqa: E731
    monkeypatch.setattr(learner, "learn", counted, raising=False)
    assert answered.learnt is not None
    for kept_before, wanted in (
        (kept, range(kept[0].lessons, answered.learnt.lessons)),
        ((answered.learnt,), range(0)),
        ((), range(answered.learnt.lessons)),
        ((answered.learnt, *kept), range(0)),
        ((replace(answered.learnt, digest="0" * 64), *kept), range(kept[0].lessons, answered.learnt.lessons)),
    ):
        numbers.clear()
        again = answer(search(name), history, 2, kept=kept_before)
        assert numbers == list(wanted)
        assert (again.learnt is None) == (not wanted)


@every_learner
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: bytes(len(content)),
        lambda content: pickle.dumps(content),
        lambda content: b'{"a": 1}',
    ],
    ids=["empty", "cut off", "zeros", "a pickle", "another's"],
)
def test_what_is_damaged_is_learnt_anew(name, damage):
    history, kept, answered = last(name)
    broken = [replace(each, content=damage(each.content)) for each in kept]
    again = answer(search(name), history, 2, kept=broken)
    assert suggestions(again) == suggestions(answered)
    assert again.learnt == answered.learnt


@every_learner
def test_what_another_search_has_learnt_is_not_taken(name):
    history, kept, answered = last(name)
    other, anew = (answer(search(name, seed=5), history, 2, kept=some) for some in (kept, ()))
    assert suggestions(other) == suggestions(anew)
    assert other.learnt == anew.learnt
    longer = [replace(each, lessons=each.lessons + 1000) for each in kept]
    assert answer(search(name), history, 2, kept=longer).learnt == answered.learnt


@every_algorithm
def test_one_that_has_learnt_nothing_does_not_ask_for_what_was_kept(name):
    def never() -> Iterator[Learnt]:
        raise AssertionError("a call to MLflow, for nothing")
        yield

    history = History() if name in LEARNING else [ask[0] for ask in asks(name, 6)][-1]
    assert answer(search(name), history, 2, kept=never()).learnt is None


ELSEWHERE = """
import base64, json, sys
from katib_flow.history import History, Learnt, State, Suggestion, Trial
from katib_flow.loop import answer
from katib_flow.spec import Experiment
for line in sys.stdin:
    spec, tried, kept = json.loads(line)
    trials = [Trial(Suggestion.from_dict(each), State.SUCCEEDED, seen) for each, seen in tried]
    learnt = [Learnt(lessons, digest, base64.b64decode(content)) for lessons, digest, content in kept]
    answered = answer(Experiment.parse(spec), History(tuple(trials)), 2, kept=learnt)
    new = answered.learnt and base64.b64encode(answered.learnt.content).decode()
    print(json.dumps([[each.to_dict() for each in answered.suggestions], new]))
"""


def elsewhere(questions: Sequence[tuple[Experiment, History, Sequence[Learnt]]]) -> list[Any]:
    """What a fresh process answers: each step on Argo is one."""
    lines = [
        json.dumps(
            [
                made.to_dict(),
                [(each.suggestion.to_dict(), dict(each.observations)) for each in history],
                [(each.lessons, each.digest, base64.b64encode(each.content).decode()) for each in kept],
            ]
        )
        for made, history, kept in questions
    ]
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_fresh_process_learns_the_same_from_what_was_kept_and_without_it():
    asked = [(name, *last(name)) for name in LEARNING]
    questions = [(search(name), history, some) for name, history, kept, _ in asked for some in (kept, ())]
    answers = elsewhere(questions)
    for number, (*_, answered) in enumerate(asked):
        assert answered.learnt is not None
        expected = [suggestions(answered), base64.b64encode(answered.learnt.content).decode()]
        assert json.loads(json.dumps(expected)) == answers[2 * number] == answers[2 * number + 1]
