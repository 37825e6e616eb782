"""Services of early stopping of Katib's API: the rules they give, what they are asked, and a search with a real one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment
from services import Answers, answering, served

grpc = pytest.importorskip("grpc")

from katib_flow.argo import compile_experiment  # noqa: E402
from katib_flow.errors import InvalidSpec, KatibFlowError  # noqa: E402
from katib_flow.history import History, Metric, State, Suggestion, Trial  # noqa: E402
from katib_flow.katib_api.messages import message, number  # noqa: E402
from katib_flow.local import run_experiment  # noqa: E402
from katib_flow.replay import replay  # noqa: E402
from katib_flow.spec import Experiment  # noqa: E402
from katib_flow.spec.sections import Objective  # noqa: E402
from katib_flow.stopping import check_stopping, judged_metrics, reason_to_stop, with_rules  # noqa: E402
from katib_flow.stopping.service import RULES, CarriedRule  # noqa: E402
from katib_flow.tracking import Store  # noqa: E402

MAXIMIZE = Objective(metric="score", direction="maximize")
MINIMIZE = Objective(metric="score", direction="minimize")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served("katib_median.py") as address:
        yield address


@pytest.fixture
def answers() -> Iterator[Answers]:
    with answering("EarlyStopping", "GetEarlyStoppingRules") as serve:
        yield serve


def search(address: str, **sections: Any) -> Experiment:
    stopping = {"name": "medianstop", "service": address, **sections.pop("early_stopping", {})}
    objective = {"metric": "score", "direction": "maximize"}
    return experiment(**{"objective": objective, "early_stopping": stopping, **sections})


def reports(*values: float, metric: str = "score") -> tuple[Metric, ...]:
    return tuple(Metric(metric, value, step, step) for step, value in enumerate(values))


def running(rules: Sequence[dict[str, Any]], **series: Sequence[float]) -> Trial:
    reported = {name: reports(*values, metric=name) for name, values in series.items()}
    return Trial(Suggestion(0, {}, info={RULES: list(rules)}), State.RUNNING, series=reported)


def rule(comparison: str, value: float, start_step: int = 0, metric: str = "score") -> dict[str, Any]:
    return {"metric": metric, "value": value, "comparison": comparison, "start_step": start_step}


@pytest.mark.parametrize(
    ("objective", "carried", "values", "met"),
    [
        (MAXIMIZE, rule("<", 0.5, 3), [0.1, 0.2], False),  # too early
        (MAXIMIZE, rule("<", 0.5, 3), [0.1, 0.2, 0.3], True),
        (MAXIMIZE, rule("<", 0.5, 3), [0.1, 0.6, 0.3], False),  # it was good once
        (MAXIMIZE, rule("<", 0.5, 2), [0.1, 0.2, 0.9], True),  # it was met at the second report
        (MAXIMIZE, rule("<", 0.5), [0.5], False),
        (MAXIMIZE, rule("<", 0.5), [float("nan")], True),
        (MINIMIZE, rule(">", 0.5, 2), [0.9, 0.8], True),
        (MINIMIZE, rule(">", 0.5, 2), [0.4, 0.8], False),
        (MINIMIZE, rule(">", 0.5, 2), [float("nan"), 0.4], False),
        (MAXIMIZE, rule("==", 3, metric="epoch"), [1, 2], False),
        (MAXIMIZE, rule("==", 3, metric="epoch"), [1, 2, 3, 4], True),
        (MAXIMIZE, rule(">", 2, metric="epoch"), [3, 1], True),
        (MAXIMIZE, rule("<", 2, metric="epoch"), [3, 1], True),  # not the objective: the value itself
    ],
)
def test_when_a_rule_is_met(objective: Objective, carried: Any, values: list[float], met: bool) -> None:
    assert CarriedRule.model_validate(carried).met(objective, reports(*values)) is met


@given(
    values=st.lists(st.floats(-5, 5), max_size=8),
    bound=st.floats(-5, 5),
    start=st.integers(0, 5),
    comparison=st.sampled_from("<>"),
    maximize=st.booleans(),
)
def test_a_rule_is_met_as_brute_force_says(
    values: list[float], bound: float, start: int, comparison: str, maximize: bool
) -> None:
    best_so_far = [(max if maximize else min)(values[: count + 1]) for count in range(len(values))]
    judged = best_so_far[max(0, start - 1) :]
    expected = any(best < bound if comparison == "<" else best > bound for best in judged)
    carried = CarriedRule.model_validate(rule(comparison, bound, start))
    assert carried.met(MAXIMIZE if maximize else MINIMIZE, reports(*values)) is expected


def test_a_trial_ends_when_all_of_its_rules_are_met() -> None:
    both = [rule("<", 0.5, 2), rule("==", 3, metric="epoch")]
    of = search("here:1")
    assert reason_to_stop(of, History(), running(both, score=[0.1, 0.2], epoch=[1, 2])) == ""
    assert reason_to_stop(of, History(), running(both, score=[0.9, 0.2], epoch=[1, 2, 3])) == ""
    why = "it met the stopping rules of medianstop: score < 0.5 from report 2 on; epoch == 3"
    assert reason_to_stop(of, History(), running(both, score=[0.1, 0.2], epoch=[1, 2, 3])) == why
    assert reason_to_stop(of, History(), running([], score=[0.1])) == ""
    assert judged_metrics(of, running(both).suggestion) == {"score", "epoch"}


def test_rules_that_were_damaged_in_the_store_end_nothing() -> None:
    damaged = [{"metric": "score", "value": "x", "comparison": "<"}]
    assert reason_to_stop(search("here:1"), History(), running(damaged, score=[0.1])) == ""


def test_a_service_asks_for_curves_and_gives_rules(address: str) -> None:
    of = search(address, early_stopping={"settings": {"min_trials_required": 2, "start_step": 2}})
    curves = {0: (0.2, 0.4, 0.9), 1: (0.6, 0.8, 0.1), 2: (0.0, 0.0, 0.0)}
    states = {0: State.SUCCEEDED, 1: State.SUCCEEDED, 2: State.FAILED}
    trials = [Trial(Suggestion(i, {}), states[i], series={"score": reports(*values)}) for i, values in curves.items()]
    (suggestion,) = with_rules(of, History(tuple(trials)), [Suggestion(3, {"x": 1}, info={"kind": "a"})])
    averages = [(0.2 + 0.4) / 2, (0.6 + 0.8) / 2]
    expected = [rule("<", pytest.approx(mean(averages)), 2)]  # type: ignore[arg-type]
    assert suggestion.info == {"kind": "a", RULES: expected}
    (first,) = with_rules(of, History(), [Suggestion(0, {})])
    assert first.info == {RULES: []}


def test_settings_that_the_service_refuses_are_refused_in_its_words(address: str) -> None:
    of = search(address, early_stopping={"settings": {"speed": 1}})
    method = "ValidateEarlyStoppingSettings"
    words = f"early_stopping.service: .* returned an error for {method}: INVALID_ARGUMENT: unknown setting speed"
    with pytest.raises(KatibFlowError, match=words):
        with_rules(of, History(), [Suggestion(0, {})])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "", "value": "1", "comparison": 2}, "[0].name: found '', need the name of a metric"),
        ({"name": "score", "value": "high", "comparison": 2}, "[0].value: found 'high', need a finite number"),
        ({"name": "score", "value": "nan", "comparison": 2}, "[0].value: found 'nan'"),
        ({"name": "score", "value": "1"}, "[0].comparison: found 0, need EQUAL, LESS, GREATER"),
        ({"name": "score", "value": "1", "comparison": 2, "start_step": -1}, "[0].start_step: found -1"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(answers: Answers, fields: dict[str, Any], words: str) -> None:
    def reply(request: Any) -> Any:
        given_rules = message("GetEarlyStoppingRulesReply")()
        given_rules.early_stopping_rules.add(**fields)
        return given_rules

    with pytest.raises(KatibFlowError) as error:
        with_rules(search(answers(reply)), History(), [Suggestion(0, {})])
    assert words in str(error.value)


def test_more_rules_than_can_be_followed_are_refused(answers: Answers) -> None:
    def reply(request: Any) -> Any:
        given_rules = message("GetEarlyStoppingRulesReply")()
        for _ in range(101):
            given_rules.early_stopping_rules.add(name="a", value="1", comparison=number("ComparisonType", "LESS"))
        return given_rules

    with pytest.raises(KatibFlowError, match="returned 101 rules, but the maximum is 100"):
        with_rules(search(answers(reply)), History(), [Suggestion(0, {})])


CURVE = """\
import time
import katib_flow as kf

