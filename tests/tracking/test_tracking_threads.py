"""Calls side by side."""

import subprocess
import sys

import pytest

from katib_flow.tracking.threads import THREADS, parallel

AWAY = """
import os, threading
from katib_flow.tracking.threads import parallel
calls = threading.Semaphore(0)

def call(item):
    calls.release()
    threading.Event().wait()

threading.Thread(target=parallel, args=(call, range(8)), daemon=True).start()
for _ in range(8):
    calls.acquire()
"""


def test_results_come_in_the_order_of_the_items() -> None:
    assert parallel(lambda item: item**2, range(3 * THREADS)) == [item**2 for item in range(3 * THREADS)]


def test_the_first_that_failed_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        parallel(lambda item: 1 / item, [1, 0, 2])


def test_calls_that_never_end_do_not_keep_the_process() -> None:
    subprocess.run([sys.executable, "-c", AWAY], check=True, timeout=30)
