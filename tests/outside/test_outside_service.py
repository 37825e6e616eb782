"""Services of Katib's API that suggest: what they are asked, what they may answer, and a real one."""

from collections.abc import Iterator
from typing import Any

import pytest
from kit import spec
from services import Answers, answering, served

grpc = pytest.importorskip("grpc")

from katib_flow.algorithms import check_algorithm  # noqa: E402
from katib_flow.errors import KatibFlowError  # noqa: E402
from katib_flow.history import History, State, Suggestion, Trial  # noqa: E402
from katib_flow.katib_api.calls import Refusal  # noqa: E402
from katib_flow.katib_api.messages import message  # noqa: E402
from katib_flow.katib_api.suggestion import experiment_message, trial_message, value_of  # noqa: E402
from katib_flow.loop import answer, proposed, suggest  # noqa: E402
from katib_flow.outside import service  # noqa: E402
from katib_flow.spaces import search_space  # noqa: E402
from katib_flow.spec import Experiment  # noqa: E402

PARAMETERS: dict[str, Any] = {
    "lr": {"type": "float", "min": 0.001, "max": 1.0, "scale": "log"},
    "layers": {"type": "int", "min": 1, "max": 9, "step": 2},
    "optimizer": {"type": "categorical", "values": ["sgd", True, None]},
    "batch": {"type": "ordinal", "values": [16, 32.5, 64]},
}


def search(address: str, **sections: Any) -> Experiment:
    algorithm = {"name": "halton", "service": address, **sections.pop("algorithm", {})}
    return Experiment.parse(spec(**{"parameters": PARAMETERS, "algorithm": algorithm, **sections}))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served("katib_service.py") as address:
        yield address


@pytest.fixture
def answers() -> Iterator[Answers]:
    with answering("Suggestion", "GetSuggestions") as serve:
        yield serve


def test_the_space_is_said_in_katibs_words() -> None:
    experiment = search("here:1")
    said = experiment_message(experiment, search_space(experiment), {"skip": 2, "kind": "a", "odd": True}).spec
    parameters = said.parameter_specs.parameters
    spaces = [parameter.feasible_space for parameter in parameters]
    assert [
        (parameter.name, parameter.parameter_type, space.min, space.max, space.step)
        for parameter, space in zip(parameters, spaces, strict=True)
    ] == [
        ("lr", 1, "0.001", "1.0", ""),
        ("layers", 2, "1", "9", "2"),
        ("optimizer", 4, "", "", ""),
        ("batch", 3, "", "", ""),
    ]
    assert [space.distribution for space in spaces] == [2, 1, 0, 0]
    assert [list(space.list) for space in spaces[2:]] == [["sgd", "true", "null"], ["16", "32.5", "64"]]
    assert (said.objective.type, said.objective.objective_metric_name) == (2, "accuracy")
    assert (said.algorithm.algorithm_name, said.max_trial_count, said.parallel_trial_count) == ("halton", 10, 1)
    settings = {setting.name: setting.value for setting in said.algorithm.algorithm_settings}
    assert settings == {"skip": "2", "kind": "a", "odd": "true"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "0.5", 0.5),
        ("lr", "1e-2", 0.01),
        ("lr", "fast", "fast"),
        ("lr", "nan", "nan"),
        ("lr", "inf", "inf"),
        ("layers", "3", 3),
        ("layers", "3.0", 3),
        ("layers", "3.5", "3.5"),
        ("optimizer", "sgd", "sgd"),
        ("optimizer", "true", True),
        ("optimizer", "null", None),
        ("optimizer", "adam", "adam"),
        ("batch", "16", 16),
        ("batch", "16.0", 16),
        ("batch", "32.50", 32.5),
        ("batch", "17", "17"),
    ],
)
def test_a_value_that_was_written_as_text_is_of_its_parameters_type(name: str, text: str, value: object) -> None:
    read = value_of(search_space(search("here:1")).parameters[name], text)
    assert (type(read), read) == (type(value), value)


def test_a_trial_is_said_with_its_values_its_state_and_its_result() -> None:
    suggestion = Suggestion(
        3, {"lr": 0.25, "optimizer": None}, info={"katib_trial": "mine", "katib_labels": {"a": "b"}}
    )
    trial = Trial(
        suggestion, State.EARLY_STOPPED, {"accuracy": 0.1 + 0.2, "loss": float("nan")}, started=0.0, ended=90.0
    )
    said = trial_message(search("here:1"), trial)
    assert (said.name, dict(said.spec.labels)) == ("mine", {"a": "b"})
    assigned = {assignment.name: assignment.value for assignment in said.spec.parameter_assignments.assignments}
    assert assigned == {"lr": "0.25", "optimizer": "null"}
    assert (said.status.start_time, said.status.completion_time) == ("1970-01-01T00:00:00Z", "1970-01-01T00:01:30Z")
    assert said.status.condition == 6
    assert [(metric.name, float(metric.value)) for metric in said.status.observation.metrics] == [
        ("accuracy", 0.1 + 0.2)
    ]


