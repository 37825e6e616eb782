"""Gives a target inputs, one after another, and keeps what must not be: other errors than ours, time, memory."""

import random
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from katib_flow.errors import KatibFlowError

SECONDS = 2.0  # of the processor's time, for one input
MEGABYTES = 200  # by which one input may raise the memory that the process ever had
PACKAGE = Path(__file__).parents[2]


class Target(Protocol):
    """What reads inputs of one kind."""

    def make(self, rng: random.Random) -> Any:
        """An input."""
        ...

    def take(self, given: Any) -> None:
        """Read it, and check what came of it. May raise an error of the project's."""
        ...


@dataclass
class Tally:
    """What became of the inputs of one kind.

    Attributes:
        taken, refused: how many were read, and how many were refused with an error of the project's.
        slowest: seconds of the processor's time, and the number of the input.
        faults: by where it happened, the first input that led there.
    """

    taken: int = 0
    refused: int = 0
    slowest: tuple[float, int] = (0.0, 0)
    faults: dict[str, str] = field(default_factory=dict[str, str])
    places: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        seconds, number = self.slowest
        total = self.taken + self.refused + self.places.total()
        text = f"{total} inputs: {self.taken} taken, {self.refused} refused, slowest {seconds:.2f} s (number {number})"
        return "\n".join([text, *(f"{self.places[at]} times {fault}" for at, fault in self.faults.items())])


class TooSlow(BaseException):
    """One input takes too long; nothing catches it on the way."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes more of the processor's time."""

    def interrupt(*_: object) -> None:
        raise TooSlow(f"takes more than {seconds:g} s")

    handler = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)


def fuzz(name: str, target: Target, numbers: range, seed: str = "0") -> Tally:
    """Give a target the inputs of some numbers. Input ``n`` is the same whatever came before it."""
    tally = Tally()
    for number in numbers:
        given = target.make(random.Random(f"{seed}/{name}/{number}"))
        before, memory = time.process_time(), _megabytes()
        try:
            with limited(SECONDS):
                target.take(given)
            tally.taken += 1
        except KatibFlowError as error:
            tally.refused += 1
            if not str(error).strip():
                _keep(tally, number, given, error)
        except (Exception, TooSlow) as error:
            _keep(tally, number, given, error)
        tally.slowest = max(tally.slowest, (time.process_time() - before, number))
        if _megabytes() - memory > MEGABYTES:
            _keep(tally, number, given, MemoryError(f"took {_megabytes() - memory} MB"))
    return tally


def _keep(tally: Tally, number: int, given: Any, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(PACKAGE / "katib_flow"))]
    at = "".join(f" at {frame.filename.removeprefix(f'{PACKAGE}/')}:{frame.lineno}" for frame in (ours or frames)[-1:])
    place = f"{type(error).__name__}{at}"
    tally.places[place] += 1
    tally.faults.setdefault(place, f"{place}: {str(error)[:200]!r}, for input {number}: {_shown(given)}")


def _shown(given: Any) -> str:
    try:
        return repr(given)[:1500]
    except RecursionError:
        return f"{type(given).__name__} that is nested deeply"


def _megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
