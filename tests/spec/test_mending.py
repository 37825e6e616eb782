"""All mistakes in one round: each one that stands alone is told in the same words beside any others."""

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from katib_manifests import good, refusals

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec
from katib_flow.spec import Experiment, parse_spec
from katib_flow.spec.load import parse
from katib_flow.spec.yaml12 import dump_yaml
from katib_flow.stopping import check_stopping

Data = dict[str, Any]
Keys = tuple[int | str, ...]
RULES = [check_algorithm, check_stopping]
GOOD: Data = {
    "name": "digits",
    "objective": {"metric": "accuracy", "direction": "maximize", "goal": 0.9},
    "additional_metrics": ["loss", "time"],
    "parameters": {
        "lr": {"type": "float", "min": 0.001, "max": 1.0, "scale": "log"},
        "mom": {"type": "float", "min": 0.1, "max": 0.9, "scale": "logit", "when": {"opt": ["sgd"]}},
        "units": {"type": "int", "min": 1, "max": 9, "step": 2},
        "depth": {"type": "int", "min": 1, "max": 9},
        "opt": {"type": "categorical", "values": ["sgd", "adam"]},
        "size": {"type": "ordinal", "values": [1, 2, 3]},
    },
    "initial": [{"lr": 0.1, "units": 3}, {"opt": "adam"}],
    "algorithm": {"name": "tpe", "seed": 1, "settings": {"startup": 5}},
    "early_stopping": {"name": "median", "settings": {"min_trials": 3}},
    "limits": {"max_trials": 10, "timeout": "1h", "retries": 1},
    "trial": {
        "arguments": {"epochs": 3},
        "container": {"image": "i", "command": ["train", "--lr=${lr}"], "env": {"A": "${epochs}"}},
    },
    "metrics": {"source": "file", "path": "m.log", "strategy": {"loss": "min"}},
    "tracking": {"experiment": "e"},
    "argo": {"mode": "lanes", "trial": {"volumes": [{"path": "/data", "claim": "c"}], "tolerations": [{"key": "gpu"}]}},
}
ABSENT = object()
CHANGES: Sequence[tuple[str, object]] = [
    ("name", "Digits_"),
    ("objective.direction", "max"),
    ("objective.goal", "high"),
    ("additional_metrics.1", "loss"),
    ("parameters.lr.min", 0),
    ("parameters.mom.max", 1.5),
    ("parameters.mom.when.opt", ["rmsprop"]),
    ("parameters.units.max", ABSENT),
    ("parameters.units.step", 0),
    ("parameters.depth.min", 10),
    ("parameters.opt.vales", ["sgd"]),
    ("parameters.size.values", [1, 1, 2]),
    ("parameters.2nd", {"type": "int", "min": 1, "max": 2}),
    ("parameters.kind", {"type": "flot", "min": 1, "max": 2}),
    ("parameters.late", {"type": "int", "min": 1, "max": 2, "when": {"early": 1}}),
    ("initial.0.zz", 1),
    ("initial.1.opt", "lion"),
    ("algorithm.seed", "one"),
    ("algorithm.settings.startups", 4),
    ("early_stopping.settings.min_trials", "many"),
    ("limits.max_trials", 0),
    ("limits.timeout", "soon"),
    ("limits.zzz", 1),
    ("trial.container.image", 3),
    ("trial.container.command.1", "--lr=${rate}"),
    ("trial.container.working_dri", "/x"),
    ("trial.arguments.lr", 0.1),
    ("metrics.strategy.los", "max"),
    ("metrics.path", ABSENT),
    ("tracking.experiment", ""),
    ("argo.mode", "race"),
    ("argo.trial.volumes.0.path", "data"),
    ("argo.trial.volumes.0.secret", "s"),
    ("argo.trial.tolerations.0.key", ABSENT),
    ("foo", 1),
]


def keys_of(path: str) -> Keys:
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def changed(data: Data, changes: Sequence[tuple[str, object]]) -> Data:
    """The data with some mistakes."""
    data = copy.deepcopy(data)
    for path, value in changes:
        *above, last = keys_of(path)
        inner: Any = data
        for key in above:
            inner = inner[key]
        if value is ABSENT:
            inner.pop(last)
        else:
            inner[last] = value
    return data


def messages(data: Data) -> list[str]:
    try:
        Experiment.parse(data, "", RULES)
    except InvalidSpec as invalid:
        return str(invalid).splitlines()
    return []


def test_the_spec_without_a_change_is_good() -> None:
    assert messages(GOOD) == []


@pytest.mark.parametrize("change", CHANGES, ids=[path for path, _ in CHANGES])
def test_a_mistake_alone_is_one_message(change: tuple[str, object]) -> None:
    assert len(messages(changed(GOOD, [change]))) == 1


@cache
def messages_alone(path: str) -> frozenset[str]:
    """What is told of the mistakes at a path, without any other."""
    change = next(change for change in CHANGES if change[0] == path)
    return frozenset(map(heads, messages(changed(GOOD, [change]))))


