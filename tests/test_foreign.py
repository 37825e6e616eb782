"""What somebody else wrote is data of its type and of bounded depth, or no data."""

import json
import math

import pytest

from katib_flow.foreign import MAX_DEPTH, first_of_json, from_json, metric_of, number_of
from katib_flow.history import Metric


def nested(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


def test_json_is_read_to_a_depth_that_can_be_written_again():
    assert json.loads(nested(MAX_DEPTH)) == from_json(nested(MAX_DEPTH)) == first_of_json(nested(MAX_DEPTH) + "rest")
    for levels in (MAX_DEPTH + 1, 100_000):
        for read in (from_json, first_of_json):
            with pytest.raises(ValueError, match="more than 100 levels of nesting"):
                read('{"a":' * levels + "1" + "}" * levels)


def test_brackets_in_texts_and_side_by_side_are_no_levels():
    wide = [["["] * 50, '"{[' * 500, "\\", '\\"[' * 200] * 50
    assert from_json(json.dumps(wide)) == wide


@pytest.mark.parametrize("text", ["", "{", "[1", '"', '"\\', None, 7, b"{}", "[" * 150 + '"'])
def test_what_is_no_json_is_told(text):
    with pytest.raises(ValueError):
        from_json(text)


def test_a_long_text_without_an_end_is_refused_in_linear_time():
    text = '"' + "\\" * 2_000_000 + "[" * 200  # in quadratic time, the test would exceed its timeout
    with pytest.raises(ValueError):
        from_json(text)


def test_numbers_are_numbers_or_their_names():
    assert [number_of(value) for value in (1, 2.5, "-inf", "1e3")] == [1.0, 2.5, -math.inf, 1000.0]
    assert all(isinstance(number_of(value), float) for value in (1, "2"))


@pytest.mark.parametrize("value", [None, True, [1], {}, "x", 10**400])
def test_what_is_no_number_is_told(value):
    with pytest.raises(ValueError):
        number_of(value)


def test_a_metric_is_made_of_its_parts():
    assert metric_of("loss", 0.5, 3, 4) == Metric("loss", 0.5, 3, 4)


@pytest.mark.parametrize(
    "parts",
    [
        (1, 0.5, 3, 4),
        ("loss", 0.5, "3", 4),
        ("loss", 0.5, 3, 4.5),
        ("loss", 0.5, 2**63, 4),
        ("loss", 0.5, True, 4),
        ("loss", 0.5, 3, False),
        ("loss", 0.5, 3, None),
    ],
)
def test_what_is_no_part_of_a_metric_is_told(parts):
    with pytest.raises(ValueError):
        metric_of(*parts)
