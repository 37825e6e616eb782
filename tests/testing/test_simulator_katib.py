"""Trials that report as to Katib in their pods: what counts there is what counts here."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from experiments import Cluster, experiment, seen
from kit import needs_busybox

pytest.importorskip("grpc")

from katib_flow.history import State
from katib_flow.tracking import Status

pytestmark = pytest.mark.slow
SDK = str(Path(__file__).parents[1] / "katib_api" / "programs" / "reports_as_sdk.py")
COMMAND = [sys.executable, SDK, "score=0.5,other=1", "score=${x}"]
LIMITS = {"max_trials": 3, "parallel_trials": 1, "max_failed_trials": 9}
FUNCTION = f"""\
import subprocess, sys

def train(x):
    subprocess.run([sys.executable, {SDK!r}, "score=0.5", f"score={{x}}"], check=True)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    workdir = tmp_path / "image"
    workdir.mkdir()
    (workdir / "simulated_user.py").write_text(FUNCTION)
    monkeypatch.chdir(workdir)
    return Cluster(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, workdir)


def of(trial: dict[str, Any], port: int, **changes: Any) -> Any:
    metrics = {"source": "katib", "port": port, "strategy": {"score": "max"}}
    return experiment(trial=trial, metrics=metrics, limits=LIMITS, **changes)


@needs_busybox
def test_a_container_reports_what_a_command_reports_here(cluster: Cluster, port: int) -> None:
    run = cluster.submit(of({"container": {"image": "mine:1", "command": COMMAND}}, port))
    assert run.record.status is Status.SUCCEEDED, run.record.reason
    assert [trial.state for trial in run.trials] == [State.SUCCEEDED] * 3
    assert [len(trial.series["score"]) for trial in run.trials] == [2] * 3
    assert seen(run.trials) == seen(cluster.here(of({"command": COMMAND}, port)))


@pytest.mark.parametrize("trial", [{"command": COMMAND}, {"function": "simulated_user:train"}])
def test_a_trial_in_our_own_process_reports_too(cluster: Cluster, port: int, trial: dict[str, Any]) -> None:
    run = cluster.submit(of(trial, port))
    assert run.record.status is Status.SUCCEEDED, run.record.reason
    assert seen(run.trials) == seen(cluster.here(of(trial, port)))


@needs_busybox
def test_a_report_that_is_refused_is_told_with_the_trial(cluster: Cluster, port: int) -> None:
    script = "import subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True)"
    command = [sys.executable, "-c", script, sys.executable, SDK, "--as", "simulated-t00009", "score=1"]
    run = cluster.submit(of({"container": {"image": "mine:1", "command": command}}, port))
    messages = [trial.message for trial in run.trials]
    assert all("need 'simulated-t0000" in item and "no other trial reports here" in item for item in messages), messages


@needs_busybox
def test_a_port_that_is_in_use_fails_no_trial_silently(cluster: Cluster, port: int) -> None:
    """The collector cannot listen: the trial's own report fails, and its log says where it wanted to go."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        run = cluster.submit(of({"command": COMMAND}, port))
    assert [trial.state for trial in run.trials] == [State.FAILED] * 3
    assert all(f"cannot listen at 127.0.0.1:{port}" in trial.message for trial in run.trials)
