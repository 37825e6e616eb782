"""Names, texts and numbers in the form that MLflow takes, and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.tracking.names import (
    MAX_NAME,
    MAX_PARAM,
    MAX_TAG,
    escape,
    json_tags,
    metric_in,
    read_json,
    readable,
    unescape,
)

_texts = st.text(st.characters())
_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(name=_texts.filter(lambda name: len(name) < 40))
def test_an_escaped_name_reads_back(name: str) -> None:
    assert unescape(escape(name)) == name


@given(name=_texts | st.text("./:- ", max_size=6))
def test_mlflow_takes_every_escaped_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_param_name(escape(name))
    _validate_metric_name(escape(name))
    assert len(escape(name)) <= MAX_NAME


@given(names=st.lists(_texts | st.text("./:0A- ", max_size=5), unique=True, min_size=2, max_size=2))
def test_different_names_stay_different(names: list[str]) -> None:
    assert escape(names[0]) != escape(names[1])


@pytest.mark.parametrize("end", [":", "/", ".", "é"])
def test_long_names_that_differ_in_their_last_character_stay_different(end: str) -> None:
    long = end * 400
    assert escape(long + "a") != escape(long + "b")


@pytest.mark.parametrize("name", ["accuracy", "val/acc", "val_loss", "f1-score", "lr 2", "学習率", "a.b"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert escape(name) == name


@given(data=_plain)
def test_data_reads_back_from_its_tags(data: object) -> None:
    assert read_json("k", json_tags("k", {"data": data})) == {"data": data}


@pytest.mark.parametrize("length", [0, 1, MAX_TAG - 10, MAX_TAG - 9, MAX_TAG - 8, MAX_TAG, 2 * MAX_TAG, 30_000])
def test_data_of_any_length_reads_back_from_tags_within_the_limit(length: int) -> None:
    tags = json_tags("k", {"data": "x" * length})
    assert max(map(len, tags.values())) <= MAX_TAG
    assert read_json("k", tags) == {"data": "x" * length}


def test_data_that_grew_shorter_reads_back_over_what_longer_data_left() -> None:
    left = json_tags("k", {"data": "x" * 3 * MAX_TAG})
    assert read_json("k", left | json_tags("k", {"data": "y"})) == {"data": "y"}


def test_tags_are_ascii() -> None:
    assert json.dumps(json_tags("k", {"é": "𝄞"})).isascii()


def test_absent_data_is_none() -> None:
    assert read_json("k", {"k.1": "x"}) is None


@given(text=_texts)
def test_a_readable_text_can_be_stored_anywhere(text: str) -> None:
    shown = readable(text, 20)
    assert "\0" not in shown
    assert len(shown) <= 20
    shown.encode("utf-8")


def test_a_text_that_fits_is_not_cut() -> None:
    assert readable("x" * MAX_PARAM, MAX_PARAM) == "x" * MAX_PARAM


def test_a_text_that_does_not_fit_ends_in_an_ellipsis() -> None:
    assert readable("x" * (MAX_PARAM + 1), MAX_PARAM) == "x" * (MAX_PARAM - 1) + "…"


@pytest.mark.parametrize("value", ["0.5", None, b"1"])
def test_a_damaged_value_of_a_metric_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="as a value, need a number"):
        metric_in(value)
