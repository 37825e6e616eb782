"""A trial around a test: its file, its directories and its report file, and the signal handler that was there."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from katib_flow.trial import user


@dataclass(frozen=True)
class AroundTrial:
    """The directories of a trial, and what it has reported."""

    directory: Path

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Each report, ``{"metrics": {...}, "step": 3}``."""
        path = self.directory / "report.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def steps(self, metric: str) -> list[int]:
        """The steps at which a metric was reported, in order."""
        return [report["step"] for report in self.reports if metric in report["metrics"]]

    def of_child(self, monkeypatch: pytest.MonkeyPatch) -> "AroundTrial":
        """Another trial, which continues this one."""
        return _around(self.directory.with_name("child"), monkeypatch, parent=self.directory / "checkpoint")

    def ask_to_stop(self) -> None:
        """Send what the worker sends to a trial that should end."""
        os.kill(os.getpid(), signal.SIGTERM)


def _around(directory: Path, monkeypatch: pytest.MonkeyPatch, parent: Path | None = None) -> AroundTrial:
    directory.mkdir()
    parent_directory = None if parent is None else str(parent)
    content = {"checkpoint_dir": str(directory / "checkpoint"), "parent_checkpoint_dir": parent_directory}
    (directory / "trial.json").write_text(json.dumps(content))
    monkeypatch.setenv("KATIB_FLOW_TRIAL_FILE", str(directory / "trial.json"))
    monkeypatch.setenv("KATIB_FLOW_REPORT_FILE", str(directory / "report.jsonl"))
    return AroundTrial(directory)


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AroundTrial]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user, "_stop", threading.Event())
    monkeypatch.setattr(user, "_listening", False)
    before = signal.getsignal(signal.SIGTERM)
    yield _around(tmp_path / "trial", monkeypatch)
    signal.signal(signal.SIGTERM, before)
