"""Every example, run as a user runs it, and the example on the README's first screen."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.history import History
from katib_flow.loop import load, suggest
from katib_flow.spec import Experiment

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def program(directory: Path, *command: str) -> str:
    """What a program prints, run in the virtual environment that the tests run in."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_main_job_finds_a_good_network_on_real_images(clone: Path) -> None:
    spec = clone / "examples" / "digits.yaml"
    spec.write_text(spec.read_text().replace("max_trials: 16", "max_trials: 6"))
    out = program(clone, "katib-flow", "run", "examples/digits.yaml")
    assert "best trials of digits" in out
    assert "katib-flow ui" in out
    best = json.loads(program(clone, "katib-flow", "best", "digits", "-o", "json"))
    assert best["accuracy"] >= 0.96
    assert best == json.loads(program(clone, "katib-flow", "trials", "digits", "-o", "json"))[int(best["trial"][1:])]


def test_a_script_that_knows_nothing_of_us_is_tuned(clone: Path) -> None:
    spec = clone / "examples" / "svm.yaml"
    spec.write_text(spec.read_text().replace("max_trials: 12", "max_trials: 6"))
    result = json.loads(program(clone, "katib-flow", "run", "examples/svm.yaml", "-o", "json"))
    assert result["best"]["accuracy"] >= 0.97
    trials = json.loads(program(clone, "katib-flow", "trials", "svm", "-o", "json"))
    assert {trial["state"] for trial in trials} == {"succeeded"}
    assert {trial["kernel"] for trial in trials if trial["gamma"] is None} == {"linear"}


def test_a_program_that_knows_nothing_of_us_suggests(clone: Path) -> None:
    spec = clone / "examples" / "own-algorithm.yaml"
    spec.write_text(spec.read_text().replace("max_trials: 8, parallel_trials: 2", "max_trials: 4"))
    result = json.loads(program(clone, "katib-flow", "run", "examples/own-algorithm.yaml", "-o", "json"))
    assert result["best"]["accuracy"] >= 0.97
    trials = json.loads(program(clone, "katib-flow", "trials", "own-algorithm", "-o", "json"))
    assert [trial["state"] for trial in trials] == ["succeeded"] * 4
    best = max(trials[:3], key=lambda trial: trial["accuracy"])
    assert trials[3]["kernel"] == best["kernel"]  # it steps from the best; of this seed the step keeps the kernel
    assert best["C"] / 10 < trials[3]["C"] < best["C"] * 10


def test_the_example_in_python_is_the_one_in_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from examples.digits import train

    written, spec = load(ROOT / "examples" / "digits.yaml"), train.spec
    assert assignments(spec) == assignments(written)
    assert (spec.objective, spec.metrics, spec.trial) == (written.objective, written.metrics, written.trial)


def assignments(experiment: Experiment) -> list[Any]:
    return [suggestion.assignment for suggestion in suggest(experiment, History(), 16)]


def test_the_example_in_python_runs_by_itself(clone: Path) -> None:
    source = (clone / "examples" / "digits.py").read_text()
    (clone / "examples" / "digits.py").write_text(source.replace("max_trials=16", "max_trials=2"))
    assert program(clone, sys.executable, "examples/digits.py").startswith("Trial(")


def test_the_example_on_the_first_screen_runs_as_it_stands(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "first.py").write_text(code[1].replace("max_trials=20", "max_trials=2"))
    assert program(tmp_path, sys.executable, "first.py").startswith("Trial(")


def test_a_network_is_grown_from_its_feature_statistics(clone: Path) -> None:
    pytest.importorskip("torch")
    spec = clone / "examples" / "nas-envelopenet.yaml"
    text = spec.read_text().replace("min: 10, max: 40", "min: 6, max: 7").replace("iterations: 2", "iterations: 1")
    spec.write_text(text)
    result = json.loads(program(clone, "katib-flow", "run", "examples/nas-envelopenet.yaml", "-o", "json"))
    assert result["best"]["accuracy"] > 0.5
    trials = json.loads(program(clone, "katib-flow", "trials", "nas-envelopenet", "-o", "json"))
    assert [(trial["state"], trial["parent"], trial["budget"]) for trial in trials] == [
        ("succeeded", None, 6.0),
        ("succeeded", 0, 7.0),
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_compiles(example: Path) -> None:
    experiment = load(example)
    with_image = experiment.model_copy(update={"argo": experiment.argo.model_copy(update={"image": "examples:1"})})
    assert to_yaml(compile_experiment(with_image)).startswith('apiVersion: "argoproj.io/v1alpha1"\nkind: Workflow\n')
