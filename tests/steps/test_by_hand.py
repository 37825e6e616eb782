"""The steps as separate processes, in the workflow's order, with what the manifest declares and no more."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hand import STEPS, Hand
from kit import needs_busybox

from katib_flow.argo.spec_text import encode_spec
from katib_flow.history import State
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store

MODULE = """\
import os, time, katib_flow as kf

def train(x, mode="ok"):
    if mode == "fail" and x > 0.5:
        raise ValueError("too high")
    kf.report(score=x / 2, step=0)
    return {"score": x}

def slow(x):
    kf.report(score=x, step=0)
    time.sleep(0 if os.path.exists("quick") else 60)
"""
pytestmark = pytest.mark.slow


def experiment(**changes: Any) -> Experiment:
    data = {
        "name": "by-hand",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": {"name": "random", "seed": 3},
        "limits": {"max_trials": 3, "parallel_trials": 2},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1"},
    }
    return Experiment.parse(data | changes)


@pytest.fixture
def hand(tmp_path: Path, uri: str) -> Any:
    image = tmp_path / "image"
    image.mkdir()
    (image / "user_module.py").write_text(MODULE)

    def make(**changes: Any) -> Hand:
        return Hand(experiment(**changes), image, uri, tmp_path / "pods", run=f"by-hand-{tmp_path.name}")

    return make


def test_the_steps_run_an_experiment_to_its_end_each_of_them_twice(hand: Any, tmp_path: Path, monkeypatch: Any) -> None:
    workflow: Hand = hand()
    k, go = 0, True
    while go:
        k += 1
        workflow.forked = k == 1  # in the second iteration as Argo does
        first, second = workflow.pod("suggest", k=str(k)), workflow.pod("suggest", k=str(k))
        assert (first.exit_code, second.exit_code) == (0, 0), first.log
        assert first.outputs == second.outputs
        for trial in json.loads(first.outputs["ids"]):
            assert [workflow.pod("trial", id=trial).exit_code for _ in range(2)] == [0, 0]
        first, second = workflow.pod("collect-metrics", k=str(k)), workflow.pod("collect-metrics", k=str(k))
        assert first.outputs == second.outputs
        go = first.outputs["go"] == "true"
    assert [workflow.pod("finish").exit_code for _ in range(2)] == [0, 0]
    store, record = workflow.store()
    history = store.history(record, series=True)
    assert k == 2
    assert (record.status, record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (3)")
    assert [(trial.id, trial.state) for trial in history] == [(f"t0000{i}", State.SUCCEEDED) for i in range(3)]
    assert [len(trial.series["score"]) for trial in history] == [2, 2, 2]
    assert [trial.position and trial.position.iteration for trial in history] == [1, 1, 2]
    monkeypatch.chdir(workflow.image)
    assert [trial.assignment for trial in history] == [trial.assignment for trial in local_trials(tmp_path)]


def local_trials(tmp_path: Path) -> Any:
    from katib_flow.local import run_experiment

    store = Store(f"sqlite:///{tmp_path}/local.db", "katib-flow")
    return run_experiment(experiment(), store=store, barrier=True).history


def test_a_users_failure_exits_42_and_too_many_fail_the_experiment(hand: Any) -> None:
    parameters = {"x": {"type": "float", "min": 0.9, "max": 1}, "mode": {"type": "categorical", "values": ["fail"]}}
    workflow: Hand = hand(parameters=parameters, limits={"parallel_trials": 1, "max_trials": 9, "max_failed_trials": 0})
    assert json.loads(workflow.pod("suggest", k="1").outputs["ids"]) == ["t00000"]
    trial = workflow.pod("trial", id="t00000")
    assert trial.exit_code == 42
    assert "ValueError: too high" in trial.log  # the pod's log shows the trial's own
    assert workflow.pod("trial", id="t00000").exit_code == 42
    assert workflow.pod("collect-metrics", k="1").outputs == {"go": "false"}
    assert workflow.pod("finish").exit_code == 1
    _, record = workflow.store()
    assert (record.status, record.reason) == (
        Status.FAILED,
        "1 trial failed; limits.max_failed_trials allows 0; "
        "no trial gave a finite value of 'score': 1 failed (ValueError: too high)",
    )


def test_a_pod_that_is_told_to_go_passes_143_on_and_another_takes_the_trial_over(hand: Any) -> None:
    workflow: Hand = hand(trial={"function": "user_module:slow"}, limits={"max_trials": 1})
    workflow.pod("suggest", k="1")
    process, directory = workflow.start("trial", id="t00000")
    wait_for(directory / "trial" / "report.jsonl")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    store, record = workflow.store()
    assert store.history(record)[0].state is State.RUNNING
    (workflow.image / "quick").touch()
    assert workflow.pod("trial", id="t00000").exit_code == 0
    trial = store.history(record)[0]
    assert (trial.state, trial.retries) == (State.SUCCEEDED, 1)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


@needs_busybox
def test_a_trial_in_any_image_is_recorded_whatever_its_arguments_hold(hand: Any) -> None:
    nasty = "a b'\"\n$(touch /tmp/x) `id` ${x} ; exit 1 # \\ *"
    script = 'printf "%s" "$1" > got; printf "%s" "$MY" >> got; echo "score=$2"; echo step two; echo "score=0.75"'
    parameters = {"text": {"type": "categorical", "values": [nasty]}, "x": {"type": "float", "min": 0.25, "max": 0.5}}
    container = {"image": "any", "command": ["sh", "-c", script, "sh", "${text}", "${x}"], "env": {"MY": "<${text}>"}}
    workflow: Hand = hand(parameters=parameters, trial={"container": container}, argo={})
    workflow.pod("suggest", k="1")
    assert [workflow.pod("trial", id="t00000").exit_code for _ in range(2)] == [0, 0]
    assert (workflow.image / "got").read_text() == f"{nasty}<{nasty}>"  # the container's own working directory
    store, record = workflow.store()
    trial = store.history(record, series=True)[0]
    assert (trial.state, trial.observations) == (State.SUCCEEDED, {"score": 0.75})
    assert [metric.value for metric in trial.series["score"]] == [trial.assignment["x"], 0.75]


@needs_busybox
@pytest.mark.parametrize(
    ("script", "exit_code", "state", "message"),
    [
        ("echo score=1; exit 3", 42, State.FAILED, 'exit code 3; its last line was "score=1"'),
        ("echo Score: 1", 42, State.METRICS_UNAVAILABLE, "'score' was not reported in 1 log line"),
        ("kill -KILL $$", 42, State.FAILED, "killed by SIGKILL; it printed nothing"),
        ("echo score=1; sleep 60", 42, State.FAILED, "reached limits.trial_timeout (2 s)"),
        ('trap "" TERM; echo score=1; exit 0', 0, State.SUCCEEDED, ""),
    ],
)
def test_how_a_trial_in_any_image_ends(hand: Any, script: str, exit_code: int, state: State, message: str) -> None:
    container = {"image": "any", "command": ["sh", "-c", script]}
    limits = {"max_trials": 1, "trial_timeout": 2}
    workflow: Hand = hand(trial={"container": container}, argo={}, limits=limits)
    workflow.pod("suggest", k="1")
    pod = workflow.pod("trial", id="t00000")
    store, record = workflow.store()
    trial = store.history(record)[0]
    assert (pod.exit_code, trial.state) == (exit_code, state), pod.log
    assert trial.message.startswith(message)


def test_a_step_without_its_inputs_says_so_in_one_line(hand: Any) -> None:
    workflow: Hand = hand()
    workflow.parameters["spec"] = ""
    pod = workflow.pod("suggest", k="1")
    assert (pod.exit_code, pod.outputs) == (2, {})
    assert pod.log == "KATIB_FLOW_SPEC: found nothing, need the spec as JSON, which a compiled Workflow sets\n"


def test_lanes_start_different_trials_and_no_more_than_there_may_be(hand: Any) -> None:
    workflow: Hand = hand(argo={"image": "user:1", "mode": "lanes"})
    workflow.pod("open")
    found: list[dict[str, str]] = []
    for k in ("1", "2", "3"):
        for lane in ("0", "1"):
            pod = workflow.pod("suggest", k=k, lane=lane)
            assert workflow.pod("suggest", k=k, lane=lane).outputs == pod.outputs, pod.log
            found.append(pod.outputs)
            if pod.outputs["go"] == "true":
                assert workflow.pod("trial", id=pod.outputs["id"]).exit_code == 0
    assert [each["id"] for each in found] == ["t00000", "t00001", "t00002", "", "", ""]
    assert workflow.pod("collect-metrics").outputs == {"go": "false"}


@needs_busybox
def test_a_rule_ends_a_container_that_runs_and_what_it_reported_counts(hand: Any) -> None:
    script = "i=0; while [ $i -lt 600 ]; do echo score=0.5; i=$((i + 1)); sleep 0.5; done"
    rule = {"name": "patience", "settings": {"patience": 3}}
    workflow: Hand = hand(
        trial={"container": {"image": "any", "command": ["sh", "-c", script]}}, argo={}, early_stopping=rule
    )
    workflow.pod("suggest", k="1")
    assert workflow.pod("trial", id="t00000").exit_code == 0
    store, record = workflow.store()
    trial = store.history(record)[0]
    assert (trial.state, trial.observations) == (State.EARLY_STOPPED, {"score": 0.5})
    assert trial.message.startswith("stopped early: its score has not improved on 0.5")


@needs_busybox
def test_tensorboards_files_of_a_container_are_read_where_it_writes_them(hand: Any, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write = (
        "import struct; value = b'\\x0a\\x05score\\x15' + struct.pack('<f', 0.5);"
        "summary = b'\\x0a' + bytes([len(value)]) + value;"
        "event = b'\\x10\\x03\\x2a' + bytes([len(summary)]) + summary;"
        f"open('{logs}/events.out.tfevents.1', 'wb').write(struct.pack('<QI', len(event), 0) + event + bytes(4))"
    )
    logs.mkdir()
    workflow: Hand = hand(
        trial={"container": {"image": "any", "command": [sys.executable, "-c", write]}},
        argo={},
        metrics={"source": "tensorboard", "path": str(logs)},
    )
    workflow.pod("suggest", k="1")
    pod = workflow.pod("trial", id="t00000")
    assert pod.exit_code == 0, pod.log
    store, record = workflow.store()
    trial = store.history(record, series=True)[0]
    assert [(metric.value, metric.step) for metric in trial.series["score"]] == [(0.5, 3)]


def test_the_sidecar_of_an_object_prints_what_a_file_holds_until_it_is_told_to_go(tmp_path: Path) -> None:
    made = experiment(metrics={"source": "file", "path": str(tmp_path / "metrics.log")})
    words = [sys.executable, str(STEPS / "train.py"), "metrics", "--run", "-", "--trial", "-", "--directory", "/"]
    environment = {**os.environ, "KATIB_FLOW_SPEC": encode_spec(made)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        (tmp_path / "metrics.log").write_text("score=0.5 step=1\nnoise\n")
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"metrics": {"score": 0.5}, "step": 1}
        with (tmp_path / "metrics.log").open("a") as file:
            file.write("score=0.75 step=2")
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.readline()) == {"metrics": {"score": 0.75}, "step": 2}
        assert process.wait(30) == 0
