"""The function that a trial calls is the one that was given, whichever way it gets to the worker."""

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.decorator import FunctionExperiment
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.local import run_experiment, worker
from katib_flow.local.worker import Start
from katib_flow.spec import Experiment
from katib_flow.trial.functions import check_arguments, load_function, refers_to

MODULE = """\
import functools

import katib_flow as kf


def as_fraction(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs) / 100
    return call


def with_data(function):
    @functools.wraps(function)
    def call(x):
        return function(x, data=[1, 2])
    return call


@as_fraction
def percent(x):
    return 100 * x


@with_data
def informed(x, data):
    return x + len(data)


@kf.experiment(parameters={"x": kf.Float(0, 1)}, maximize="accuracy", max_trials=1)
@as_fraction
def searched(x):
    return 100 * x


@as_fraction
@kf.experiment(parameters={"x": kf.Float(0, 1)}, maximize="accuracy", max_trials=1)
def hidden(x):
    return 100 * x


class Base:
    factor = 1

    @classmethod
    def train(cls, x):
        return cls.factor * x

    @staticmethod
    def plainly(x):
        return x


class Derived(Base):
    factor = 5

    def __init__(self, offset=0):
        self.offset = offset

    def shifted(self, x):
        return self.offset + x


def closure(factor):
    def inner(x):
        return factor * x
    return inner


plain_percent = percent.__wrapped__
"""
NAME = "katib_flow_user_functions"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{NAME}.py").write_text(MODULE)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


def experiment(function: Any, **changes: Any) -> FunctionExperiment:
    fields: dict[str, Any] = {"parameters": {"x": kf.Float(0, 1)}, "maximize": "accuracy", "max_trials": 1}
    return kf.experiment(name="x", **fields | changes)(function)


@pytest.mark.parametrize(
    ("name", "value"),
    [("percent", 0.5), ("informed", 2.5), ("searched", 0.5), ("hidden", 0.5), ("Derived.train", 2.5)],
)
def test_a_name_in_a_spec_stands_for_what_a_plain_call_would_call(module: Any, name: str, value: float) -> None:
    function = load_function(f"{NAME}:{name}")
    check_arguments(function, name, {"x": True})
    assert function(x=0.5) == value


GIVEN = {
    "a decorated function": (lambda module: module.percent, 0.5, False),
    "one that adds arguments": (lambda module: module.informed, 2.5, False),
    "an experiment of the module's": (lambda module: module.searched, 0.5, False),
    "a function below its decorator": (lambda module: module.plain_percent, 50, True),
    "an inherited classmethod": (lambda module: module.Derived.train, 2.5, False),
    "a staticmethod": (lambda module: module.Derived.plainly, 0.5, False),
    "a bound method": (lambda module: module.Derived(3).shifted, 3.5, True),
    "a closure": (lambda module: module.closure(7), 3.5, True),
}


@pytest.mark.parametrize(("given", "value", "sent"), GIVEN.values(), ids=GIVEN)
def test_the_function_of_a_worker_is_the_one_that_was_given(
    module: Any, monkeypatch: pytest.MonkeyPatch, given: Any, value: float, sent: bool
) -> None:
    """What ``run`` hands over, through the pickle and the import of a worker, gives the value of a plain call."""
    handed: list[Any] = []
    monkeypatch.setattr("katib_flow.local.run_experiment", lambda spec, **how: handed.append((spec, how["function"])))
    of = experiment(given(module))
    of.run()
    ((spec, function),) = handed
    assert (function is not None, spec.trial.function.startswith("__main__:")) == (sent, sent)
    pickled = worker.cloudpickle.dumps(function) if function else None
    found = worker._function(Start(spec, pickled))
    assert found is not None
    assert found(x=0.5) == of(x=0.5) == value


def test_a_name_that_was_taken_by_another_function_is_noticed(module: Any) -> None:
    before, module.percent = module.percent, lambda x: -x
    assert not refers_to(f"{NAME}:percent", before)
    assert not refers_to("katib_flow_no_such_module:percent", before)
    assert not refers_to(f"{NAME}:no_such_name", before)


def test_a_decorator_above_the_experiment_is_named_where_it_hides_it(module: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"move @kf\.experiment above the other decorators"):
        kf.run(module.hidden)


def test_a_function_that_cannot_be_sent_is_told_in_one_message(module: Any) -> None:
    lock = threading.Lock()

    def locked(x: float) -> float:
        with lock:
            return x

    with pytest.raises(
        InvalidSpec, match=r"trial\.function: found '__main__:.*locked', need a function that can be pickled"
    ):
        experiment(locked).run()


def test_a_function_that_cannot_be_made_again_is_told_in_one_message() -> None:
    made = Experiment.parse(experiment(load_function(f"{NAME}:percent")).spec.to_dict())
    with pytest.raises(SpecError, match="need a function that can be unpickled in another process"):
        worker._function(Start(made, b"no pickle"))


def test_a_function_that_was_sent_is_not_taken_for_another_of_its_name_later(module: Any) -> None:
    """Its record names nothing that can be imported: the pickle beside the trials is the one way to it."""
    result = experiment(module.Derived(3).shifted).run()
    assert [trial.observations["accuracy"] - trial.assignment["x"] for trial in result.trials] == [3]
    recorded = result.store.get(result.run_id).experiment
    assert recorded.trial.function == "__main__:Derived.shifted"
    with pytest.raises(InvalidSpec, match="__main__:Derived"):
        run_experiment(recorded)
