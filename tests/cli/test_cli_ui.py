"""MLflow's UI as a child of the command."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from katib_flow.cli import ui
from katib_flow.cli.options import flags_of_store


def test_an_address_is_no_argument_of_the_server() -> None:
    uri = "postgresql://ada:hunter2@db/mlflow"
    command, environment = ui.server_of(uri, 5000)
    assert not any("db/mlflow" in argument for argument in command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri


def test_a_command_that_is_printed_has_no_password() -> None:
    uri = "postgresql://ada:hunter2@db/mlflow"
    assert flags_of_store(uri, "katib-flow") == " --tracking-uri postgresql://ada@db/mlflow"


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:///x.db", "http://127.0.0.1:5000/#/a"),
        ("postgresql://ada:hunter2@db/mlflow", "http://127.0.0.1:5000/#/a"),
        ("https://ada:hunter2@mlflow.example/", "https://ada@mlflow.example/#/a"),
    ],
)
def test_a_link_leads_to_the_store_s_own_server_or_to_the_one_that_ui_starts(uri: str, address: str) -> None:
    assert ui.address_of(SimpleNamespace(uri=uri), "#/a") == address  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_server_ends_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    program = "import os, pathlib, sys, time; pathlib.Path('pid').write_text(str(os.getpid()))"
    program += "; os.kill(os.getppid(), int(sys.argv[1])); time.sleep(600)"
    served: Any = ([sys.executable, "-c", program, str(int(number))], dict(os.environ))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ui, "server_of", lambda uri, port: served)
    store = SimpleNamespace(uri="sqlite:///x.db", experiment="katib-flow", newest=lambda: None)
    ui.serve(0, store)  # type: ignore[arg-type]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