def train(x):
    for step in range(6):
        kf.report(score=x * (step + 1) / 6, step=step)
        deadline = time.monotonic() + 30
        while step == 2 and x < 0.3 and not kf.should_stop() and time.monotonic() < deadline:
            time.sleep(0.01)  # it is told from outside
        if kf.should_stop():
            return
"""


def test_a_search_with_a_service_stops_what_the_median_rule_would(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "curved.py").write_text(CURVE)
    monkeypatch.chdir(tmp_path)
    values = [0.5, 0.4, 0.9, 0.1, 0.2, 0.95]
    of = search(
        address,
        parameters={"x": {"type": "categorical", "values": [*values]}},
        initial=[{"x": value} for value in values],
        algorithm="random",
        early_stopping={"settings": {"min_trials_required": 3, "start_step": 3}},
        limits={"max_trials": len(values), "parallel_trials": 1},
        trial={"function": "curved:train"},
    )
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    result = run_experiment(of, store=store)
    averages, expected = list[float](), list[State]()
    for value in values:
        bound = median(averages) if len(averages) >= 3 else 0.0
        expected.append(State.EARLY_STOPPED if value * 3 / 6 < bound else State.SUCCEEDED)
        if expected[-1] is State.SUCCEEDED:
            averages.append(mean(value * step / 6 for step in (1, 2, 3)))
    assert [trial.state for trial in result.history] == expected
    assert [value for value, state in zip(values, expected, strict=True) if state is State.EARLY_STOPPED] == [0.1, 0.2]
    stopped = next(trial for trial in result.history if trial.state is State.EARLY_STOPPED)
    assert stopped.message.startswith("stopped early: it met the stopping rules of medianstop: score < ")
    recorded = store.history(store.get(result.run_id))
    assert all(outcome.equal for outcome in replay(of, recorded))  # rules are no part of what was suggested


@pytest.mark.parametrize(
    ("stopping", "where"),
    [
        ({"name": "median", "timeout": "5s"}, "early_stopping.timeout"),
        ({"name": "medianstop", "service": "nowhere"}, "early_stopping.service"),
        ({"name": "medianstop", "service": {"port": 1}}, "early_stopping.service"),
        ({"name": "medianstop", "service": "here:1", "settings": {"a": [1]}}, "early_stopping.settings.a"),
    ],
)
def test_a_section_that_says_too_little_or_too_much_is_refused(stopping: Any, where: str) -> None:
    try:
        problems = list(check_stopping(experiment(early_stopping=stopping)))
    except InvalidSpec as error:
        problems = error.problems
    assert [problem.where for problem in problems] == [where]


def test_two_services_in_one_pod_need_two_ports() -> None:
    of = search(
        "",
        parameters={"x": {"type": "float", "min": 0, "max": 1}},
        algorithm={"name": "tpe", "service": {"image": "a:1", "port": 7000}},
        early_stopping={"service": {"image": "b:1", "port": 7000}},
        argo={"image": "user:1"},
    )
    with pytest.raises(InvalidSpec) as error:
        compile_experiment(of)
    assert [problem.where for problem in error.value.problems] == ["early_stopping.service.port"]
