"""Calls that wait for a server, side by side."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
THREADS = 8  # MLflow's client keeps ten connections


def parallel(call: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """The results in the order of the items; raises what the first call that failed did."""
    todo = list(items)
    if len(todo) < 2:  # no thread is worth its while
        return [call(item) for item in todo]
    with ThreadPoolExecutor(min(THREADS, len(todo))) as pool:
        return list(pool.map(call, todo))
