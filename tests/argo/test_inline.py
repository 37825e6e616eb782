"""Code that travels in the spec: of a file, of a decorated function; found and called as it would be in an image."""

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
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.spec import Experiment
from katib_flow.trial.functions import trial_function

CODE = "FACTOR = 2\n\n\ndef train(lr):\n    '''{{=1}} $(HOME) \u2028'''\n    return lr * FACTOR\n"


@kf.experiment(parameters={"lr": kf.Float(0, 1)}, maximize="accuracy", max_trials=1)
def doubled(lr: float) -> float:
    return 2 * lr


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


def test_a_decorated_function_needs_no_image() -> None:
    workflow = yaml.safe_load(doubled.to_workflow().to_yaml())
    parameters = {each["name"]: each["value"] for each in workflow["spec"]["arguments"]["parameters"]}
    function = trial_function(decode_spec(parameters["spec"], "spec"))
    assert function is not None
    assert function(lr=0.25) == 0.5


def test_what_cannot_be_put_into_a_spec_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="need a module that is a file below"):
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