def test_a_service_suggests_and_its_labels_come_back_to_it(address: str) -> None:
    experiment = search(address)
    first = answer(experiment, History(), 3)
    assert first.learnt is not None
    trials = [Trial(suggestion, State.SUCCEEDED, {"accuracy": 0.5}) for suggestion in first.suggestions]
    second = answer(experiment, History(tuple(trials)), 2, kept=[first.learnt])  # it refuses other labels than its own
    assert [suggestion.info["katib_trial"] for suggestion in second.suggestions] == ["katib-3", "katib-4"]
    assert second.learnt is not None
    assert second.learnt.content == b'{"answered": "2"}'
    assert suggest(experiment, History(tuple(trials)), 2) == list(second.suggestions)  # all trials are in the question


def test_settings_that_the_service_refuses_end_the_experiment_in_its_words(address: str) -> None:
    with pytest.raises(
        KatibFlowError, match="returned an error for ValidateAlgorithmSettings: INVALID_ARGUMENT: unknown setting speed"
    ):
        proposed(search(address, algorithm={"settings": {"speed": 1}}), History(), 1)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ([("lr", "5.0")], "lr has a value that is not in this space (5.0); layers has no value"),
        ([("lr", "0.1"), ("lr", "0.2")], "assigned lr twice in one suggestion"),
        ([("wd", "1")], "wd is not a parameter of this space ('1')"),
    ],
)
def test_an_answer_outside_the_space_is_refused(
    answers: Answers, assignments: list[tuple[str, str]], words: str
) -> None:
    def reply(request: Any) -> Any:
        suggested = message("GetSuggestionsReply")()
        assigned = suggested.parameter_assignments.add()
        for name, value in assignments:
            assigned.assignments.add(name=name, value=value)
        return suggested

    with pytest.raises(KatibFlowError) as error:
        proposed(search(answers(reply)), History(), 1)
    assert words in str(error.value)


def test_too_many_answers_and_none_are_seen(answers: Answers) -> None:
    def reply(request: Any) -> Any:
        suggested = message("GetSuggestionsReply")()
        for _ in range(0 if request.current_request_number == 1 else 9):
            suggested.parameter_assignments.add()
        return suggested

    address = answers(reply)
    assert suggest(search(address), History(), 1) == []
    with pytest.raises(KatibFlowError, match="suggested 9 trials, but 2 requested"):
        proposed(search(address), History(), 2)


def test_a_refusal_and_a_crash_end_it_in_words(answers: Answers) -> None:
    def refuses(request: Any) -> Any:
        raise Refusal("no more ideas")

    def crashes(request: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(KatibFlowError, match="returned an error for GetSuggestions: INVALID_ARGUMENT: no more ideas"):
        proposed(search(answers(refuses)), History(), 1)
    with pytest.raises(KatibFlowError, match="returned an error for GetSuggestions: UNKNOWN"):
        proposed(search(answers(crashes)), History(), 1)


def test_a_service_that_is_not_there_ends_it_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ELSEWHERE_SECONDS", 0.2)
    with pytest.raises(KatibFlowError, match=r"127.0.0.1:1 could not be reached within 0.2 s; tried 3 times"):
        proposed(search("127.0.0.1:1"), History(), 1)


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        (
            {"parameters": {**PARAMETERS, "m": {"type": "int", "min": 0, "max": 1, "when": {"layers": 3}}}},
            "parameters.m.when",
        ),
        ({"parameters": {"a": {"type": "categorical", "values": [3, "3"]}}}, "parameters.a.values"),
        ({"parameters": {"a": {"type": "float", "min": 0.1, "max": 0.9, "scale": "logit"}}}, "parameters.a.scale"),
        ({"algorithm": {"settings": {"a": [1]}}}, "algorithm.settings.a"),
    ],
)
def test_what_katibs_api_cannot_say_is_refused_before_it_runs(sections: Any, where: str) -> None:
    assert [problem.where for problem in check_algorithm(search("here:1", **sections))] == [where]


def test_two_objectives_are_refused() -> None:
    two = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "seconds", "direction": "minimize"}]
    (problem,) = check_algorithm(search("here:1", objective=two))
    assert problem.where == "objective"