@settings(max_examples=100)
@given(st.lists(st.sampled_from(CHANGES), min_size=2, max_size=len(CHANGES), unique_by=lambda change: change[0]))
def test_mistakes_together_are_the_same_messages(changes: list[tuple[str, object]]) -> None:
    together = messages(changed(GOOD, changes))
    assert len(set(together)) == len(together)
    assert {heads(message) for message in together} == set().union(*(messages_alone(path) for path, _ in changes))


def heads(message: str) -> str:
    """A message without the words that it lists: those of other changes may be among them."""
    return message.partition(", need ")[0]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"type": "float", "min": 5, "max": "high"}, "parameters.p.max"),
        ({"type": "float", "min": "low", "max": -5}, "parameters.p.min"),
        ({"type": "float", "min": "low", "max": 5, "scale": "logit"}, "parameters.p.min"),
        ({"type": "int", "min": 1, "step": 1}, "parameters.p.max"),
        ({"type": "categorical", "value": [1]}, "parameters.p.value"),
    ],
)
def test_what_a_stand_in_breaks_is_no_mistake(change: Data, where: str) -> None:
    problems = messages(changed(GOOD, [("parameters.p", change), ("initial.0.p", 7.0)]))
    assert where in [problem.partition(":")[0] for problem in problems]
    assert all(problem.partition(": found")[0] in (where, "parameters.p.max") for problem in problems)


# a manifest of Katib's


def double(name: str, low: str, high: str, **more: Any) -> Data:
    return {"name": name, "parameterType": "double", "feasibleSpace": {"min": low, "max": high, **more}}


KATIB: Data = good()
KATIB["spec"] |= {
    "parameters": [
        double("lr", "0.01", "0.05"),
        double("mom", "0.1", "0.9", distribution="logUniform"),
        {"name": "opt", "parameterType": "categorical", "feasibleSpace": {"list": ["sgd", "adam"]}},
        {"name": "units", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "9", "step": "2"}},
        double("last", "0", "1"),
    ],
    "algorithm": {"algorithmName": "tpe", "algorithmSettings": [{"name": "n_startup_trials", "value": "5"}]},
    "earlyStopping": {
        "algorithmName": "medianstop",
        "algorithmSettings": [{"name": "min_trials_required", "value": "3"}],
    },
    "metricsCollectorSpec": {
        "collector": {"kind": "File"},
        "source": {"fileSystemPath": {"path": "/m.log", "kind": "File"}, "filter": {"metricsFormat": ["(a)=(b)"]}},
    },
}
CONTAINER = "spec.trialTemplate.trialSpec.spec.template.spec.containers.0"
KATIB_CHANGES: Sequence[tuple[str, object]] = [
    ("metadata.name", "Digits_"),
    ("metadata.labels", {"a": 1}),
    ("spec.objective.type", "max"),
    ("spec.objective.goal", "high"),
    ("spec.objective.additionalMetricName", ["x"]),
    ("spec.algorithm.algorithmSettings.0.value", "many"),
    ("spec.algorithm.algorithmSettings.0.nam", "x"),
    ("spec.earlyStopping.algorithmSettings.0.value", "few"),
    ("spec.parallelTrialCount", 0),
    ("spec.maxTrialCount", "x"),
    ("spec.resumePolicy", "Sometimes"),
    ("spec.zzz", 1),
    ("foo", 1),
    ("spec.parameters.0.feasibleSpace.min", "low"),
    ("spec.parameters.1.feasibleSpace.min", "0"),
    ("spec.parameters.1.feasibleSpace.distribution", "lognormal"),
    ("spec.parameters.2.feasibleSpace.list", []),
    ("spec.parameters.2.parameterTyp", "x"),
    ("spec.parameters.3.feasibleSpace.max", "0"),
    ("spec.parameters.3.feasibleSpace.min", "1.5"),
    ("spec.parameters.4.name", "lr"),
    ("spec.parameters.4.feasibleSpace.step", "0"),
    ("spec.trialTemplate.trialParameters.0.reference", "rate"),
    ("spec.trialTemplate.primaryContainerName", "main"),
    ("spec.trialTemplate.retan", True),
    ("spec.metricsCollectorSpec.collector.kind", "Files"),
    ("spec.metricsCollectorSpec.source.filter.metricsFormat.0", "(a"),
    ("spec.metricsCollectorSpec.source.fileSystemPath.format", "YAML"),
]
HIDING = [
    {"spec.parameters.1.feasibleSpace.min", "spec.parameters.1.feasibleSpace.distribution"},
    {"spec.parameters.3.feasibleSpace.min", "spec.parameters.3.feasibleSpace.max"},
    {"spec.parameters.4.name", "spec.parameters.4.feasibleSpace.step"},
    {"spec.metricsCollectorSpec.collector.kind", "spec.metricsCollectorSpec.source.filter.metricsFormat.0"},
]
"""Changes that need one another's part to be a mistake."""


def katib_messages(data: Data) -> list[str]:
    try:
        parse(dump_yaml(data), "", RULES)
    except InvalidSpec as invalid:
        return str(invalid).splitlines()
    return []


def test_the_manifest_without_a_change_is_good() -> None:
    assert katib_messages(KATIB) == []


