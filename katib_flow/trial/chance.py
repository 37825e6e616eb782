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

WORDS = 624  # of the Mersenne twister, after which it makes new ones
MOST_DRAWN = 100 * WORDS  # numbers that a module may draw at its import without being taken to seed

_seeded: list[Any] = []  # the last state of Python's generator that a module has seeded


@contextlib.contextmanager
def noticing_seeds() -> Generator[None]:
    """Notice whether a module that is imported in the block seeds Python's generator."""
    before = random.getstate()
    yield
    if not _only_drawn(before, after := random.getstate()):
        _seeded[:] = [after]


def _only_drawn(before: Any, after: Any) -> bool:
    """Whether drawing numbers leads from one state of Python's generator to another."""
    generator = random.Random()
    generator.setstate(before)
    count = (after[1][-1] - before[1][-1]) % WORDS  # the last number is a position among the words
    for words in [count, *[WORDS] * (MOST_DRAWN // WORDS)]:
        generator.getrandbits(32 * words)
        if generator.getstate()[1] == after[1]:
            return True
    return False


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
    """Whether only drawing numbers leads from the system's seed to the state of NumPy's generator."""
    generator = numpy.get_bit_generator()
    if not isinstance(generator, numpy.MT19937):  # the module has put another one in its place
        return False
    now, again = generator.state["state"], numpy.MT19937(generator.seed_seq)
    for words in [(now["pos"] - again.state["state"]["pos"]) % WORDS, *[WORDS] * (MOST_DRAWN // WORDS)]:
        again.random_raw(words, output=False)
        if (again.state["state"]["key"] == now["key"]).all():
            return True
    return False
