"""What the tests of commands share."""

import pytest


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is given up on at once."""
    monkeypatch.setattr("katib_flow.tracking.store.FIRST_CONTACT_SECONDS", 0.2)
