"""A tracking server over a network: calls take time, and the server is unavailable for a while."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import TrackingUnavailable
from katib_flow.testing.argo.waiting import Sleep
from katib_flow.testing.memory import MemoryStore
from katib_flow.tracking import PATIENCE_SECONDS

LATENCY_SECONDS = 0.3  # at most
LONGEST_PAUSE_SECONDS = 10.0  # between two attempts of a call, as in the real client


@dataclass
class Outage:
    """An outage of a server; calls during it are repeated until it is over, each at its own random time.

    Attributes:
        first: number of the call, from 0, with which the outage begins; there is no outage if it is never reached.
        seconds: duration of the outage.
        patience_seconds: how long a call is repeated before its program gives up.
        answer_lost: whether the server executes the first call but its answer is lost, so that the call is repeated.
        calls: number of calls so far.
    """

    first: int = -1
    seconds: float = 240.0
    patience_seconds: float = PATIENCE_SECONDS
    answer_lost: bool = False
    calls: int = 0
    _back: float = 0.0

    def call(self, call: Callable[[], Any], sleep: Sleep, clock: Callable[[], float]) -> Any:
        """Make a call, and return its result.

        Raises:
            TrackingUnavailable: the outage lasts longer than ``patience_seconds``.
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
            raise TrackingUnavailable("the server is unavailable")
        if left > 0:
            sleep(left + drawn.uniform(0.0, LONGEST_PAUSE_SECONDS))
        return call()


class Remote:
    """A store that a program calls over a network with an outage.

    Attributes that are not methods, such as ``learnings``, are not affected: a failure to use them is never an error.

    Args:
        sleep: the program's sleep function.
        clock: the simulator's clock.
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
