"""A program that sleeps on the simulator's clock, while other events happen."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

from katib_flow.testing.argo.programs import Killed, TerminationRequest

T = TypeVar("T")
Sleep = Callable[[float], None]


def waiting(program: Callable[[Sleep], T], terminate: Callable[[], None]) -> Generator[float, None, T]:
    """Run a program as a generator that yields the seconds for which it sleeps, and returns its result.

    The program has a thread of its own, which only runs while the generator does. Closing the generator kills it.

    Args:
        terminate: the program's handler of SIGTERM, called when a ``TerminationRequest`` is thrown in.
    """
    turns: SimpleQueue[BaseException | None] = SimpleQueue()
    messages: SimpleQueue[float | Future[T]] = SimpleQueue()

    def sleep(seconds: float) -> None:
        messages.put(seconds)
        if (error := turns.get()) is not None:
            raise error

    def run() -> None:
        ended: Future[T] = Future()
        try:
            ended.set_result(program(sleep))
        except BaseException as error:  # noqa: BLE001 - the generator raises it again
            ended.set_exception(error)
        messages.put(ended)

    threading.Thread(target=run, name="katib-flow simulated program", daemon=True).start()
    while not isinstance(message := messages.get(), Future):
        try:
            yield message
        except TerminationRequest:
            terminate()
        except GeneratorExit:
            turns.put(Killed())
            while not isinstance(messages.get(), Future):
                turns.put(Killed())
            raise
        turns.put(None)
    return message.result()
