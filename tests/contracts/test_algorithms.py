"""What every algorithm keeps to. A new one joins by being registered."""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kit import every_assignment, histories, parameter_sets, spec, trial, typed

from katib_flow.algorithms import check_algorithm, registered_algorithms
from katib_flow.errors import InvalidSpec
from katib_flow.history import History, Kind, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

HERE = {
    name: entry
    for name, entry in registered_algorithms().items()
    if not entry.stateful and (entry.extra is None or (find_spec("torch") and find_spec("safetensors")))
}
"""Algorithms that can suggest here: some need PyTorch to; what runs elsewhere has tests of its own."""
ARCHITECTURES = tuple(
    name
    for name, entry in HERE.items()
    if entry.check
    and any(problem.where == "architecture" for problem in check_algorithm(Experiment.parse(spec(algorithm=name))))
)
"""Algorithms that search architectures only: see ``test_nas_algorithms``."""
NAMES = [name for name in HERE if name not in ARCHITECTURES]
SETTINGS: dict[str, dict[str, Any]] = {"grid": {"points": 3}}
"""Settings without which an algorithm cannot search every space."""
BUDGET = {"parameter": "epochs", "min": 1, "max": 9, "eta": 3}


def search(name: str, parameters: Any, seed: int = 0) -> Experiment:
    """An experiment for an algorithm, with a budget where it asks for one."""
    data = spec(parameters=parameters, algorithm={"name": name, "seed": seed, "settings": SETTINGS.get(name, {})})
    made = Experiment.parse(data)
    asked_for = any(problem.where == "budget" for problem in check_algorithm(made))
    return Experiment.parse({**data, "budget": BUDGET}) if asked_for else made


FIXED = ("grid", "random", "sobol")
"""Algorithms whose proposals do not depend on the history, and so neither on how they are asked for."""
CONTINUED = ("pbt",)
"""Algorithms whose trials continue others, with the same assignment as a rule."""
BUDGETED = tuple(name for name in NAMES if search(name, spec()["parameters"]).budget)
"""Algorithms that give out a budget: they try an assignment again with more, and may wait for results."""

every_algorithm = pytest.mark.parametrize("name", NAMES)
every_unbudgeted_algorithm = pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in (*BUDGETED, *CONTINUED)]
)
every_fixed_algorithm = pytest.mark.parametrize("name", FIXED)
few = settings(max_examples=20)  # an algorithm that fits a model takes its time
SPACE = {
    "lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"},
    "layers": {"type": "int", "min": 1, "max": 4},
    "optimizer": {"type": "categorical", "values": ["sgd", "adam", None]},
    "momentum": {"type": "float", "min": 0.5, "max": 0.99, "scale": "logit", "when": {"optimizer": "sgd"}},
}
FINITE = {
    "width": {"type": "int", "min": 1, "max": 8, "scale": "lognormal"},
    "optimizer": {"type": "ordinal", "values": ["sgd", "adam"]},
    "momentum": {"type": "float", "min": 0.0, "max": 0.9, "step": 0.3, "when": {"optimizer": "sgd"}},
}


def drawn_search(name: str, parameters: Any, seed: int = 0) -> Experiment:
    """The same, of what hypothesis drew: not all algorithms search every space."""
    made = search(name, parameters, seed)
    assume(not list(check_algorithm(made)))
    return made


def tried(suggestions: Iterable[Suggestion]) -> list[object]:
    """What must not be tried twice."""
    return [(typed(suggestion.assignment), suggestion.budget) for suggestion in suggestions]


def plain(suggestions: list[Suggestion]) -> list[object]:
    """What two answers are compared by."""
    return [(each.index, typed(each.assignment), each.budget, each.parent, each.info, each.key) for each in suggestions]


def play(made: Experiment, batch: int, most: int, losses: Any = lambda index: index % 7) -> History:
    """What an experiment tries, every trial with a result, up to ``most`` trials or until nothing is proposed."""
    history = History()
    while len(history) < most and (fresh := suggest(made, history, min(batch, most - len(history)))):
        history = history.replaced(
            trial(suggestion, State.SUCCEEDED, "accuracy", float(losses(suggestion.index))) for suggestion in fresh
        )
    return history


@every_algorithm
@few
@given(data=st.data(), parameters=parameter_sets(), seed=st.integers(0, 2**53))
def test_suggestions_lie_in_the_space_whatever_the_history(name, data, parameters, seed):
    made = drawn_search(name, parameters, seed)
    history = data.draw(histories(search_space(made)))
    assert all(suggestion.assignment in search_space(made) for suggestion in suggest(made, history, 3))


