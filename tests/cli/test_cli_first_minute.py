"""The first minute: what is told before anything runs, which Python a trial gets, and a spec from a function."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.loop import load
from katib_flow.spec.files import located, missing

SPEC = """\
name: {name}
objective: {{metric: accuracy, direction: maximize}}
parameters: {{lr: {{type: float, min: 0, max: {most}}}}}
limits: {{max_trials: 1}}
{more}
trial: {{command: {command}}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def written(command: list[str], *, name: str = "first", most: float = 1, more: str = "") -> str:
    path = Path(f"{name}.yaml")
    path.write_text(SPEC.format(name=name, most=most, more=more, command=json.dumps(command)))
    return str(path)


@pytest.mark.parametrize(
    "line", ["cd src && python train.py", "python train.py | tee log", "python train.py --lr=${lr}", "train > log"]
)
def test_a_line_for_a_shell_is_no_program(line: str, call: Any) -> None:
    done = call("validate", written([line]))
    assert done.code == 2
    need = "the name of a program, with each argument as its own item"
    assert f"trial.command[0]: found {line!r}, need {need}" in done.error


def test_an_operator_of_a_shell_among_the_arguments_is_told(call: Any) -> None:
    done = call("validate", written(["python", "-c", "print(${lr})", "&&", "echo"]))
    assert done.code == 0
    assert "note: trial.command[3]: no shell interprets this: the program gets '&&' as an argument" in done.error


def test_python_is_the_interpreter_that_this_runs_in(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = call("run", "-q", "-o", "json", written(["python", "-c", "import sys; print('accuracy=1', sys.executable)"]))
    assert done.code == 0, done.error
    assert located(["python", "x"], None) == [sys.executable, "x"]
    assert located(["python3", "x"], None) == [sys.executable, "x"]


def test_where_the_spec_says_which_python_that_one_is_taken(tmp_path: Path) -> None:
    assert located(["python"], None, {"PATH": "/usr/bin"}) == ["python"]
    assert located(["/usr/bin/python"], None) == ["/usr/bin/python"]
    assert located(["python3.9"], None) == ["python3.9"]
    (problem,) = missing(["python"], {"PATH": str(tmp_path)}, None, "trial.command")
    assert "need an executable program on the PATH" in str(problem)


def test_a_warm_start_of_which_nothing_fits_is_told_at_validation(call: Any) -> None:
    program = ["python", "-c", "print('accuracy=${lr}')"]
    absent = call("validate", written(program, name="next", more="warm_start: before"))
    assert "note: warm_start: no store exists at " in absent.error
    with kf.ask_and_tell(name="before", parameters={"lr": kf.Float(2, 3)}, maximize="accuracy", max_trials=2) as search:
        for trial in search:
            search.tell(trial, 1.0)
    done = call("validate", written(program, name="next", more="warm_start: before"))
    reason = "lr has a value that is not in this space (2 trials)"
    assert f"note: warm_start: 0 of 2 trials of before lie in this space: {reason}" in done.error
    fits = call("validate", written(program, name="wide", most=5, more="warm_start: before"))
    assert "warm_start" not in fits.error
    unknown = call("validate", written(program, name="next", more="warm_start: befor"))
    assert "note: warm_start: befor: no such experiment in " in unknown.error


FUNCTION = """\
from typing import Literal

def helper(x): return x

def train(
    lr: float, layers: int = 2, kind: Literal["relu", "tanh"] = "relu", *, dropout=0.1, epochs=3, data=None, fast=False
):
    for epoch in range(epochs):
        yield {"step": epoch, "accuracy": lr * layers}
"""


def test_the_arguments_of_a_function_become_a_spec_that_runs(call: Any) -> None:
    Path("mine.py").write_text(FUNCTION)
    done = call("init", "mine:train", "-o", "mine.yaml")
    assert done.code == 0, done.error
    spec = load("mine.yaml")
    assert {name: parameter.type for name, parameter in spec.parameters.items()} == {
        "lr": "float", "layers": "int", "kind": "categorical", "dropout": "float",
    }  # fmt: skip
    assert spec.trial.arguments == {"epochs": 3, "data": None, "fast": False}
    assert (spec.name, spec.objective[0].metric, spec.objective[0].direction) == ("train", "accuracy", "maximize")
    assert call("validate", "mine.yaml").code == 0
    Path("mine.yaml").write_text(Path("mine.yaml").read_text().replace("max_trials: 20", "max_trials: 2"))
    assert call("run", "-q", "mine.yaml").code == 0


@pytest.mark.parametrize(
    ("reference", "need"),
    [
        ("none:train", "found no file none.py"),
        ("mine:absent", "found no function absent at the top level of the module mine"),
    ],
)
def test_a_function_that_is_not_there_is_told(reference: str, need: str, call: Any) -> None:
    Path("mine.py").write_text(FUNCTION)
    done = call("init", reference)
    assert done.code == 2
    assert need in done.error
