"""Collectors of the user's own in the pods of trials: what they read there is what they read here."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from experiments import Cluster, experiment, seen
from kit import needs_busybox

from katib_flow.history import State
from katib_flow.tracking import Status

pytestmark = [pytest.mark.slow, needs_busybox]
SDK = str(Path(__file__).parents[1] / "katib_api" / "programs" / "reports_as_sdk.py")
TRAIN = [
    sys.executable,
    "-c",
    "import pathlib, sys; pathlib.Path(sys.argv[1], 'out.txt').write_text(sys.argv[2])",
    "${trial.directory}",
    "${x}",
]
READ = """\
import json, os, pathlib, sys
text = pathlib.Path(sys.argv[1], "out.txt").read_text()
assert pathlib.Path(os.environ["KATIB_FLOW_ENDED"]).read_text().strip() == "0"
print("it's", text)
with open(os.environ["KATIB_FLOW_REPORT_FILE"], "a") as file:
    print(json.dumps({"metrics": {"score": float(text)}, "step": 3}), file=file)
sys.exit(int(sys.argv[2]))
"""
WATCH = """\
import os, pathlib, subprocess, sys, time
while not pathlib.Path(os.environ["KATIB_FLOW_ENDED"]).exists():
    time.sleep(0.05)
text = pathlib.Path(sys.argv[2], "out.txt").read_text()
subprocess.run([sys.executable, sys.argv[1], "score=0", f"score={text}"], check=True)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.chdir(tmp_path)
    return Cluster(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, tmp_path)


def reads(exits: int = 0) -> list[str]:
    return [sys.executable, "-c", READ, "${trial.directory}", str(exits)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def of(command: list[str], trial: list[str] = TRAIN, here: bool = False, **container: Any) -> Any:
    theirs = {"image": "mine:1", "command": command, **container}
    metrics = {"source": "custom", "command": command, "container": theirs, "port": free_port()}
    trials = {"command": trial} if here else {"container": {"image": "user:1", "command": trial}}
    limits = {"max_trials": 2, "parallel_trials": 1, "max_failed_trials": 9}
    return experiment(trial=trials, metrics=metrics, limits=limits)


def test_a_collector_reads_in_a_pod_what_it_reads_here(cluster: Cluster) -> None:
    run = cluster.submit(of(reads()))
    assert run.record.status is Status.SUCCEEDED, run.record.reason
    for trial in run.trials:
        assert [(item.value, item.step) for item in trial.series["score"]] == [(trial.assignment["x"], 3)]
    assert seen(run.trials) == seen(cluster.here(of(reads(), here=True)))
    assert all("it's 0." in log for log in run.logs("trial"))


def test_a_collector_may_start_with_the_trial_and_report_as_to_katib(cluster: Cluster) -> None:
    pytest.importorskip("grpc")
    command = [sys.executable, "-c", WATCH, SDK, "${trial.directory}"]
    run = cluster.submit(of(command, starts="with-trial"))
    assert [[item.value for item in trial.series["score"]] for trial in run.trials] == [
        [0.0, trial.assignment["x"]] for trial in run.trials
    ]


def test_a_collector_that_fails_fails_the_trial_and_no_pod_again(cluster: Cluster) -> None:
    run = cluster.submit(of(reads(exits=5)))
    assert [trial.state for trial in run.trials] == [State.FAILED] * 2
    for trial in run.trials:
        assert trial.message.startswith("metrics.container ended with exit code 5; its last line was \"it's 0.")
        assert trial.retries == 0
    assert len(run.logs("trial")) == 2


def test_a_trials_time_is_not_that_of_its_collector(cluster: Cluster) -> None:
    slow = [sys.executable, "-c", "import time; time.sleep(2)\n" + READ, "${trial.directory}", "0"]
    for here in (False, True):
        built = of(slow, here=here)
        built = built.model_copy(
            update={"limits": built.limits.model_copy(update={"trial_timeout": 1.5, "max_trials": 1})}
        )
        trials = cluster.here(built) if here else cluster.submit(built).trials
        assert [trial.state for trial in trials] == [State.SUCCEEDED], [trial.message for trial in trials]


def test_a_trial_that_has_failed_is_not_collected(cluster: Cluster) -> None:
    run = cluster.submit(of(reads(), trial=["sh", "-c", "exit 3"]))
    assert [trial.state for trial in run.trials] == [State.FAILED] * 2
    assert all(trial.message.startswith("exit code 3") for trial in run.trials)


def test_a_collector_that_reports_nothing_is_told(cluster: Cluster) -> None:
    run = cluster.submit(of(["true"]))
    assert [trial.state for trial in run.trials] == [State.METRICS_UNAVAILABLE] * 2
    assert all("metrics.container wrote no value to report.jsonl" in trial.message for trial in run.trials)


def test_a_collector_in_our_own_image_reads_what_a_command_left(cluster: Cluster) -> None:
    run = cluster.submit(of(reads(), here=True))
    assert seen(run.trials) == seen(cluster.here(of(reads(), here=True)))


def test_a_collector_by_its_images_own_command_is_told_its_trial(cluster: Cluster) -> None:
    pytest.importorskip("grpc")
    same = "import os, sys; assert sys.argv.pop(1) == os.environ['KATIB_TRIAL_NAME'] == os.environ['MINE'], sys.argv\n"
    args = ["-c", same + WATCH, "${trial.name}", SDK, "${trial.directory}"]
    container = {"image": sys.executable, "args": args, "env": {"MINE": "${trial.name}"}, "starts": "with-trial"}
    metrics = {"source": "custom", "container": container, "port": free_port()}
    limits = {"max_trials": 1, "parallel_trials": 1, "max_failed_trials": 9}
    trials = {"container": {"image": "user:1", "command": TRAIN}}
    run = cluster.submit(experiment(trial=trials, metrics=metrics, limits=limits))
    (trial,) = run.trials
    assert trial.state is State.SUCCEEDED, (trial.message, run.logs("trial"))
    assert [item.value for item in trial.series["score"]] == [0.0, trial.assignment["x"]]


@pytest.mark.parametrize("source", ["custom", "katib"])
def test_where_nothing_can_be_reported_the_trial_fails_at_once(cluster: Cluster, source: str) -> None:
    pytest.importorskip("grpc")
    limits = {"max_trials": 1, "parallel_trials": 1, "max_failed_trials": 9}
    trials = {"container": {"image": "user:1", "command": ["sleep", "1000"]}}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        theirs = {"container": {"image": "mine:1", "command": ["true"]}} if source == "custom" else {}
        run = cluster.submit(
            experiment(trial=trials, metrics={"source": source, "port": port, **theirs}, limits=limits)
        )
    (trial,) = run.trials
    assert trial.state is State.FAILED
    assert trial.message.startswith(f"the endpoint for reports to Katib's API cannot listen at 127.0.0.1:{port}")
