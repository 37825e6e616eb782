"""The experiments of the cluster tests are good ones: what can be checked of them without a cluster."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from cluster_kit import (
    CODE,
    CONFIG_MAP,
    COUNT,
    HALVE,
    Bench,
    Hook,
    container,
    job,
    most_at_a_time,
    pipeline,
    spec,
)
from searches import CHECKPOINTS, ENAS, HYPERBAND, PBT, katib

from katib_flow.argo import compile_experiment
from katib_flow.history import Suggestion, Trial
from katib_flow.spec import Experiment
from katib_flow.spec.load import parse_spec
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Store
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


@pytest.mark.parametrize(
    "changes", [CHECKPOINTS, HYPERBAND, PBT, ENAS], ids=["checkpoints", "hyperband", "pbt", "enas"]
)
def test_the_searches_of_the_cluster_tests_compile(changes: dict[str, Any]) -> None:
    compile_experiment(Experiment.parse(spec("kf-x", "image", "http://mlflow:5000", **changes)))


def bench(store: Store) -> Bench:
    cluster = FakeCluster(namespace="ml")
    cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kf-limits"}, "data": {"trials": "9"}}
    )
    store.uri = "http://mlflow:5000"
    return Bench(cluster, store, "image:1", [])


def test_what_the_cluster_tests_create_they_take_away(tmp_path: Path) -> None:
    here = bench(Store(f"sqlite:///{tmp_path}/mlflow.db"))
    key = here.limit(1)
    assert here.cluster.get(CONFIG_MAP, "kf-limits")["data"] == {"trials": "9", key: "1"}
    run = here.submit(here.experiment(limits={"max_trials": 1}))
    assert here.phase(run.name) == ""
    here.clean_up()
    assert here.cluster.get(CONFIG_MAP, "kf-limits")["data"] == {"trials": "9"}
    assert here.phase(run.name) == "gone"


def test_the_katib_manifest_of_the_cluster_tests_is_placed_as_theirs_and_compiles(tmp_path: Path) -> None:
    remote = bench(Store(f"sqlite:///{tmp_path}/mlflow.db"))
    parsed = parse_spec(json.dumps(katib(remote.name(), remote.image)), "katib.json")
    placed = remote.placed(parsed)
    assert (placed.limits.max_trials, placed.argo.image_pull_policy, placed.trial.kind) == (4, "Never", "resource")
    compile_experiment(placed)


def test_a_hook_stops_and_starts_whatever_happens_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Hook.of_environment("MLFLOW") is None
    for verb in ("STOP", "START"):
        monkeypatch.setenv(f"KATIB_FLOW_{verb}_MLFLOW", f"touch '{tmp_path}/{verb} it'")
    hook = Hook.of_environment("MLFLOW")
    assert hook is not None

    def break_down() -> None:
        with hook.away():
            assert [path.name for path in tmp_path.iterdir()] == ["STOP it"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_down()
    assert (tmp_path / "START it").exists()


def test_trials_at_a_time_are_counted_by_their_times() -> None:
    spans = [(0.0, 10.0), (10.0, 20.0), (15.0, 30.0)]
    trials = [Trial(Suggestion(n, {}), started=begun + 1, ended=ended + 1) for n, (begun, ended) in enumerate(spans)]
    assert (most_at_a_time(trials[:2]), most_at_a_time(trials)) == (1, 2)
