"""Metrics that a trial reports in the protocol of Katib's DB manager, with Katib's SDK or another client.

The endpoint is ``katib_flow.katib_api.reports``, a separate process per trial that listens on loopback.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import metric_of, number_of
from katib_flow.history import Metric
from katib_flow.metrics.hints import instead
from katib_flow.metrics.text import now_ms
from katib_flow.spec.experiment import Experiment

PORT = 6789
DB_MANAGERS = [f"katib-db-manager{rest}" for rest in ("", ".kubeflow", ".kubeflow.svc", ".kubeflow.svc.cluster.local")]
"""The host names of Katib's own DB manager; its SDK has ``katib-db-manager.kubeflow:6789`` built in."""
NAMESPACE_FILE = PurePosixPath("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""``report_metrics`` of Katib's SDK reads this file before it reports, and fails if the file does not exist."""
START_SECONDS = 60.0
READ_BYTES = 4 << 20  # the most to read at a time
_MOST_NAMES = 1000  # other names to remember for hints
_UNAVAILABLE = "unavailable"
_MAIN = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    from katib_flow.katib_api.reports import main
except ImportError as error:
    print(json.dumps(f"needs {error.name}, which is not installed: pip install 'katib-flow[katib]'"))
else:
    main()
"""


class KatibReports:
    """The endpoint of a trial, and the source of the metrics that are reported to it.

    Args:
        trial: the name of the trial in reports.
        names: the metrics to take.
        port: 0 for any free port.

    Raises:
        KatibFlowError: the endpoint cannot listen, or gRPC is not installed.
    """

    def __init__(self, trial: str, names: Collection[str], port: int = 0) -> None:
        self._trial, self._names = trial, names
        command = [sys.executable, "-c", _MAIN, json.dumps(sys.path), trial, str(port)]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL  # text from a trial must not reach a terminal
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, start_new_session=True)
        assert self._process.stdout is not None
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._rest = b""
        self._steps: dict[str, int] = {}
        self._others: set[str] = set()
        self._reported, self._unavailable, self._refused = 0, set[str](), ""
        try:
            self.port = self._started()
        except BaseException:
            self.close()
            raise

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that no other process may hold, so that the endpoint ends with this process."""
        assert self._process.stdin is not None
        return self._process.stdin.fileno(), self._out

    def variables(self) -> dict[str, str]:
        """The environment variables of the trial: those that Katib sets, with the address of the endpoint."""
        return reporting_to(self._trial, self.port)

    def _started(self) -> int:
        """Wait until the endpoint has started, and return its port."""
        until = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while b"\n" not in self._rest and time.monotonic() < until:
                if selector.select(0.1) and not self._fill():
                    break
        line, complete, self._rest = self._rest.partition(b"\n")
        port = json.loads(line) if complete else f"did not start within {START_SECONDS:g} s"
        if not isinstance(port, int):
            raise KatibFlowError(f"the endpoint for reports to Katib's API {port}")
        return port

    def _fill(self) -> bytes:
        """Read the available bytes; empty at the end, or if nothing is available."""
        try:
            data = os.read(self._out, 1 << 16)
        except BlockingIOError:
            return b""
        self._rest += data
        return data

    def absence(self, name: str) -> str:
        """Why a metric has no value, for people."""
        where = f"127.0.0.1:{self.port}"
        refused = f"; the last refused report: {self._refused}" if self._refused else ""
        if name in self._unavailable:
            return f"the value reported for it is {_UNAVAILABLE!r}, Katib's word for no value{refused}"
        if not self._reported:
            return f"nothing was reported to Katib's API at {where} while the trial ran{refused}"
        return (instead(name, self._others, f"{where} received") or f"{where} received no metrics") + refused

    def read(self, *, end: bool = False) -> Iterator[Metric]:
        """The metrics that were reported since the last call."""
        size = 0
        while size < READ_BYTES and (data := self._fill()):
            size += len(data)
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                yield from self._metrics(json.loads(line))

    def _metrics(self, report: Any) -> Iterator[Metric]:
        if isinstance(report, str):
            self._refused = report
            return
        self._reported += 1
        for name, value, time_ms in report:
            if name not in self._names:
                if len(self._others) < _MOST_NAMES:
                    self._others.add(name)
            elif value == _UNAVAILABLE:
                self._unavailable.add(name)
            else:
                step = self._steps[name] = self._steps.get(name, -1) + 1
                yield metric_of(name, number_of(value), step, now_ms() if time_ms is None else time_ms)

    def close(self) -> None:
        """End the endpoint; unread reports are lost."""
        for stream in filter(None, (self._process.stdin, self._process.stdout)):
            stream.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def reports_of(experiment: Experiment, trial: str, port: int) -> KatibReports | None:
    """The endpoint of a trial that reports, or whose collector may report, in Katib's protocol; None for others.

    Args:
        trial: the name of the trial.
        port: the port, unless the spec names one.

    Raises:
        KatibFlowError: the endpoint cannot listen.
    """
    source = experiment.metrics.source
    if source not in ("katib", "custom") or (source == "custom" and find_spec("grpc") is None):
        return None  # the collector may report to a file instead
    return KatibReports(trial, experiment.metric_names, experiment.metrics.port or port)


def reporting_to(trial: str, port: int) -> dict[str, str]:
    """The variables of a trial that reports to an endpoint: Katib's own, and those of the Service in a cluster."""
    return {
        "KATIB_TRIAL_NAME": trial,
        "KATIB_DB_MANAGER_ADDRESS": f"127.0.0.1:{port}",
        "KATIB_DB_MANAGER_SERVICE_HOST": "127.0.0.1",
        "KATIB_DB_MANAGER_SERVICE_PORT": str(port),
        "KATIB_DB_MANAGER_SERVICE_PORT_API": str(port),
    }
