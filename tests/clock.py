"""A clock that tests move: sleeping takes no time, and shows as time that has gone by."""

import time
from collections.abc import Callable

import pytest


class Clock:
    """Seconds that sleeping has added to the time.

    Attributes:
        slept: seconds so far.
        on_sleep: called after each sleep.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        monotonic = time.monotonic
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.on_sleep()
