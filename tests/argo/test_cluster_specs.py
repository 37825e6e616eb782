"""The experiments of the cluster tests are good ones: what can be checked of them without a cluster."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from cluster_kit import CODE, COUNT, HALVE, container, job, pipeline, spec

from katib_flow.argo import compile_experiment
from katib_flow.spec import Experiment
from katib_flow.trial.functions import trial_function


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
@pytest.mark.parametrize(
    "trial",
    [
        {"function": "cluster_test:train", "code": CODE},
        {"command": ["python3", "${x}"]},
        container("image", "echo", "${x}"),
        job("image"),
        {"template": {"name": pipeline("p", "image")["metadata"]["name"], "arguments": {"x": "${x}"}}},
    ],
)
def test_an_experiment_of_the_cluster_tests_compiles(trial: dict[str, Any], mode: str) -> None:
    made = Experiment.parse(spec("kf-x", "image", "http://mlflow:5000", trial=trial, argo={"mode": mode}))
    workflow = compile_experiment(made).to_dict()
    pods = [each["container"] for each in workflow["spec"]["templates"] if "container" in each]
    assert {each["imagePullPolicy"] for each in pods} == {"Never"}


def test_its_function_halves() -> None:
    function = trial_function(Experiment.parse(spec("kf-x", "image", "http://mlflow:5000")))
    assert function is not None
    assert function(x=0.5) == {"score": 0.25}


def test_the_architectures_of_the_cluster_tests_compile() -> None:
    changes = {"architecture": "cell", "parameters": {}, "trial": {"function": "cluster_test:train", "code": COUNT}}
    compile_experiment(Experiment.parse(spec("kf-x", "image", "http://mlflow:5000", **changes)))


@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs a busybox")
def test_the_shell_halves_too() -> None:
    script = HALVE.replace("/usr/local/bin/busybox", shutil.which("busybox") or "")
    ran = subprocess.run(["sh", "-c", script, "sh", "0.123456789012345"], capture_output=True, text=True, check=True)
    assert float(ran.stdout.removeprefix("score=")) == 0.123456789012345 / 2
