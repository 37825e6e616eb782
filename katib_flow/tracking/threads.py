"""Runs calls that wait for a server in parallel."""

from collections.abc import Callable, Iterable
from threading import Lock, Thread
from typing import TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")
THREADS = 8  # MLflow's client keeps ten connections


def parallel(call: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """The results in the order of the items; raises the error of the first item that failed.

    The threads are daemons and not those of an executor: at exit, Python would wait for calls to a server that does
    not answer.
    """
    todo = list(items)
    if len(todo) < 2:  # a thread would not be worthwhile
        return [call(item) for item in todo]
    results: list[U | None] = [None] * len(todo)
    errors: dict[int, BaseException] = {}
    ahead, lock = iter(range(len(todo))), Lock()

    def work() -> None:
        while True:
            with lock:
                position = None if errors else next(ahead, None)
            if position is None:
                return
            try:
                results[position] = call(todo[position])
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                errors[position] = error

    threads = [Thread(target=work, name="katib-flow call", daemon=True) for _ in range(min(THREADS, len(todo)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return cast(list[U], results)
