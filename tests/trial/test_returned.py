"""What a function gives back, of any library's kind, and what is said where it is no value of the objective."""

import decimal
import fractions
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from katib_flow.trial.protocol import REPORT_FILE
from katib_flow.trial.returned import Unusable, described, report_returned


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls ``report_returned``; gives the lines of the report file."""
    file = tmp_path / "report.jsonl"
    monkeypatch.setenv(REPORT_FILE, str(file))

    def told(returned: Any) -> list[dict[str, Any]]:
        report_returned(returned, "accuracy")
        return [json.loads(line) for line in file.read_text().splitlines()]

    return told


def series(value: Any) -> Any:
    return pytest.importorskip("pandas").Series(value)


def frame(value: Any) -> Any:
    return pytest.importorskip("pandas").DataFrame({"accuracy": value})


def tensor(value: Any, **options: Any) -> Any:
    return pytest.importorskip("torch").tensor(value, **options)


class Array:
    """An array of a library that knows NumPy's protocol only."""

    def __array__(self) -> Any:
        return np.array([[0.5]])


NUMBERS = {
    "float": lambda: 0.5,
    "np64": lambda: np.float64(0.5),
    "np32": lambda: np.float32(0.5),
    "np0d": lambda: np.array(0.5),
    "np1": lambda: np.array([0.5]),
    "np11": lambda: np.array([[0.5]]),
    "list of one": lambda: [0.5],
    "decimal": lambda: decimal.Decimal("0.5"),
    "fraction": lambda: fractions.Fraction(1, 2),
    "series": lambda: series([0.5]),
    "frame": lambda: frame([0.5]),
    "tensor": lambda: tensor(0.5, requires_grad=True),
    "tensor1": lambda: tensor([0.5]),
    "array": Array,
}


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
def test_one_number_of_any_kind_is_the_objective(make: Any, told: Any) -> None:
    assert told(make()) == [{"metrics": {"accuracy": 0.5}, "step": None}]


UNUSABLE = {
    "str": ("0.5", "returned the text '0.5', need a number, a dict of metrics, or a generator of these"),
    "bool": (True, "returned a value of type bool, True, need a number"),
    "npbool": (np.bool_(True), f"returned a value of type {np.bool_.__name__}, "),  # bool_ in NumPy 1
    "pair": ((0.5, 0.1), "returned a vector of 2 numbers, need one number"),
    "array": (np.zeros(3), "returned a vector of 3 numbers, need one number"),
    "tuple": ((0.5, {"model": 1}), "returned a value of type tuple, (0.5, {'model': 1}), need a number"),
    "complex": (1j, "returned a value of type complex, 1j, need a number"),
    "masked": (np.ma.masked, "returned a value of type MaskedConstant, masked, need a number"),
    "huge": (10**400, "returned a value of type int, 1000"),
    "beyond words": (10**5000, "returned a value of type int, need a number"),
    "empty": ([], "returned a vector of 0 numbers, need one number"),
    "none of a dict": ({"accuracy": None, "loss": 1}, "returned None for 'accuracy', need one number"),
    "vector of a dict": ({"accuracy": [1, 2]}, "returned a vector of 2 numbers for 'accuracy', need one number"),
    "step": (iter(["x"]), "yielded the text 'x', need a number"),
}


@pytest.mark.parametrize(("returned", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_number_is_told_as_what_it_is(returned: Any, message: str, told: Any) -> None:
    with pytest.raises(Unusable) as caught:
        told(returned)
    assert str(caught.value).startswith(f"the function {message}")


def test_a_dict_keeps_its_numbers_and_names_what_is_none(told: Any) -> None:
    returned = {"accuracy": 0.5, "note": "fine", "model": None, "stats": np.array([1, 2]), 3: np.float32(1)}
    assert told(returned) == [
        {"left_out": {"note": "the text 'fine'", "model": "None"}},
        {"metrics": {"accuracy": 0.5, "stats": [1.0, 2.0], "3": 1.0}, "step": None},
    ]


def test_a_number_of_an_iterator_is_one_of_a_step(told: Any) -> None:
    told(iter([np.array([0.1]), {"accuracy": 0.2, "step": 7}]))
    assert [(each["metrics"], each["step"]) for each in told(x for x in ())[:2]] == [
        ({"accuracy": 0.1}, 0),
        ({"accuracy": 0.2}, 7),
    ]


@pytest.mark.parametrize(("returned", "what"), [(None, "None"), (iter(()), "an empty iterator")])
def test_nothing_is_told_as_nothing(returned: Any, what: str, told: Any) -> None:
    assert told(returned) == [{"returned": what}]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_a_value_that_cannot_be_printed_is_told_by_its_type() -> None:
    assert described(Unprintable()) == "a value of type Unprintable"
    assert len(described(["x" * 1000])) < 120
