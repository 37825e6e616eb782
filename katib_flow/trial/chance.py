"""The global generators of random numbers in a forked trial: in the state that they would have in a new process.

A fork copies the generators of NumPy and PyTorch, so all trials of a worker would draw the same numbers. Python seeds
its own generator anew in a fork, even if the user's module has seeded it. A generator that a module has seeded at its
import keeps its state, as the module would do the same in a new process. Every other one is seeded by the system.
"""

import contextlib
import random
import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

LARGEST_SEED = 2**32  # of users; PyTorch seeds itself with a random number of 64 bits, which is hardly ever below
WORDS = 624  # of the Mersenne twister, after which it makes new ones
MOST_DRAWN = 100 * WORDS  # numbers that a module may draw at its import without being taken to seed


@dataclass
class _Seeded:
    """The generators that a module has seeded; of Python's, the last state."""

    python: Any = None
    numpy: bool = False
    torch: bool = False


_seeded = _Seeded()


@contextlib.contextmanager
def noticing_seeds() -> Generator[None]:
    """Notice which generators a module that is imported in the block seeds: once, and not in every trial."""
    before = random.getstate()
    yield
    if not _only_drawn(before[1], (after := random.getstate())[1]):
        _seeded.python = after
    if numpy := sys.modules.get("numpy.random"):
        _seeded.numpy = not _unseeded(numpy)
    if torch := sys.modules.get("torch"):
        _seeded.torch = torch.initial_seed() < LARGEST_SEED


def begin() -> None:
    """Set the generators at the start of a forked trial."""
    if _seeded.python:
        random.setstate(_seeded.python)
    if (numpy := sys.modules.get("numpy.random")) and not _seeded.numpy:
        numpy.seed()
    if (torch := sys.modules.get("torch")) and not _seeded.torch:
        torch.default_generator.seed()


def _unseeded(numpy: Any) -> bool:
    """Whether only drawing numbers leads from the system's seed to the state of NumPy's generator."""
    generator = numpy.get_bit_generator()
    if not isinstance(generator, numpy.MT19937):  # the module has put another one in its place
        return False
    return _only_drawn(_words(numpy.MT19937(generator.seed_seq)), _words(generator))


def _words(generator: Any) -> tuple[int, ...]:
    """The state of NumPy's Mersenne twister in the form of Python's, which is the same algorithm."""
    state = generator.state["state"]
    return (*state["key"].tolist(), int(state["pos"]))


def _only_drawn(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether drawing numbers leads from one state of a Mersenne twister to another.

    Args:
        before: its words, then the position among them.
    """
    generator = random.Random()
    generator.setstate((3, before, None))
    for words in [(after[-1] - before[-1]) % WORDS, *[WORDS] * (MOST_DRAWN // WORDS)]:
        generator.getrandbits(32 * words)
        if generator.getstate()[1] == after:
            return True
    return False