@every_algorithm
@few
@given(data=st.data(), parameters=parameter_sets(), seed=st.integers(0, 2**53))
def test_the_same_history_and_indices_give_the_same_suggestions(name, data, parameters, seed):
    made = drawn_search(name, parameters, seed)
    history = data.draw(histories(search_space(made)))
    again = Experiment.parse(made.to_dict())
    assert plain(suggest(made, history, 3)) == plain(suggest(again, History(tuple(reversed(history.trials))), 3))


@every_algorithm
@few
@given(data=st.data(), parameters=parameter_sets(), n=st.integers(0, 4))
def test_suggestions_bear_the_indices_asked_for_in_order(name, data, parameters, n):
    made = drawn_search(name, parameters)
    history = data.draw(histories(search_space(made)))
    start = history.next_index
    indices = [suggestion.index for suggestion in suggest(made, history, n)]
    assert indices == sorted(set(indices) & set(range(start, start + n)))


@every_algorithm
@few
@given(data=st.data(), parameters=parameter_sets())
def test_an_inactive_parameter_is_not_suggested(name, data, parameters):
    made = drawn_search(name, parameters)
    for suggestion in suggest(made, data.draw(histories(search_space(made))), 4):
        for each, fields in parameters.items():
            active = all(
                parent in suggestion.assignment
                and typed({"": suggestion.assignment[parent]}) in [typed({"": value}) for value in values]
                for parent, values in fields.get("when", {}).items()
            )
            assert (each in suggestion.assignment) == active


@every_unbudgeted_algorithm
@settings(max_examples=8)
@given(parameters=parameter_sets(finite=True, most=3), batch=st.integers(1, 5), seed=st.integers(0, 9))
def test_a_finite_space_is_covered_once_and_then_nothing_is_suggested(name, parameters, batch, seed):
    everything = {typed(assignment) for assignment in every_assignment(parameters)}
    assume(1 < len(everything) <= 24)
    history = play(drawn_search(name, parameters, seed), batch, most=len(everything) + 5)
    assert [typed(each.assignment) for each in history] == list({typed(each.assignment): None for each in history})
    assert {typed(each.assignment) for each in history} == everything


@pytest.mark.parametrize("name", BUDGETED)
@settings(max_examples=8)
@given(parameters=parameter_sets(finite=True, most=3), batch=st.integers(1, 5), seed=st.integers(0, 9))
def test_nothing_is_tried_twice_with_one_budget(name, parameters, batch, seed):
    history = play(drawn_search(name, parameters, seed), batch, most=30)
    assert history
    assert len(set(tried(each.suggestion for each in history))) == len(history)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CONTINUED])
@pytest.mark.parametrize("state", State)
def test_trials_in_any_state_are_not_suggested_again_in_a_finite_space(name, state):
    made = search(name, FINITE)
    first = suggest(made, History(), 5)
    second = suggest(made, History(tuple(trial(each, state, "accuracy", 0.5) for each in first)), 20)
    assert len(set(tried([*first, *second]))) == len(first) + len(second)
    assert name in BUDGETED or len(second) == 20  # of 8 * (4 + 1) there are


@every_unbudgeted_algorithm
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
def test_an_experiment_without_a_single_finite_result_goes_on(name, value):
    made = search(name, SPACE)
    history = History()
    for _ in range(6):
        fresh = suggest(made, history, 2)
        assert len(fresh) == 2
        history = history.replaced(trial(each, State.SUCCEEDED, "accuracy", value) for each in fresh)


@every_unbudgeted_algorithm
def test_an_experiment_whose_trials_are_all_pending_goes_on(name):
    made = search(name, SPACE)
    history = History(tuple(Trial(each) for each in suggest(made, History(), 12)))
    assert len(suggest(made, history, 3)) == 3


@every_algorithm
@given(n=st.integers(-3, 0))
def test_nothing_is_suggested_where_nothing_is_asked_for(name, n):
    assert suggest(search(name, SPACE), History(), n) == []


@every_algorithm
def test_a_suggestion_survives_json_with_the_types_of_its_values(name):
    made = search(name, SPACE)
    for suggestion in suggest(made, play(made, 4, most=12), 4):
        back = Suggestion.from_dict(json.loads(json.dumps(suggestion.to_dict(), allow_nan=False)))
        assert back == suggestion
        assert typed(back.assignment) == typed(suggestion.assignment)


@every_algorithm
def test_where_a_suggestion_comes_from_is_said_by_its_origin(name):
    """Of trials that there are; what goes on from another's checkpoint is made of that one first of all."""
    made = search(name, SPACE)
    for each in play(made, 4, most=60 if name in (*BUDGETED, *CONTINUED) else 30):
        origin = each.suggestion.origin
        assert all(0 <= parent < each.index for parent in origin.parents)
        assert (origin.kind is Kind.MODIFY) == bool(origin.parents)
        assert each.suggestion.parent is None or origin.parents[0] == each.suggestion.parent


