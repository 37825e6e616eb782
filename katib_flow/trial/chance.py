"""The global generators of random numbers in a forked trial: in the state that they would have in a new process.

A fork copies the generators of NumPy and PyTorch, so all trials of a worker would draw the same numbers. Python seeds
its own generator anew in a fork, even if the user's module has seeded it.
"""

import contextlib
import random
import sys
from collections.abc import Generator
from typing import Any

LARGEST_SEED = 2**32  # of users; PyTorch seeds itself with a random number of 64 bits, which is hardly ever below

_seeded: list[Any] = []  # the last state in which a module has left Python's generator


@contextlib.contextmanager
def noticing_seeds() -> Generator[None]:
    """Notice whether a module that is imported in the block seeds Python's generator, or draws from it."""
    before = random.getstate()
    yield
    if (after := random.getstate()) != before:
        _seeded[:] = [after]


def begin() -> None:
    """Set the generators at the start of a forked trial.

    One that a module has seeded at its import keeps its state, as the module would do the same in a new process. Every
    other one is seeded by the system.
    """
    if _seeded:
        random.setstate(_seeded[0])
    if (numpy := sys.modules.get("numpy.random")) and _unseeded(numpy):
        numpy.seed()
    torch = sys.modules.get("torch")
    if torch and torch.initial_seed() >= LARGEST_SEED:
        torch.default_generator.seed()


def _unseeded(numpy: Any) -> bool:
    """Whether NumPy's generator is in the state in which the system has seeded it."""
    generator = numpy.get_bit_generator()
    if not isinstance(generator, numpy.MT19937):  # the module has put another one in its place
        return False
    initial, now = numpy.MT19937(generator.seed_seq).state["state"], generator.state["state"]
    return bool(initial["pos"] == now["pos"] and (initial["key"] == now["key"]).all())
