"""Errors as a person reads them."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import spec

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec import Experiment
from katib_flow.spec.problems import NOTHING, shown
from katib_flow.wording import did_you_mean


def messages(**sections: object) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        Experiment.parse(spec(**sections))
    return str(caught.value).splitlines()


def test_an_error_says_where_what_was_found_and_what_would_be_right():
    assert str(SpecError("limits.max_trials", 0, "a number of at least 1")) == (
        "limits.max_trials: found 0, need a number of at least 1"
    )


@pytest.mark.parametrize(
    ("source", "line", "start"), [("", None, "a: "), ("f.yaml", None, "f.yaml: a: "), ("f.yaml", 7, "f.yaml:7: a: ")]
)
def test_an_invalid_spec_says_its_file_and_the_line_where_they_are_known(source, line, start):
    assert str(InvalidSpec(source, [SpecError("a", 1, "2", line)])).startswith(start)


@pytest.mark.parametrize("error", [SpecError("a", NOTHING, "b", 3), InvalidSpec("f", [SpecError("a", 1, "b", 3)])])
def test_an_error_survives_the_way_to_another_process(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("word", "meant"),
    [("scael", "; did you mean 'scale'?"), ("xyz", ""), (7, ""), ("scale", "; did you mean 'scale'?")],
)
def test_the_nearest_known_word_is_offered(word, meant):
    assert did_you_mean(word, ["type", "scale", "when"]) == meant


@pytest.mark.parametrize(
    ("value", "text"), [(None, "nothing"), ("a", "'a'"), ([1], "[1]"), ("x" * 99, "'" + "x" * 76 + "...")]
)
def test_a_long_value_is_cut(value, text):
    assert repr(shown(value)) == text


def test_a_number_is_shown_as_it_was_written():
    assert messages(parameters={"lr": {"type": "float", "min": 0, "max": 1, "scale": "log"}}) == [
        "parameters.lr.min: found 0, need a number above 0, because scale is log"
    ]


def test_a_value_that_fits_no_member_of_a_union_is_one_mistake():
    assert messages(architecture={"space": 3}) == [
        "architecture.space: found 3, need text (quote it) or a mapping of keys to values"
    ]


def test_a_list_with_a_bad_item_is_one_mistake():
    assert messages(trial={"command": [3]}) == ["trial.command[0]: found 3, need text (quote it)"]


def test_a_section_of_one_item_is_named_without_a_position():
    assert messages(objective={"metric": "accuracy", "direction": "up"}) == [
        "objective.direction: found 'up', need 'maximize' or 'minimize'"
    ]


def test_an_item_of_a_list_is_named_by_its_position():
    objectives = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "loss"}]
    assert messages(objective=objectives) == ["objective[1].direction: found nothing, need a value; it is required"]


@pytest.mark.parametrize("name", ["float", "type", "lr.min", "a-b"])
def test_a_parameter_may_be_called_like_a_key(name):
    assert messages(parameters={name: {"type": "float", "min": 2, "max": 1}}) == [
        f"parameters.{name}.min: found 2, need a number no greater than max, 1"
    ]


def test_an_unknown_key_of_a_parameter_is_compared_with_the_keys_of_its_kind():
    (message,) = messages(parameters={"act": {"type": "categorical", "values": ["a"], "vales": ["b"]}})
    assert message == (
        "parameters.act.vales: found 'vales', need a known key, one of when, values, type; did you mean 'values'?"
    )


ITSELF: dict[str, object] = {}
ITSELF["self"] = ITSELF


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": [1, math.nan]}, "algorithm.settings.a[1]: found nan, need text, a finite number, true, false or null"),
        (
            {"a": {"b": object}},
            f"algorithm.settings.a.b: found {object}, need text, a finite number, true, false or null",
        ),
        ({"a": {1: 2}}, "algorithm.settings.a: found 1, need keys that are text"),
        (ITSELF, f"algorithm.settings.{'self.' * 98}self: found 'deeper nesting', need at most 100 levels of nesting"),
    ],
    ids=["number", "object", "key", "endless"],
)
def test_free_form_data_holds_what_json_has(settings, message):
    assert messages(algorithm={"name": "gp", "settings": settings}) == [message]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FULL = spec(
    objective=[{"metric": "accuracy", "direction": "maximize", "goal": 0.9}],
    additional_metrics=["loss"],
    parameters={
        "lr": {"type": "float", "min": 0.1, "max": 1.0, "step": 0.1, "scale": "log"},
        "layers": {"type": "int", "min": 1, "max": 3, "step": 1, "when": {"act": ["relu"]}},
        "act": {"type": "categorical", "values": ["relu", 1, None]},
    },
    architecture={"space": "cell", "settings": {}},
    algorithm={"name": "random", "seed": 1, "settings": {}},
    budget={"parameter": "epochs", "min": 1, "max": 9, "eta": 3},
    early_stopping={"name": "median", "settings": {}},
    limits={"max_trials": 1, "timeout": "1h", "trial_timeout": 3, "retries": 0},
    trial={
        "container": {"image": "i", "command": ["c", "${lr}"], "env": {"A": "b"}, "resources": {"limits": {"cpu": 1}}}
    },
    metrics={"source": "file", "path": "p", "filter": "(a)(b)", "strategy": {"loss": "min"}},
    tracking={"uri": "u", "experiment": "e", "register_model": "m"},
    argo={"namespace": "n", "mode": "lanes"},
)


def _paths(node: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(inner for key, value in items for inner in _paths(value, (*path, key)))]


def _replaced(node: object, path: tuple[object, ...], value: object) -> object:
    if not path:
        return value
    first, *rest = path
    items = node.items() if isinstance(node, dict) else enumerate(node)
    pairs = [(key, _replaced(each, tuple(rest), value) if key == first else each) for key, each in items]
    return dict(pairs) if isinstance(node, dict) else [each for _, each in pairs]


def refusal(data: object) -> list[str]:
    try:
        Experiment.parse(data)
    except InvalidSpec as invalid:
        return [str(problem) for problem in invalid.problems]
    return []


@given(st.sampled_from(_paths(FULL)), values)
def test_whatever_stands_anywhere_is_taken_or_refused_in_words(path, value):
    lines = refusal(_replaced(FULL, path, value))
    assert all(": found " in line and ", need " in line for line in lines)


@given(values)
def test_whatever_is_a_parameter_is_taken_or_refused_in_words(value):
    with pytest.raises(InvalidSpec, match="parameters"):
        Experiment.parse(spec(parameters={"lr": value}))


def test_a_boolean_is_no_number():
    assert messages(parameters={"n": {"type": "int", "min": True, "max": 3}}, limits={"max_trials": False}) == [
        "parameters.n.min: found True, need a number",
        "limits.max_trials: found False, need a number",
    ]


def test_checkpoints_are_on_a_volume_or_uploaded():
    assert messages(argo={"checkpoints": {"every": 0}}) == ["argo.checkpoints.every: found 0.0, need a number above 0"]
    assert messages(argo={"checkpoints": {"path": "/data"}}) == [
        "argo.checkpoints.path: found '/data', need no path without a claim, which is mounted there"
    ]
    assert messages(argo={"checkpoints": {"claim": "models", "every": "2m"}}) == [
        "argo.checkpoints.every: found 120.0, need no interval with a claim, because nothing is uploaded from a volume"
    ]
    assert Experiment.parse(spec(argo={"checkpoints": {"every": "2m"}})).argo.checkpoints.every == 120


@pytest.mark.parametrize(
    ("name", "sections", "need"),
    [
        (
            "acc ",
            {"trial": {"command": ["x"]}},
            "a name that fits on a line: no spaces at its ends, no line break, ",
        ),
        ("a\nb", {"trial": {"command": ["x"]}}, "a name that fits on a line: "),
        ("a\x1b[1m", {"trial": {"command": ["x"]}}, "a name that fits on a line: "),
        ("val acc", {"metrics": {"source": "prometheus", "port": 1}}, "a Prometheus name: "),
        ("step", {}, "another name, because this one is reserved for the step of the metrics"),
    ],
)
def test_a_metric_that_can_never_be_found_is_refused(name, sections, need):
    (line,) = messages(objective={"metric": name, "direction": "maximize"}, **sections)
    assert line.startswith(f"objective: found {name!r}, need {need}")
    additional = messages(additional_metrics=[name], **sections)
    if "port" not in str(sections):  # there the objective of the others is found
        assert additional == [line.replace("objective:", "additional_metrics:", 1)]


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("val acc", {"trial": {"command": ["x"]}}),
        ("f1@[IoU=0.25]", {"trial": {"command": ["x"]}}),
        ("acc ", {}),  # a function reports it by name
        ("acc ", {"trial": {"command": ["x"]}, "metrics": {"format": "json"}}),
        ("step", {"trial": {"command": ["x"]}}),
        ('acc{phase="val"}', {"metrics": {"source": "prometheus", "port": 1}}),
    ],
)
def test_a_metric_that_can_be_found_is_taken_whatever_it_is_called(name, sections):
    Experiment.parse(spec(objective={"metric": name, "direction": "maximize"}, **sections))


def deep(levels: int) -> object:
    data: object = 1
    for _ in range(levels):
        data = {"a": [data]}
    return data


@pytest.mark.parametrize(
    "sections",
    [
        {"name": deep(2000)},
        {"parameters": {"lr": deep(2000)}},
        {"objective": deep(2000)},
        {"algorithm": {"name": "gp", "settings": {"a": deep(2000)}}},
    ],
    ids=lambda sections: next(iter(sections)),
)
def test_data_that_nests_too_deeply_to_be_shown_is_one_mistake(sections):
    (message,) = messages(**sections)
    assert message.endswith(": found 'deeper nesting', need at most 100 levels of nesting")


def test_data_that_holds_itself_twice_is_refused_at_once():
    twice: dict[str, object] = {}
    twice |= {"a": twice, "b": twice}
    assert 1 <= len(messages(algorithm={"name": "gp", "settings": twice})) <= 20


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        ({"description": "a\ud800b"}, "description"),
        ({"parameters": {"act": {"type": "categorical", "values": ["x", "\udfff"]}}}, "parameters.act.values[1]"),
        ({"trial": {"command": ["a", "\ud800"]}}, "trial.command[1]"),
        ({"algorithm": {"name": "gp", "settings": {"a": "\ud800"}}}, "algorithm.settings.a"),
        (
            {"architecture": {"space": "cell", "settings": {"operations": ["\ud800"]}}},
            "architecture.settings.operations[0]",
        ),
    ],
)
def test_half_a_character_is_refused_wherever_it_stands(sections, where):
    (message,) = messages(**sections)
    assert message.startswith(f"{where}: found ")
    assert message.endswith("need text without lone surrogates (U+D800 to U+DFFF)")


@pytest.mark.parametrize("value", [deep(100_000), 10**5000], ids=["deep", "long"])
def test_a_value_that_cannot_be_written_is_told_by_its_kind(value):
    kind = type(value).__name__
    assert f"found a {kind} " in str(SpecError("a", value, "b"))
    assert f"found a {kind} " in str(SpecError("a", shown(value), "b"))
    assert did_you_mean(value, ["type"]) == ""
