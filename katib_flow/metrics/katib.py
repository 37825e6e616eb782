"""Metrics that a trial reports as to Katib's DB manager, with ``report_metrics`` of Katib's SDK or another client.

The endpoint is ``katib_flow.katib_api.reports``, a process of its own on loopback, for one trial.
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
"""What Katib's own is called, at this port; its SDK has ``katib-db-manager.kubeflow:6789`` built in."""
NAMESPACE_FILE = PurePosixPath("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Read by ``report_metrics`` of Katib's SDK before it reports; an error where it is not there."""
START_SECONDS = 60.0
READ_BYTES = 4 << 20  # at a time
_MOST_NAMES = 1000  # to be named where none is the metric
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
    """An endpoint, and what has been reported to it.

    Args:
        trial: its name, as the trial is told it.
        names: metrics to take.
        port: 0 for a free one.

    Raises:
        KatibFlowError: it cannot listen, or gRPC is not installed.
    """

    def __init__(self, trial: str, names: Collection[str], port: int = 0) -> None:
        self._trial, self._names = trial, names
        command = [sys.executable, "-c", _MAIN, json.dumps(sys.path), trial, str(port)]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL  # no text that a trial sends gets to a terminal
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
        """What no other process may hold, so that the endpoint ends with this one."""
        assert self._process.stdin is not None
        return self._process.stdin.fileno(), self._out

    def variables(self) -> dict[str, str]:
        """What the trial is told: what Katib tells it, and where the endpoint is."""
        return reporting_to(self._trial, self.port)

    def _started(self) -> int:
        """The port."""
        until = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while b"\n" not in self._rest and time.monotonic() < until:
                if selector.select(0.1) and not self._fill():
                    break
        line, complete, self._rest = self._rest.partition(b"\n")
        port = json.loads(line) if complete else f"has not started within {START_SECONDS:g} s"
        if not isinstance(port, int):
            raise KatibFlowError(f"the endpoint for reports to Katib's API {port}")
        return port

    def _fill(self) -> bytes:
        """Read what is there; nothing at the end, or where there is nothing yet."""
        try:
            data = os.read(self._out, 1 << 16)
        except BlockingIOError:
            return b""
        self._rest += data
        return data

    def told(self, name: str) -> str:
        where = f"127.0.0.1:{self.port}"
        refused = f"; the last that was refused: {self._refused}" if self._refused else ""
        if name in self._unavailable:
            return f"what was reported for it is {_UNAVAILABLE!r}, Katib's word for no value{refused}"
        if not self._reported:
            return f"nothing was reported to Katib's API at {where} while the trial ran{refused}"
        return (instead(name, self._others, f"{where} was told") or f"{where} was told no metric") + refused

    def read(self, *, end: bool = False) -> Iterator[Metric]:
        """What was reported since the last call."""
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
        """End the endpoint; what was not read is lost."""
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
    """The endpoint of a trial that reports as to Katib, or whose collector may; None where none does.

    Args:
        trial: its name.
        port: unless the spec says one.

    Raises:
        KatibFlowError: it cannot listen.
    """
    source = experiment.metrics.source
    if source not in ("katib", "custom") or (source == "custom" and find_spec("grpc") is None):
        return None  # a collector may report to a file
    return KatibReports(trial, experiment.metric_names, experiment.metrics.port or port)


def reporting_to(trial: str, port: int) -> dict[str, str]:
    """The environment of a trial that reports to an endpoint: Katib's own name for it, and those of its Service."""
    return {
        "KATIB_TRIAL_NAME": trial,
        "KATIB_DB_MANAGER_ADDRESS": f"127.0.0.1:{port}",
        "KATIB_DB_MANAGER_SERVICE_HOST": "127.0.0.1",
        "KATIB_DB_MANAGER_SERVICE_PORT": str(port),
        "KATIB_DB_MANAGER_SERVICE_PORT_API": str(port),
    }
