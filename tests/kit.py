"""Specs, spaces and histories for tests: small ones to write by hand, and Hypothesis strategies for any."""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st
from pydantic import TypeAdapter

from katib_flow.algorithms import check_installed
from katib_flow.history import History, State, Suggestion, Trial, Value
from katib_flow.spec import Experiment, SearchSpace
from katib_flow.spec.parameters import AnyParameter, Parameter

Data = dict[str, Any]
needs_busybox = pytest.mark.skipif(
    shutil.which("busybox") is None, reason="needs a static busybox (apt: busybox-static)"
)


def spec(**sections: Any) -> Data:
    """A valid spec as plain data, with some sections replaced."""
    return {
        "name": "digits-mlp",
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "parameters": {"lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}},
        "limits": {"max_trials": 10},
        "trial": {"function": "examples.digits:train"},
        **sections,
    }


def experiment(**sections: Any) -> Experiment:
    """The experiment of ``spec``."""
    return Experiment.parse(spec(**sections))


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true within some seconds; for effects of other processes, which send no signal."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


PARAMETER = TypeAdapter[Any](AnyParameter)


def skip_what_is_not_installed(experiment: Experiment) -> None:
    """Skip the test if the algorithm of the experiment needs a library that is not installed, such as PyTorch."""
    for problem in check_installed(experiment):
        pytest.skip(f"{problem.found!r} needs {problem.need}")


def parameter(**fields: Any) -> Any:
    """A parameter from its fields in a spec."""
    return PARAMETER.validate_python(fields)


def space(parameters: Mapping[str, Data]) -> SearchSpace:
    """A search space from parameters as plain data."""
    parsed: dict[str, Parameter] = {name: parameter(**fields) for name, fields in parameters.items()}
    return SearchSpace(parsed)


def typed(assignment: Mapping[str, Value]) -> frozenset[tuple[str, str, Value]]:
    """An assignment for comparison, in which 1, 1.0 and true are three different values."""
    return frozenset((name, type(value).__name__, value) for name, value in assignment.items())


# parameters as plain data

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0, -1e-9, 1e22]), st.text(max_size=3)
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,5}", fullmatch=True)


def choices(most: int = 4) -> st.SearchStrategy[Data]:
    values = st.lists(scalars, min_size=1, max_size=most, unique_by=lambda value: (type(value), value))
    return st.builds(
        lambda kind, values: {"type": kind, "values": values}, st.sampled_from(["categorical", "ordinal"]), values
    )


@st.composite
def ints(draw: st.DrawFn, most: int = 4) -> Data:
    low, step, count = draw(st.integers(-5, 5)), draw(st.integers(1, 3)), draw(st.integers(1, most))
    scales = ["linear", "normal"] + (["log", "lognormal"] if low > 0 else [])
    high = low + step * (count - 1) + draw(st.integers(0, step - 1))
    return {"type": "int", "min": low, "max": high, "step": step, "scale": draw(st.sampled_from(scales))}


@st.composite
def grids(draw: st.DrawFn, most: int = 4) -> Data:
    """Float parameters with a step, all decimal numbers."""
    low, step = draw(st.decimals(-5, 5, places=2)), draw(st.decimals("0.01", 2, places=2))
    high = low + step * (draw(st.integers(1, most)) - 1)
    scales = (
        ["linear", "normal"] + (["log", "lognormal"] if low > 0 else []) + (["logit"] if 0 < low <= high < 1 else [])
    )
    numbers = {"min": float(low), "max": float(high), "step": float(step)}
    return {"type": "float", **numbers, "scale": draw(st.sampled_from(scales))}


@st.composite
def reals(draw: st.DrawFn) -> Data:
    """Float parameters without a step, whose values are infinitely many."""
    scale = draw(st.sampled_from(["linear", "log", "logit", "normal", "lognormal"]))
    low = draw(st.floats(0.001, 0.5) if scale in ("log", "logit", "lognormal") else st.floats(-100, 100))
    high = draw(st.floats(0.51, 0.999)) if scale == "logit" else low + draw(st.floats(0.01, 100))
    return {"type": "float", "min": low, "max": high, "scale": scale}


def countable(most: int = 4) -> st.SearchStrategy[Data]:
    return st.one_of(choices(most), ints(most), grids(most))


def values_of(fields: Data) -> list[Value]:
    """All values of a countable parameter, computed independently of the package."""
    if "values" in fields:
        return fields["values"]
    low, high, step = (Decimal(repr(fields[key])) for key in ("min", "max", "step"))
    kind = int if fields["type"] == "int" else float
    return [
        kind(value) for value in itertools.takewhile(lambda x: x <= high, (low + k * step for k in itertools.count()))
    ]


@st.composite
def parameter_sets(draw: st.DrawFn, *, finite: bool | None = None, most: int = 4) -> dict[str, Data]:
    """Parameters by name, in any order, some of them conditional on others."""
    result: dict[str, Data] = {}
    kinds = countable() if finite else st.one_of(countable(), reals())
    for name in draw(st.lists(names, min_size=1, max_size=most, unique=True)):
        fields = dict(draw(kinds))
        parents = [other for other, data in result.items() if "values" in data or "step" in data]
        for parent in draw(st.lists(st.sampled_from(parents), max_size=2, unique=True)) if parents else []:
            wanted = st.lists(st.sampled_from(values_of(result[parent])), min_size=1, max_size=2)
            fields.setdefault("when", {})[parent] = draw(wanted)
        result[name] = fields
    return dict(draw(st.permutations(list(result.items()))))


def every_assignment(parameters: Mapping[str, Data], order: Iterator[str] | None = None) -> list[dict[str, Value]]:
    """All assignments by brute force, with the last parameter of the order changing fastest."""
    absent = object()
    order_ = list(order or parameters)
    result: list[dict[str, Value]] = []
    for values in itertools.product(*([*values_of(parameters[name]), absent] for name in order_)):
        given = {name: value for name, value in zip(order_, values, strict=True) if value is not absent}
        if all((name in given) == _wanted(parameters[name], given) for name in order_):
            result.append(given)
    return result


def _wanted(fields: Data, given: Mapping[str, Any]) -> bool:
    return all(
        parent in given and any(type(given[parent]) is type(value) and given[parent] == value for value in values)
        for parent, values in fields.get("when", {}).items()
    )


# histories

results = st.one_of(st.floats(-10, 10), st.sampled_from([float("nan"), float("inf"), float("-inf")]), st.none())


def trial(suggestion: Suggestion, state: State, metric: str, value: float | None) -> Trial:
    observations = {} if value is None or not state.final else {metric: value}
    return Trial(suggestion, state, observations)


@st.composite
def histories(draw: st.DrawFn, of: SearchSpace, metric: str = "accuracy", most: int = 8) -> History:
    """Histories of trials at random points of a space, in any state, with any result."""
    points = st.lists(st.floats(0, 1, exclude_max=True), min_size=len(of), max_size=len(of))
    outcomes = draw(st.lists(st.tuples(points, st.sampled_from(State), results), max_size=most))
    return History(
        tuple(
            trial(Suggestion(index, of.decode(point)), state, metric, value)
            for index, (point, state, value) in enumerate(outcomes)
        )
    )
