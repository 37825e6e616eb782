"""What several messages share: a number with its noun, and a guess at a misspelt name."""

import difflib
from collections.abc import Iterable

from katib_flow.errors import written_out


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number and its noun: ``counted(1, "trial")`` is "1 trial", ``counted(2000, "trial")`` is "2,000 trials".

    Args:
        plural: the noun for any other number than one; ``singular`` with an "s" by default.
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def did_you_mean(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known word, or "" if none is near.

    Args:
        word: the unknown word.
        known: the known words.
        cutoff: the least similarity of the two words, from 0 to 1, as in ``difflib.get_close_matches``.
    """
    text = word if isinstance(word, str) else written_out(word)
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
