"""Code that travels in the spec: of a file, of a decorated function; found and called as it would be in an image."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from specs import spec

import katib_flow as kf
from katib_flow.argo.inline import inlined
from katib_flow.argo.spec_text import decode_spec
from katib_flow.argo.steps.packages import install
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spec import Experiment
from katib_flow.trial.functions import trial_function

CODE = "FACTOR = 2\n\n\ndef train(lr):\n    '''{{=1}} $(HOME) \u2028'''\n    return lr * FACTOR\n"


DECORATED = """\
import functools

import katib_flow as kf


def as_fraction(function):
    @functools.wraps(function)
    def call(**arguments):
        return function(**arguments) / 100

    return call


@kf.experiment(parameters={"lr": kf.Float(0, 1)}, maximize="accuracy", max_trials=1)
@as_fraction
def train(lr):
    return 100 * lr


class Base:
    factor = 1

    @classmethod
    def train(cls, lr):
        return cls.factor * lr

    def method(self, lr):
        return lr


class Derived(Base):
    factor = 5


def closure():
    def inner(lr):
        return lr

    return inner


named_apart = train.function.__wrapped__
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: Any) -> Any:
    """A user's module beside nothing, imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "katib_flow_test_user", raising=False)
    (tmp_path / "katib_flow_test_user.py").write_text(DECORATED)
    yield importlib.import_module("katib_flow_test_user")
    sys.modules.pop("katib_flow_test_user", None)


def experiment(function: Any) -> Any:
    return kf.experiment(name="x", parameters={"lr": kf.Float(0, 1)}, maximize="accuracy", max_trials=1)(function)


def in_a_pod(workflow: Any) -> Any:
    """The function that a pod would call."""
    parameters = yaml.safe_load(workflow.to_yaml())["spec"]["arguments"]["parameters"]
    text = next(each["value"] for each in parameters if each["name"] == "spec")
    return trial_function(decode_spec(text, "spec"))


def test_a_modules_text_is_found_without_importing_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "katib_flow_test_user.py").write_text(CODE)
    found = inlined(Experiment.parse(spec(trial={"function": "katib_flow_test_user:train"}, argo={})))
    assert found.trial.code == CODE
    assert "katib_flow_test_user" not in sys.modules
    assert inlined(found) == found
    function = trial_function(found)
    assert function is not None
    assert function(lr=3) == 6


def test_a_decorated_function_needs_no_image_and_keeps_its_decorators(module: Any) -> None:
    assert in_a_pod(module.train.to_workflow())(lr=0.25) == module.train(lr=0.25) == 0.25


def test_a_classmethod_travels_under_the_class_that_it_was_taken_from(module: Any) -> None:
    assert in_a_pod(experiment(module.Derived.train).to_workflow())(lr=0.5) == 2.5


@pytest.mark.parametrize("image", [None, "example.com/train:1"])
@pytest.mark.parametrize(
    ("made", "need"),
    [
        (lambda module: module.closure(), "a pod cannot import one defined inside another"),
        (lambda module: module.Base().method, "a pod does not have the object of a bound method"),
        (lambda module: module.named_apart, "katib_flow_test_user has another one there, or none"),
    ],
)
def test_what_a_pod_would_not_find_by_its_name_is_not_compiled(
    module: Any, made: Any, need: str, image: str | None
) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(need)):
        experiment(made(module)).to_workflow(image=image)
    with pytest.raises(InvalidSpec, match=re.escape(need)):
        kf.experiment_task(experiment(made(module)))


def test_a_module_that_imports_its_neighbour_does_not_travel_alone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "katib_flow_neighbour.py").touch()
    (tmp_path / "katib_flow_user.py").write_text("import katib_flow_neighbour\n" + CODE)
    made = Experiment.parse(spec(trial={"function": "katib_flow_user:train"}, argo={}))
    with pytest.raises(SpecError, match=r"line 1 imports katib_flow_neighbour, which is .*katib_flow_neighbour\.py on"):
        inlined(made)
    inlined(made.model_copy(update={"argo": made.argo.model_copy(update={"image": "example.com/both:1"})}))


def test_a_module_without_the_function_is_told_before_a_pod_finds_out(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "katib_flow_test_user.py").write_text(CODE)
    with pytest.raises(SpecError, match=r"katib_flow_test_user\.py defines; it has no trian"):
        inlined(Experiment.parse(spec(trial={"function": "katib_flow_test_user:trian"}, argo={})))


def test_what_cannot_be_put_into_a_spec_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="need a function in a module file below"):
        inlined(Experiment.parse(spec(trial={"function": "katib_flow_no_such:train"})))
    with pytest.raises(KatibFlowError, match=r"trial.command: only the code of a function"):
        inlined(Experiment.parse(spec(trial={"command": ["x"]})))


@pytest.mark.parametrize(
    ("code", "need"),
    [("def other(): ...", "has no attribute 'train'"), ("1/0", "division by zero"), ("def", "SyntaxError")],
)
def test_code_without_the_function_is_the_users_mistake(code: str, need: str) -> None:
    made = Experiment.parse(spec(trial={"function": "user_code:train", "code": code}))
    with pytest.raises(SpecError, match=need):
        trial_function(made)


def test_a_package_that_is_nowhere_is_the_users_mistake(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SpecError, match=r"trial.packages: .*No matching distribution found"):
        install(["katib-flow-no-such-package"])
    install([])