@pytest.mark.parametrize("name", [*BUDGETED, *CONTINUED, "nsga2"])
def test_what_is_promoted_continued_or_bred_is_made_of_others(name):
    made = search(name, SPACE)
    kinds = {each.suggestion.origin.kind for each in play(made, 4, most=60)}
    assert kinds == {Kind.GENERATE, Kind.MODIFY}


@every_algorithm
def test_a_caller_that_changes_a_suggestion_changes_no_later_one(name):
    made = search(name, FINITE)
    before = plain(suggest(made, History(), 4))
    for suggestion in suggest(made, History(), 4):
        suggestion.assignment.clear()  # type: ignore[attr-defined]
    assert plain(suggest(made, History(), 4)) == before


@every_algorithm
def test_an_unknown_setting_is_named_with_its_path(name):
    made = Experiment.parse(spec(algorithm={"name": name, "settings": {**SETTINGS.get(name, {}), "no_such": 1}}))
    with pytest.raises(InvalidSpec) as caught:
        suggest(made, History(), 1)
    assert [problem.where for problem in caught.value.problems] == ["algorithm.settings.no_such"]


@every_algorithm
def test_several_objectives_are_searched_or_refused_with_an_alternative(name):
    two = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "size", "direction": "minimize"}]
    made = Experiment.parse(search(name, SPACE).to_dict() | {"objective": two})
    problems = list(check_algorithm(made))
    if registered_algorithms()[name].several:
        assert not problems
        assert len(suggest(made, History(), 2)) == 2
    else:
        assert [problem.where for problem in problems] == ["objective"]
        assert "random" in problems[0].need


@every_algorithm
def test_the_default_settings_are_good(name):
    assert registered_algorithms()[name].settings()


@every_algorithm
def test_an_algorithm_says_in_a_line_what_it_is(name):
    assert registered_algorithms()[name].summary.endswith(".")


@every_fixed_algorithm
@few
@given(data=st.data(), parameters=parameter_sets(), seed=st.integers(0, 2**53), n=st.integers(1, 6))
def test_what_stands_at_an_index_does_not_depend_on_how_it_is_asked_for(name, data, parameters, seed, n):
    made = drawn_search(name, parameters, seed)
    batch = suggest(made, History(), n, start=0)
    history = data.draw(histories(search_space(made)))
    one_by_one = [each for index in range(n) for each in suggest(made, history, 1, start=index)]
    assert plain(batch) == plain(one_by_one)


ELSEWHERE = """
import json, sys
from katib_flow.history import History, Suggestion, Trial, State
from katib_flow.loop import suggest
from katib_flow.spec import Experiment
for line in sys.stdin:
    spec, tried, n, start = json.loads(line)
    trials = [Trial(Suggestion.from_dict(each), State.SUCCEEDED, {"accuracy": value}) for each, value in tried]
    asked = suggest(Experiment.parse(spec), History(tuple(trials)), n, start=start)
    print(json.dumps([each.to_dict() for each in asked]))
"""


def asked_elsewhere(requests: list[tuple[Experiment, History, int, int]]) -> list[list[Suggestion]]:
    """What a fresh process answers: each step on Argo is one."""
    lines = [
        json.dumps(
            (made.to_dict(), [(each.suggestion.to_dict(), each.observations["accuracy"]) for each in history], n, start)
        )
        for made, history, n, start in requests
    ]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    return [[Suggestion.from_dict(each) for each in json.loads(line)] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("parameters", [SPACE, FINITE], ids=["uncountable", "finite"])
def test_a_fresh_process_gives_the_same_answer(parameters):
    requests = [
        (made, history, 3, history.next_index)
        for made in (search(name, parameters, seed=5) for name in NAMES)
        for history in (History(), play(made, 3, most=12))
    ]
    assert [plain(answer) for answer in asked_elsewhere(requests)] == [
        plain(suggest(made, history, n)) for made, history, n, _ in requests
    ]


@pytest.mark.parametrize("parameters", [SPACE, FINITE], ids=["uncountable", "finite"])
def test_a_fresh_process_asked_for_one_index_gives_what_a_batch_has_there(parameters):
    requests = [(search(name, parameters, seed=5), History(), 1, 11) for name in FIXED]
    batches = [suggest(made, History(), 12, start=0)[-1:] for made, *_ in requests]
    assert [plain(answer) for answer in asked_elsewhere(requests)] == [plain(batch) for batch in batches]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "grid"])
def test_another_seed_searches_elsewhere(name):
    one, other = (plain(suggest(search(name, SPACE, seed), History(), 4)) for seed in (1, 2))
    assert one != other


@every_unbudgeted_algorithm
def test_trials_of_a_failed_kind_do_not_hide_those_that_did_well(name):
    made = search(name, SPACE)
    good = play(made, 4, most=8)
    bad = [replace(each, state=State.FAILED, observations={}) for each in good.trials[::2]]
    assert len(suggest(made, good.replaced(bad), 2)) == 2
