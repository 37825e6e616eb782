"""A tracking server at the end of a wire: calls take time, and from one of them on it is away for a while."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import TrackingUnavailable
from katib_flow.testing.argo.waiting import Sleep
from katib_flow.testing.memory import MemoryStore
from katib_flow.tracking import PATIENCE_SECONDS

LATENCY_SECONDS = 0.3  # at most
LONGEST_PAUSE_SECONDS = 10.0  # between two tries of a call, as the real client makes


@dataclass
class Outage:
    """When a server is away; calls made meanwhile are tried again until it is back, each at a moment of its own.

    Attributes:
        first: number of the call with which it begins, from 0; one that is never made leaves the server there.
        seconds: for how long.
        patience_seconds: for how long a call is tried again before its program gives up.
        answer_lost: whether that call is heard before the server goes, and made again when it is back.
        calls: how many calls were made.
    """

    first: int = -1
    seconds: float = 240.0
    patience_seconds: float = PATIENCE_SECONDS
    answer_lost: bool = False
    calls: int = 0
    _back: float = 0.0

    def call(self, call: Callable[[], Any], sleep: Sleep, clock: Callable[[], float]) -> Any:
        """Make a call; what it gives.

        Raises:
            TrackingUnavailable: the server was away for longer than the program is patient.
        """
        number, self.calls = self.calls, self.calls + 1
        drawn = random.Random(number)
        sleep(drawn.uniform(0.0, LATENCY_SECONDS))
        if number == self.first:
            self._back = clock() + self.seconds
            if self.answer_lost:
                call()
        if (left := self._back - clock()) > self.patience_seconds:
            sleep(self.patience_seconds)
            raise TrackingUnavailable("the server is away")
        if left > 0:
            sleep(left + drawn.uniform(0.0, LONGEST_PAUSE_SECONDS))
        return call()


class Remote:
    """A store that is asked over such a wire, by one program.

    What is no call, such as ``learnings``, is as it is: no fault of it is an error.

    Args:
        sleep: of the program.
        clock: the simulator's.
    """

    def __init__(self, store: MemoryStore, outage: Outage, sleep: Sleep, clock: Callable[[], float]) -> None:
        self._store, self._outage, self._sleep, self._clock = store, outage, sleep, clock

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def call(*args: Any, **options: Any) -> Any:
            return self._outage.call(lambda: method(*args, **options), self._sleep, self._clock)

        return call
