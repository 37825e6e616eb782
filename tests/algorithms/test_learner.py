"""An algorithm of a user's own that learns: the one that the documentation shows, run as it stands there."""

import re
from pathlib import Path

import pytest
from kit import spec, trial

from katib_flow.algorithms.learning import digests
from katib_flow.algorithms.registry import Ask, find_algorithm
from katib_flow.history import History, Learnt, State, Suggestion
from katib_flow.loop import answer
from katib_flow.spec import Experiment

DOCS = Path(__file__).parents[2] / "docs" / "algorithms.md"
SPACE = {"optimizer": {"type": "categorical", "values": ["sgd", "adam"]}}


@pytest.fixture(scope="module")
def made() -> Experiment:
    section = DOCS.read_text(encoding="utf-8").split("### One that learns")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code, {"__name__": __name__})
    return Experiment.parse(spec(parameters=SPACE, algorithm="counting"))


def history(*ends: tuple[str, float]) -> History:
    trials = [(Suggestion(index, {"optimizer": name}), value) for index, (name, value) in enumerate(ends)]
    return History(tuple(trial(each, State.SUCCEEDED, "accuracy", value) for each, value in trials))


def test_the_example_of_the_documentation_counts(made: Experiment) -> None:
    first = answer(made, history(("sgd", 0.1), ("adam", 0.3), ("sgd", 0.9)), 1).learnt
    assert first is not None
    assert (first.lessons, first.content) == (1, b'{"sgd": 1, "adam": 2}')
    longer = history(("sgd", 0.1), ("adam", 0.3), ("sgd", 0.9), ("adam", 0.2))
    second = answer(made, longer, 1, kept=[first]).learnt
    assert second is not None
    assert (second.lessons, second.content) == (2, b'{"sgd": 2, "adam": 2}')
    assert answer(made, longer, 1).learnt == second


def test_what_was_kept_counts_as_it_stands(made: Experiment) -> None:
    """Nothing else is looked at where the lessons agree: that is why the store's copy is checked against its digest."""
    longer = history(("sgd", 0.1), ("adam", 0.3), ("sgd", 0.9), ("adam", 0.2))
    first = answer(made, longer, 1).learnt
    assert first is not None
    forged = Learnt(1, _mark(made, longer, 1), b'{"sgd": 50, "adam": 1}')
    learnt = answer(made, longer, 1, kept=[forged]).learnt
    assert learnt is not None
    assert learnt.content == b'{"sgd": 51, "adam": 1}'


def test_an_unusable_one_is_passed_over_for_the_one_before(made: Experiment) -> None:
    longer = history(("sgd", 0.1), ("adam", 0.3), ("sgd", 0.9), ("adam", 0.2))
    kept = [Learnt(2, _mark(made, longer, 2), b"{"), Learnt(1, _mark(made, longer, 1), b'{"sgd": 7, "adam": 1}')]
    learnt = answer(made, longer, 1, kept=kept).learnt
    assert learnt is not None
    assert learnt.content == b'{"sgd": 8, "adam": 1}'


def test_a_lesson_that_is_no_plain_data_is_told(made: Experiment) -> None:
    with pytest.raises(TypeError, match="a lesson must be plain data or a data class, not object"):
        digests(_ask(made, History()), [object()])


def _ask(made: Experiment, trials: History) -> Ask:
    algorithm = find_algorithm("counting")
    assert algorithm is not None
    return Ask(made, trials, range(0), algorithm.settings_of(made))


def _mark(made: Experiment, trials: History, count: int) -> str:
    algorithm = find_algorithm("counting")
    assert algorithm is not None
    assert algorithm.learner is not None
    ask = _ask(made, trials)
    return digests(ask, algorithm.learner.lessons(ask))[count]
