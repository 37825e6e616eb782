"""A step of a workflow waits for MLflow, also where it begins while MLflow is away; and says for how long it did."""

import json
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from katib_flow.argo import pods
from katib_flow.argo.names import BAD_INPUT, SPEC_VARIABLE, TRY_LATER
from katib_flow.argo.spec_text import encode_spec
from katib_flow.argo.steps.context import Context, exit_after, patient_store
from katib_flow.errors import KatibFlowError
from katib_flow.spec import Experiment
from katib_flow.tracking import PATIENCE_SECONDS
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def experiment(uri: str) -> Experiment:
    data = {
        "name": "outage",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "int", "min": 1, "max": 9}},
        "algorithm": "random",
        "limits": {"max_trials": 2},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1"},
        "tracking": {"uri": uri},
    }
    return Experiment.parse(data)


@pytest.fixture
def away() -> Any:
    """An address of the loopback where nobody listens."""
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()


def answering(address: tuple[str, int]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"experiments": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(address, Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def test_a_step_that_begins_while_mlflow_is_away_waits_for_it(clock: Clock) -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = reserved.getsockname()
    servers: list[ThreadingHTTPServer] = []

    def come_back() -> None:
        if clock.slept > 240 and not servers:
            servers.append(answering(address))

    clock.on_sleep = come_back
    uri = f"http://127.0.0.1:{address[1]}"
    try:
        assert patient_store(experiment(uri)).uri == uri
        assert clock.slept > 240
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_a_step_that_gives_up_says_for_how_long_it_waited(
    clock: Clock, away: tuple[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"http://127.0.0.1:{away[1]}"
    monkeypatch.setenv(SPEC_VARIABLE, encode_spec(experiment(uri)))
    with pytest.raises(SystemExit) as ended:
        exit_after(lambda: Context.open("outage-x7k2p") and None)
    message = capsys.readouterr().err
    assert ended.value.code == TRY_LATER
    assert message.startswith(f"MLflow at {uri} does not answer: ")
    assert message.endswith(" (tried for 5 minutes)\n")
    assert PATIENCE_SECONDS <= clock.slept + 1 < PATIENCE_SECONDS + 20


def test_a_mistake_is_not_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> int:
        raise KatibFlowError("a mistake")

    with pytest.raises(SystemExit) as ended:
        exit_after(mistaken)
    assert (ended.value.code, capsys.readouterr().err) == (BAD_INPUT, "a mistake\n")


def test_the_retries_of_a_step_see_an_outage_of_an_hour_through() -> None:
    strategy = pods.step_retry()
    assert strategy.limit is not None
    pauses = [min(2.0 * 2**retry, 300.0) for retry in range(int(str(strategy.limit)))]
    assert sum(pauses) + (len(pauses) + 1) * PATIENCE_SECONDS >= 3600
    assert (strategy.backoff.duration, strategy.backoff.cap) == ("2s", "5m")  # type: ignore[union-attr]
