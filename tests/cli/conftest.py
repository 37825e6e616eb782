"""What the tests of commands share."""

import json
from typing import Any

import pytest

from katib_flow.cli import main


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is given up on at once."""
    monkeypatch.setattr("katib_flow.tracking.store.FIRST_CONTACT_SECONDS", 0.2)


class Call:
    """What came of a command line."""

    def __init__(self, code: int, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Call:
        monkeypatch.setattr("sys.argv", ["katib-flow", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int), code
        return Call(code or 0, *capsys.readouterr())

    return call
