"""Log lines of any kind -> metrics, and never an exception."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit import experiment

from katib_flow.metrics import LineParser

NOW = 1_700_000_000_000


def parser(*names: str, **fields: object) -> LineParser:
    return LineParser(names or None, clock=lambda: NOW, **fields)  # type: ignore[arg-type]


def values(line: str, *names: str, **fields: object) -> dict[str, object]:
    return {metric.name: metric.value for metric in parser(*names, **fields).parse(line)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("accuracy=0.93", {"accuracy": 0.93}),
        ("accuracy = 0.93", {"accuracy": 0.93}),
        ("Epoch 3: loss=1e-3, accuracy=.5 (best)", {"loss": 0.001, "accuracy": 0.5}),
        ("loss=0.5|accuracy=0.9", {"loss": 0.5, "accuracy": 0.9}),
        ("loss=0.5;accuracy=5.", {"loss": 0.5, "accuracy": 5.0}),
        ("the accuracy=0.93.", {"accuracy": 0.93}),
        ("a=+1 b=-2 c=1E+3 d=-.5e-1", {"a": 1.0, "b": -2.0, "c": 1000.0, "d": -0.05}),
        ("val/acc@5=0.5 top-1=0.9 a.b=1", {"val/acc@5": 0.5, "top-1": 0.9, "a.b": 1.0}),
        ("genauigkeit_größe=1", {"genauigkeit_größe": 1.0}),
        ("a=1 a=2", {"a": 2.0}),
        ("a=b=3", {"b": 3.0}),
        ("accuracy=50%", {"accuracy": 50.0}),
    ],
)
def test_pairs_are_found_wherever_they_stand(line, expected):
    assert values(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        *[
            "",
            " ",
            "=",
            "a=",
            "=1",
            "a=b",
            "a==1",
            "version=1.2.3",
            "time=3s",
            "id=0x1f",
            "a=1e",
            "a=1_000",
            "a=infinite",
        ],
        *["a 1", "a:1", "a=nano", "a=[", "a=[]", "a=[b]", "a=[1,b]", "a=--1"],
    ],
)
def test_what_only_looks_like_a_pair_is_log(line):
    assert values(line) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("inf", math.inf), ("-inf", -math.inf), ("Infinity", math.inf), ("+INF", math.inf), ("1e999", math.inf)],
)
def test_infinity_is_recorded(text, value):
    assert values(f"loss={text}") == {"loss": value}


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan"])
def test_not_a_number_is_recorded(text):
    assert math.isnan(values(f"loss={text}")["loss"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stats=[1, 2.5,3]", (1.0, 2.5, 3.0)),
        ("stats=[1. 2. 3.]", (1.0, 2.0, 3.0)),
        ("stats = [ -1e-3 ]", (-0.001,)),
        ("stats=[1,2,]", (1.0, 2.0)),
        ("stats=[inf, -inf]", (math.inf, -math.inf)),
    ],
)
def test_a_vector_is_recorded_as_python_or_numpy_prints_it(line, expected):
    assert values(line) == {"stats": expected}


def test_a_vector_may_hold_what_is_no_number():
    assert [math.isnan(value) for value in values("stats=[nan, 1]")["stats"]] == [True, False]


def test_only_metrics_that_are_named_are_taken():
    assert values("lr=0.1 accuracy=0.9 Accuracy=0.8", "accuracy", "loss") == {"accuracy": 0.9}


def test_an_experiment_names_its_objectives_and_additional_metrics():
    made = experiment(additional_metrics=["loss"])
    assert {metric.name for metric in LineParser.of(made).parse("accuracy=1 loss=2 lr=3")} == {"accuracy", "loss"}


# numbers that are whole or none

CUT_SHORT = [
    *[
        "1,234.5",
        "0,75",
        "1.234,5",
        "1'234.5",
        "1\u2019234",
        "1_234",
        "1\xa0234,5",
        "1\u202f234",
        "0\u066b75",
        "0\xb775",
    ],
    *[
        "3/4",
        "12:30",
        "2024-05-01",
        "1+2j",
        "0.5-0.6",
        "1*10",
        "10^5",
        "1.2.3",
        "1e5.5",
        "1e",
        "0x1F",
        "0.75s",
        "1.5D-03",
    ],
]


@pytest.mark.parametrize("text", CUT_SHORT)
def test_a_number_that_goes_on_is_not_cut_short(text):
    lines = parser("accuracy", "loss")
    assert {metric.name: metric.value for metric in lines.parse(f"accuracy={text} loss=0.5")} == {"loss": 0.5}
    assert lines.left_out == {"accuracy": (1, text)}


@pytest.mark.parametrize(
    "text", ["0.75,", "0.75, 3", "0.75;loss=1", "0.75|", "0.75)", "0.75.", "0.75%", "0.75 3.2it/s", "0.75\u00b10.1"]
)
def test_what_follows_a_number_and_is_none_of_it_does_no_harm(text):
    assert values(f"accuracy={text}", "accuracy") == {"accuracy": 0.75}


KATIB = r"([\w|-]+)\s*[:=]\s*((-?\d+)(\.\d+)?)"


@pytest.mark.parametrize(
    ("pattern", "line", "whole"),
    [
        (KATIB, "loss: 5e-05", "5e-05"),
        (KATIB, "loss=1,234.5", "1,234.5"),
        (KATIB, "loss=0,75", "0,75"),
        (r"(loss)=(\d+)", "loss=12.5", "12.5"),
        (r"(loss).*(\d+)", "loss: 0.345", "0.345"),
        (r"(loss)\D*(\d+\.\d+)", "loss: -0.5", "-0.5"),
        (r"(loss)=([\d.]+).*", "loss=5e-05 end", "5e-05"),
        (r"(loss)=([\d.]+)", "loss=1.234,5", "1.234,5"),
    ],
)
def test_a_filter_that_takes_a_part_of_a_number_takes_none(pattern, line, whole):
    lines = parser("loss", filter=[pattern])
    assert lines.parse(line) == []
    assert lines.left_out == {"loss": (1, whole)}


@pytest.mark.parametrize(
    ("pattern", "line", "value"),
    [
        (KATIB, "loss: 0.25", 0.25),
        (KATIB, "loss=-3", -3.0),
        (r"(loss) (\d+)/\d+", "loss 3/4", 3.0),
        (r"(loss)=([\d.]+)s", "loss=0.75s", 0.75),
        (r"(loss),([\d.]+)", "loss,0.75,0.3,acc", 0.75),
        (r"(loss)-(\d+)", "loss-5", 5.0),
        (r"(loss) at \w+-(\d+)", "loss at epoch-5", 5.0),
    ],
)
def test_a_filter_may_take_a_number_out_of_its_surroundings(pattern, line, value):
    assert values(line, "loss", filter=[pattern]) == {"loss": value}


@pytest.mark.parametrize("text", ['"0,75"', '"1,234.5"', '"3/4"'])
def test_a_text_in_json_is_a_number_as_a_whole_or_none(text):
    lines = parser("accuracy", format="json")
    assert lines.parse(f'{{"accuracy": {text}}}') == []
    assert lines.left_out == {"accuracy": (1, text.strip('"'))}


def test_a_step_that_goes_on_is_none():
    assert [metric.step for metric in parser("a").parse("step=1,000 a=1")] == [0]


# names of any characters


@pytest.mark.parametrize(
    "name",
    ["val acc", "f1@[IoU=0.25]", "top-5 (%)", "loss|val", "[x]", "a.b*c", "precisión", "精度", "a=b", "$loss", "\\d+"],
)
def test_a_name_that_the_spec_states_is_found_whatever_it_holds(name):
    assert values(f"epoch 3: {name}=0.5, other=1", name) == {name: 0.5}
    assert values(f"{name} = 0.5", name) == {name: 0.5}


def test_the_longest_name_that_fits_is_the_one():
    names = ("acc", "val acc", "val acc (best)")
    assert values("val acc (best)=3 val acc=2 acc=1", *names) == {"val acc (best)": 3, "val acc": 2, "acc": 1}


@pytest.mark.parametrize("line", ["val_acc=1", "val.acc=1", "val/acc=1", "val-acc=1", "acc2=1", "acc (best)=1"])
def test_a_longer_name_is_another(line):
    assert values(line, "acc") == {}


def test_a_name_that_begins_with_a_sign_stands_by_itself():
    assert values("a(%)=1 | (%)=2", "(%)") == {"(%)": 2.0}


# steps


def test_lines_without_a_step_are_numbered_for_each_metric():
    lines = parser()
    steps = [(metric.name, metric.step) for line in ("a=1", "a=2 b=1", "b=2", "a=3") for metric in lines.parse(line)]
    assert steps == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2)]


@pytest.mark.parametrize("key", ["step", "global_step"])
def test_a_line_may_state_its_step(key):
    lines = parser("a")
    assert [metric.step for metric in lines.parse(f"{key}=7 a=1")] == [7]
    assert [metric.step for metric in lines.parse("a=2")] == [8]


def test_the_step_is_no_metric_unless_it_is_named():
    assert values("step=7 a=1") == {"a": 1.0}
    assert values("step=7 a=1", "step", "a") == {"step": 7.0, "a": 1.0}


@pytest.mark.parametrize("step", ["1.5", "nan", "inf", "[1]", "1e300", "9223372036854775808"])
def test_a_step_that_no_database_keeps_is_not_one(step):
    assert [metric.step for metric in parser("a").parse(f"step={step} a=1")] == [0]


# times


@pytest.mark.parametrize(
    ("line", "timestamp_ms"),
    [
        ("2024-01-01T00:00:00Z a=1", 1_704_067_200_000),
        ("2024-01-01T01:00:00.250+01:00 a=1", 1_704_067_200_250),
        ("  2024-01-01T00:00:00Z\ta=1", 1_704_067_200_000),
        ("a=1 2024-01-01T00:00:00Z", NOW),
        ("2024-13-01T00:00:00Z a=1", NOW),
        ("2024-01-01 a=1", NOW),
        ("0001-01-01T00:00:00 a=1", NOW),
        ("a=1", NOW),
    ],
)
def test_a_line_may_begin_with_its_time(line, timestamp_ms):
    assert [metric.timestamp_ms for metric in parser("a").parse(line)] == [timestamp_ms]


@pytest.mark.parametrize(
    ("stated", "timestamp_ms"),
    [
        (1704067200.25, 1_704_067_200_250),
        ("2024-01-01T00:00:00Z", 1_704_067_200_000),
        *[(odd, NOW) for odd in (0, -1, 1e300, math.inf, math.nan, True, "soon", None, [1], {})],
    ],
)
def test_a_json_line_may_state_its_time(stated, timestamp_ms):
    line = json.dumps({"timestamp": stated, "a": 1})
    assert [metric.timestamp_ms for metric in parser("a", format="json").parse(line)] == [timestamp_ms]


# JSON


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"accuracy": 0.9, "loss": 1}', {"accuracy": 0.9, "loss": 1.0}),
        ('  {"accuracy": "0.9"}', {"accuracy": 0.9}),
        ('{"a": Infinity, "b": "-inf", "c": 1e999}', {"a": math.inf, "b": -math.inf, "c": math.inf}),
        ('{"stats": [1, 2.5], "more": ["1", 2]}', {"stats": (1.0, 2.5), "more": (1.0, 2.0)}),
        ('{"step": 3, "a": 1}', {"a": 1.0}),
        ('{"a": true, "b": null, "c": {}, "d": [], "e": [[1]], "f": "x", "g": "", "": 1, "h": [1, null]}', {}),
        ('{"a": 1' + "0" * 400 + "}", {}),
        ('{"a": 1' + "0" * 5000 + "}", {}),
        ('{"a": ' + "[" * 100_000, {}),
        ('{"a": "' + "[" * 100_000 + '"}', {}),
        ('["accuracy", 1]', {}),
        ('{"a": 1', {}),
        ("accuracy=1", {}),
        ("", {}),
    ],
    ids=range(14),
)
def test_a_json_line_is_an_object_of_numbers_and_vectors(line, expected):
    assert values(line, format="json") == expected


@pytest.mark.parametrize("step", [3, 3.0, "3"])
def test_a_json_line_may_state_its_step(step):
    assert [metric.step for metric in parser("a", format="json").parse(json.dumps({"step": step, "a": 1}))] == [3]


# filters


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        (r"(\w+): ([\d.]+)", "accuracy: 0.93, loss: 0.1", {"accuracy": 0.93, "loss": 0.1}),
        (
            r"{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)}",
            "{metricName: loss, metricValue: 0.5}",
            {"loss": 0.5},
        ),
        (r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)", "loss=1.5e-3", {"loss": 0.0015}),
        (r"(\w+)=(Genotype.*)", "best=Genotype(a)", {}),
        (r"(?:loss (\w+))? ?([\d.]+)?", "loss total 3", {"total": 3.0}),
        (r"(a)|(b)", "ab", {}),
        (r"(?P<value>\w+)<-(\d+)", "loss<-3", {"loss": 3.0}),
        (r"(loss).*?(\d+)", "loss over\u2028all 7", {"loss": 7.0}),
        (r"()(\d+)", "7", {}),
        (r"(\s*)(\s*)", "   ", {}),
    ],
)
def test_a_filter_finds_names_and_values_by_its_first_two_groups(pattern, line, expected):
    assert values(line, filter=[pattern]) == expected


def test_a_filter_that_finds_text_for_a_number_finds_no_metric():
    assert values("accuracy: high", filter=[r"(\w+): (\w+)"]) == {}


# anything


@pytest.mark.parametrize(
    "line",
    [
        *["a" * 10**6 + "=", "a=[" * 10**5, "a=" + "1" * 10**6 + "x", "a" + " " * 10**6 + "=b"],
        *["a=1." * 10**5, "a=+" * 10**5, "a=1e" * 10**5],
    ],
    ids=range(7),
)
def test_a_line_of_a_million_characters_takes_time_in_proportion(line):
    # With a pattern that looks at each part of the line again for every start, this takes hours.
    assert len(values(line)) <= 1


def test_a_vector_of_a_hundred_thousand_numbers_is_taken():
    assert len(values("stats=[" + "0.5," * 10**5 + "1]")["stats"]) == 10**5 + 1


@pytest.mark.parametrize(
    "fields", [{}, {"format": "json"}, {"filter": [r"(\S+)\s*=\s*(\S+)"]}], ids=["text", "json", "filter"]
)
@given(st.text() | st.text(alphabet="ab=[]{},.+-eE0123456789 \t\"':infaNT|/", max_size=40))
def test_no_line_raises(fields, line):
    for metric in parser(**fields).parse(line):
        assert metric.name
        assert isinstance(metric.value, float | tuple)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "step", "global_step", "timestamp", ""]), json_values))
@example({"timestamp": 0.0005})
def test_no_json_object_raises(data):
    for metric in parser(format="json").parse(json.dumps(data)):
        assert isinstance(metric.value, float | tuple)
        assert abs(metric.step) < 2**63
        assert 0 < metric.timestamp_ms < 2**63


@given(
    st.floats(),
    st.integers(-(2**63) + 1, 2**63 - 1).filter(lambda step: step == int(float(step)) and abs(float(step)) < 2**63),
)
def test_a_number_that_is_printed_is_read_exactly(value, step):
    (metric,) = parser("loss").parse(f"loss={value!r} step={step}")
    assert metric.step == step
    assert repr(metric.value) == repr(value)
