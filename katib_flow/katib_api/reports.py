"""Katib's DB manager for one trial: accepts ``ReportObservationLog`` on loopback, and prints each report as a line.

It is a separate process, so that no gRPC runs in a process that forks trials, and data from a trial is decoded outside
the main process. ``katib_flow.metrics.katib`` starts it. Its arguments are the trial's name and a port, 0 for any free
one. It prints the port, or a text with the reason why it could not listen, and then one JSON line per report: a list
of [name, number as text, time in milliseconds], or the text of a refusal. It ends when its standard input is closed.
"""

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc

from katib_flow.foreign import END_OF_TIME
from katib_flow.katib_api.calls import Refusal, handlers
from katib_flow.katib_api.messages import message
from katib_flow.spec.problems import shown

MOST_BYTES = 4 << 20  # in a request
MOST_NUMBERS = 10_000
LONGEST_NAME = 250  # MLflow's limit
UNAVAILABLE = "unavailable"  # reported by Katib's own collectors if there is no value
THREADS, WAITING = 2, 32
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:e[+-]?[0-9]{1,9})?|inf(?:inity)?|nan)", re.I
)
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
Row = tuple[str, str, int | None]
"""A name, a number as text, and the time in milliseconds; None if the report has no time."""


def checked(request: Any, trial: str) -> list[Row]:
    """The numbers in a request.

    Raises:
        Refusal: a part of the request is invalid; the whole report is then ignored.
    """
    if request.trial_name != trial:
        raise Refusal(
            f"trial_name: found {shown(request.trial_name)!r}, need {trial!r}, because no other trial reports here"
        )
    logs = request.observation_log.metric_logs
    if len(logs) > MOST_NUMBERS:
        raise Refusal(f"metric_logs: found {len(logs)} items, need at most {MOST_NUMBERS} in one report")
    return [_row(log, f"metric_logs[{position}]") for position, log in enumerate(logs)]


def _row(log: Any, where: str) -> Row:
    name, value = log.metric.name, log.metric.value.strip()
    if not name or len(name) > LONGEST_NAME:
        raise Refusal(f"{where}.metric.name: found {shown(name)!r}, need a name of 1 to {LONGEST_NAME} characters")
    if value != UNAVAILABLE and not _NUMBER.fullmatch(value):
        raise Refusal(f"{where}.metric.value: found {shown(log.metric.value)!r}, need a number as text")
    return name, value, _milliseconds(log.time_stamp, where)


def _milliseconds(stated: str, where: str) -> int | None:
    if stated in ("", _NEVER):
        return None
    try:
        time = datetime.fromisoformat(stated)
        seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if len(stated) < len("2026-01-01T00:00:00") or not 0 <= seconds < END_OF_TIME:
        need = "a time in the format of RFC 3339, from 1970 on, such as 2026-01-01T00:00:00Z"
        raise Refusal(f"{where}.time_stamp: found {shown(stated)!r}, need {need}")
    return int(seconds * 1000)


def reporting(trial: str, write: Callable[[Any], None]) -> grpc.GenericRpcHandler:
    """The service for one trial; it passes each report or refusal to ``write``."""

    def report(request: Any) -> Any:
        try:
            rows = checked(request, trial)
        except Refusal as refusal:
            write(str(refusal))
            raise
        write(rows)
        return message("ReportObservationLogReply")()

    return handlers("DBManager", {"ReportObservationLog": report})


def main() -> None:
    """Serve until the standard input is closed; see the module's docstring."""
    trial, port = sys.argv[-2:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the scheduler handles Ctrl-C
    lock, out = threading.Lock(), sys.stdout

    def write(data: Any) -> None:
        with lock:
            print(json.dumps(data), file=out, flush=True)

    options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.so_reuseport", 0)]
    with ThreadPoolExecutor(THREADS) as pool:
        server = grpc.server(pool, options=options, maximum_concurrent_rpcs=WAITING)
        server.add_generic_rpc_handlers([reporting(trial, write)])
        try:
            bound = server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            write(f"cannot listen at 127.0.0.1:{port}; is the port in use?")
            return
        server.start()
        write(bound)
        sys.stdin.read()
        server.stop(None).wait()