@pytest.mark.parametrize("change", KATIB_CHANGES, ids=[path for path, _ in KATIB_CHANGES])
def test_a_mistake_of_a_manifest_alone_is_one_message(change: tuple[str, object]) -> None:
    assert len(katib_messages(changed(KATIB, [change]))) == 1


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "p", "parameterType": "choice", "feasibleSpace": {"list": ["a"]}}, "parameterType"),
        ({"name": "p", "parameterType": "number", "feasibleSpace": {"min": "1.5", "max": "2.5"}}, "parameterType"),
        ({"name": 3, "parameterType": "double", "feasibleSpace": {"min": "1.5", "max": "2.5"}}, "name"),
    ],
)
def test_what_a_stand_in_breaks_in_a_manifest_is_no_mistake(change: Data, where: str) -> None:
    (message,) = katib_messages(changed(KATIB, [("spec.parameters.4", change)]))
    assert message.startswith(f"spec.parameters[4].{where}: found")


@cache
def messages_of_a_manifest_alone(path: str) -> frozenset[str]:
    change = next(change for change in KATIB_CHANGES if change[0] == path)
    return frozenset(map(heads, katib_messages(changed(KATIB, [change]))))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(KATIB_CHANGES), min_size=2, max_size=14, unique_by=lambda change: change[0]))
def test_mistakes_of_a_manifest_together_are_the_same_messages(changes: list[tuple[str, object]]) -> None:
    if any(pair <= {path for path, _ in changes} for pair in HIDING):
        return
    together = set(map(heads, katib_messages(changed(KATIB, changes))))
    assert together == set().union(*(messages_of_a_manifest_alone(path) for path, _ in changes))


# texts


def text_refusals(text: str) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(text, "f", RULES)
    return str(caught.value).splitlines()


def test_a_key_that_stands_twice_hides_no_other_mistake() -> None:
    text = """\
name: x
name: y
objective: {metric: a, direction: up}
parameters:
  lr: {type: float, min: 0, max: 1}
  lr: {type: int}
trial: {command: [a, "${l}"]}
limits: {max_trials: 1}
"""
    assert [message.partition(", need")[0] for message in text_refusals(text)] == [
        "f:2: name: found 'name'",
        "f:3: objective.direction: found 'up'",
        "f:6: parameters.lr: found 'lr'",
        "f:7: trial.command[1]: found '${l}'",
    ]
    assert text_refusals(text)[0] == "f:2: name: found 'name', need each key only once; it is already on line 1"


def test_keys_that_stand_twice_are_messages_alone_too() -> None:
    data = dump_yaml(GOOD) + "name: y\nname: z\n"
    assert [message.partition(", need")[0] for message in text_refusals(data)] == [
        f"f:{data.count(chr(10)) - 1}: name: found 'name'",
        f"f:{data.count(chr(10))}: name: found 'name'",
    ]
    manifest = dump_yaml(KATIB) + "kind: List\n"
    assert refusals(manifest) == [
        f"k.yaml:{manifest.count(chr(10))}: kind: found 'kind', need each key only once; it is already on line 2"
    ]


def test_a_misspelt_key_is_one_mistake_and_what_stands_below_is_judged() -> None:
    data = {key.replace("trial", "tiral").replace("parameters", "paramters"): part for key, part in GOOD.items()}
    data["tiral"]["container"]["command"][1] = "${l}"
    assert [heads(message) for message in messages(copy.deepcopy(data))] == [
        "paramters: found 'paramters'",
        "tiral: found 'tiral'",
        "tiral.container.command[1]: found '${l}'",
    ]
    data["tiral"]["container"]["command"][1] = "${lr}"


def test_what_another_tool_calls_a_section_does_not_make_it_missing_too() -> None:
    data = {key: part for key, part in GOOD.items() if key not in ("parameters", "initial")}
    data["search_space"] = GOOD["parameters"]
    data["trial"] = {"command": ["a"]}
    assert [heads(message) for message in messages(data)] == ["search_space: found 'search_space'"]


@pytest.mark.parametrize(
    "data", [[], 3, None, {}, {"name": {}}, {"trial": []}, {"parameters": {"a": 3}}, {"objective": [1]}]
)
def test_data_of_any_shape_are_refused_in_words(data: Any) -> None:
    assert messages(data)


def judged(size: int, keys: Callable[[int], Any]) -> int:
    return len(messages(changed(GOOD, [keys(number) for number in range(size)])))


@pytest.mark.parametrize(
    "keys",
    [
        lambda number: (f"unknown{number}", 1),
        lambda number: (f"parameters.p{number}", {"type": "float", "min": 0, "max": 1, "scale": "log"}),
        lambda number: (f"parameters.p{number}", {"type": "flot"}),
        lambda number: (f"parameters.p{number}", {"type": "int", "min": "a", "max": 1}),
        lambda number: (f"argo.labels{number}", {}),
    ],
    ids=range(5),
)
def test_thousands_of_mistakes_are_each_told(keys: Callable[[int], Any]) -> None:
    assert judged(2_000, keys) == 2_000
