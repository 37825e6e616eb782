"""Metrics that a trial on this machine does not print: TensorBoard's event files, a Prometheus endpoint, a file."""

import sys
from pathlib import Path
from typing import Any

import pytest
from kit import spec

from katib_flow.errors import InvalidSpec
from katib_flow.history import State, Trial
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

EVENTS = """\
import os, struct, sys
os.makedirs(sys.argv[1] + "/tb")
with open(sys.argv[1] + "/tb/events.out.tfevents.1", "ab") as file:
    for step in range(3):
        value = b"\\x0a\\x08accuracy\\x15" + struct.pack("<f", step / 4)
        summary = b"\\x0a" + bytes([len(value)]) + value
        event = b"\\x09" + bytes(8) + b"\\x10" + bytes([step]) + b"\\x2a" + bytes([len(summary)]) + summary
        file.write(struct.pack("<QI", len(event), 0) + event + bytes(4))
"""
SERVE = """\
import http.server, os, sys, threading
asked = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b"# TYPE accuracy gauge\\naccuracy 0.5\\n")
        asked.set()
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
assert asked.wait(30)
server.server_close()
"""
FILE = """\
import sys
open(sys.argv[1] + "/metrics.jsonl", "w").write('{"accuracy": "0.25", "step": 1}\\n{"accuracy": 0.75, "step": 2}')
print("accuracy=0.9")
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: Any) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(script: str, metrics: dict[str, Any], *arguments: str) -> Trial:
        command = [sys.executable, "-c", script, *arguments]
        experiment = Experiment.parse(spec(trial={"command": command}, metrics=metrics, limits={"max_trials": 1}))
        store = Store(f"sqlite:///{tmp_path}/mlflow.db")
        result = run_experiment(experiment, store=store)
        return store.history(store.get(result.run_id), series=True)[0]

    return run


def shown(trial: Trial) -> list[tuple[float | tuple[float, ...], int]]:
    assert trial.state is State.SUCCEEDED, trial.message
    return [(metric.value, metric.step) for metric in trial.series["accuracy"]]


def test_event_files_of_tensorboard(run: Any) -> None:
    trial = run(EVENTS, {"source": "tensorboard", "path": "tb"}, "${trial.directory}")
    assert shown(trial) == [(0.0, 0), (0.25, 1), (0.5, 2)]


def test_an_endpoint_of_prometheus(run: Any, free_port: int) -> None:
    trial = run(SERVE, {"source": "prometheus", "port": free_port}, str(free_port))
    assert shown(trial) == [(0.5, 0)]


def test_a_file_of_json_lines_and_what_is_printed_is_log(run: Any) -> None:
    trial = run(FILE, {"source": "file", "path": "metrics.jsonl", "format": "json"}, "${trial.directory}")
    assert shown(trial) == [(0.25, 1), (0.75, 2)]


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("metrics", "where"),
    [({"source": "push"}, "metrics.source"), ({"source": "prometheus", "port": 80}, "limits.parallel_trials")],
)
def test_what_cannot_be_read_here_is_refused(metrics: dict[str, Any], where: str) -> None:
    limits = {"max_trials": 2, "parallel_trials": 2}
    with pytest.raises(InvalidSpec) as caught:
        run_experiment(Experiment.parse(spec(trial={"command": ["true"]}, metrics=metrics, limits=limits)))
    assert [problem.where for problem in caught.value.problems] == [where]
