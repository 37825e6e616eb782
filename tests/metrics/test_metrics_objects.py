"""Dicts as Python prints them, the lines of Transformers' Trainer among them: read, and never evaluated."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.metrics.lines import LineSplitter
from katib_flow.metrics.objects import LONGEST, object_of
from katib_flow.metrics.text import LineParser

TRAINER = "{'loss': 0.4123, 'grad_norm': 2.7182, 'learning_rate': 4.5e-05, 'epoch': 0.25}"


def values(line: str, *names: str) -> dict[str, Any]:
    return {metric.name: metric.value for metric in LineParser(names or None, "json").parse(line)}


@pytest.mark.parametrize(
    "line",
    [
        TRAINER,
        f"  {TRAINER}  ",
        f"  2%|▏         | 10/500 [00:05<04:00,  2.04it/s]{TRAINER}",
        f"INFO:trainer: {TRAINER}",
        "{'loss': '0.4123', 'grad_norm': '2.7182', 'learning_rate': '4.5e-05', 'epoch': '0.25'}",  # Transformers 5
        "{'loss': np.float64(0.4123), 'learning_rate': numpy.float32(4.5e-05), 'note': open('x')}",
        "{'loss': tensor(0.4123, device='cuda:0'), 'learning_rate': array(4.5e-05)}",
        '2026-01-01 INFO {"loss": 0.4123, "learning_rate": 4.5e-05}',
    ],
)
def test_a_line_of_the_trainer_is_read(line):
    assert values(line, "loss", "learning_rate") == {"loss": 0.4123, "learning_rate": 4.5e-05}


def test_the_last_line_of_the_trainer_has_what_it_sums_up():
    line = "{'train_runtime': 12.3, 'train_samples_per_second': 81.3, 'train_loss': 0.5, 'epoch': 1.0}"
    assert values(line, "loss", "train_loss") == {"train_loss": 0.5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf), ("+1", 1.0), ("-0.5", -0.5), ("1e999", math.inf)),
        *(("[1, 2.5]", (1.0, 2.5)), ("(1, nan)", (1.0, math.nan)), ("np.float64(nan)", math.nan), ("1_000", 1000.0)),
    ],
)
def test_a_number_is_read_as_python_prints_it(text, value):
    (read,) = values(f"{{'a': {text}}}").values()
    assert read == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        *("True", "None", "''", "'x'", "{}", "{'b': 1}", "[]", "[[1]]", "1j", "b'1'", "1 + 1", "-True", "--'1'", "a"),
        *("__import__('os').getpid()", "float('1')", "int(1)", "np.float64()", "1" + "0" * 5000, "[None]", "*a"),
    ],
)
def test_what_is_no_number_is_left_out(text):
    assert values(f"{{'a': {text}, 'b': 1}}", "a") == {}


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "}", "{}", "{'a'}", "{'a': }", "{'a': 1", "{'a': 1} and more", "f(a={'a': 1})", "{'a': 1, **b}}"),
        *(
            "{0: 1}",
            "{a: 1}",
            "{'a': " + "(" * 5000 + "}",
            "{'a': " + "-" * 9000 + "1}",
            "{'\\N{x}': 1}",
            "{'a': '\0'}",
        ),
        "{'a': 1, 'b': '" + "x" * LONGEST + "'}",
    ],
    ids=range(17),
)
def test_what_is_no_dict_has_nothing(line):
    assert object_of(line) == ({}, "")


def test_a_step_and_a_time_stand_in_a_dict_too():
    (metric,) = LineParser(("a",), "json").parse("{'a': 1, 'step': 7, 'timestamp': 1700000000.5}")
    assert (metric.step, metric.timestamp_ms) == (7, 1_700_000_000_500)


def test_reports_of_a_dict_without_a_step_are_numbered():
    lines = LineParser(("loss",), "json")
    assert [metric.step for _ in range(3) for metric in lines.parse(TRAINER)] == [0, 1, 2]


def test_json_comes_before_python():
    assert object_of('{"a": true, "b": null}') == ({"a": True, "b": None}, "JSON")
    assert object_of("{'a': True, 'b': None}") == ({"a": True, "b": None}, "Python")


def test_a_warning_about_a_text_goes_nowhere(recwarn):
    assert object_of(r"{'path': 'C:\d', 'a': 1}")[0]["a"] == 1
    assert not recwarn.list


def test_the_output_of_transformers_5_is_read_between_its_bars():
    output = (
        b"\r                   \r\x1b[[A{'eval_loss': '1.985', 'eval_runtime': '0.0852', 'epoch': '1'}\n"
        b"\r100%|\xe2\x96\x88| 5/5 [00:00<00:00, 104.08it/s]\x1b[A\n"
        b"\r        \x1b[A\r 52%|#    | 21/40 [00:01<00:00, 21.20it/s]\r    \r{'loss': '1.987', 'epoch': '1.5'}\n"
    )
    lines = LineParser(("eval_loss", "loss"), "json")
    read = [metric for line in LineSplitter().split(output, end=True) for metric in lines.parse(line)]
    assert [(metric.name, metric.value) for metric in read] == [("eval_loss", 1.985), ("loss", 1.987)]


scalars = st.one_of(st.booleans(), st.none(), st.integers(), st.floats(), st.text(max_size=8))
dicts = st.dictionaries(st.text(min_size=1, max_size=8), st.one_of(scalars, st.lists(scalars, max_size=3)), min_size=1)


@given(dicts)
def test_a_dict_of_numbers_and_texts_is_read_as_it_was_printed(data):
    line = repr(data)
    assert repr(object_of(line)[0]) == line
    assert repr(object_of(json.dumps(data))[0]) == line


@given(st.text())
def test_no_line_raises(text):
    object_of(text)
    object_of("{'" + text + "}")


def test_a_long_line_has_nothing():
    for text in ("{'" * 500_000 + "}", "{'a': " + "[" * 500_000 + "}", "{'a': '" + "{" * 1_000_000 + "'}"):
        assert object_of(text) == ({}, "")
