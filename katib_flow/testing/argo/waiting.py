"""A program that sleeps, on the simulator's clock: while it does, other things happen."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

from katib_flow.testing.argo.programs import Killed, ToldToGo

T = TypeVar("T")
Sleep = Callable[[float], None]


def waiting(program: Callable[[Sleep], T], told_to_go: Callable[[], None]) -> Generator[float, None, T]:
    """Run a program as a generator of the seconds for which it sleeps; it ends with what the program gives.

    The program is in a thread of its own, which runs only while the generator is asked. Closing the generator kills it.

    Args:
        told_to_go: what SIGTERM does to it; called where ``ToldToGo`` is thrown in.
    """
    turns: SimpleQueue[BaseException | None] = SimpleQueue()
    said: SimpleQueue[float | Future[T]] = SimpleQueue()

    def sleep(seconds: float) -> None:
        said.put(seconds)
        if (error := turns.get()) is not None:
            raise error

    def run() -> None:
        ended: Future[T] = Future()
        try:
            ended.set_result(program(sleep))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the generator is asked
            ended.set_exception(error)
        said.put(ended)

    threading.Thread(target=run, name="katib-flow simulated program", daemon=True).start()
    while not isinstance(word := said.get(), Future):
        try:
            yield word
        except ToldToGo:
            told_to_go()
        except GeneratorExit:
            turns.put(Killed())
            while not isinstance(said.get(), Future):
                turns.put(Killed())
            raise
        turns.put(None)
    return word.result()
