"""Texts by name, as tokens: ``python-topics`` ships with Python. A token is a character.

Credit: the topics of ``help()`` are parts of the Python documentation (Python Software Foundation).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import KatibFlowError
from katib_flow.training.data import by_name

Tokens = NDArray[np.int64]
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""The characters with tokens of their own, in order; one more token stands for all others."""


@dataclass(frozen=True)
class Text:
    """Three texts: to train on, to compare trials by (``valid``), and to judge the result of a search (``test``).

    Attributes:
        tokens: number of different tokens.
        train, valid, test: tokens, numbered from 0, shape (token,).
    """

    tokens: int
    train: Tokens
    valid: Tokens
    test: Tokens

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a text has fewer than 2 tokens, or one that is out of range.
        """
        for name in ("train", "valid", "test"):
            text: Tokens = getattr(self, name)
            if text.ndim != 1 or len(text) < 2:
                raise ValueError(f"{name}: found shape {text.shape}, need (token,) with at least 2 tokens")
            if text.min() < 0 or text.max() >= self.tokens:
                raise ValueError(f"{name}: found tokens {text.min()} to {text.max()}, need 0 to {self.tokens - 1}")

    def first(self, count: int | None) -> "Text":
        """The texts with only the first ``count`` training tokens; None for all."""
        return self if count is None else Text(self.tokens, self.train[:count], self.valid, self.test)


def load_text(name: str, train_size: int | None = None) -> Text:
    """Load a text by name, or from a function ``module:name`` that returns ``Text``.

    Args:
        train_size: number of training tokens to keep, from the first; all by default.

    Raises:
        KatibFlowError: the text is unknown or cannot be loaded, or has fewer training tokens.
    """
    text = _load(name)
    if train_size is not None and not 2 <= train_size <= len(text.train):
        raise KatibFlowError(
            f"train_size: found {train_size}, need 2 to {len(text.train)}, the training tokens of {name}"
        )
    return text.first(train_size)


def text_of(content: str, valid: int, test: int) -> Text:
    """The characters of a text as tokens, cut into training, validation and test text, in this order.

    Args:
        valid, test: numbers of characters of the validation and the test text.
    """
    token_of = np.full(0x110000, len(CHARACTERS))
    token_of[[ord(character) for character in CHARACTERS]] = range(len(CHARACTERS))
    tokens = token_of[np.frombuffer(content.encode("utf-32-le", "surrogatepass"), dtype="<u4")]
    train, searched, judged = np.split(tokens, [len(tokens) - valid - test, len(tokens) - test])
    return Text(len(CHARACTERS) + 1, train, searched, judged)


@lru_cache(maxsize=2)
def _load(name: str) -> Text:
    return by_name(name, TEXTS, Text)


def _topics(name: str) -> Text:
    """The topics of ``help()`` in alphabetical order; they differ between versions of Python."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:  # some distributions leave it out
        raise KatibFlowError(f"data: python-topics: this Python lacks the module pydoc_data ({error})") from None
    return text_of("\n".join(topics[topic] for topic in sorted(topics)), valid=20_000, test=20_000)


TEXTS: dict[str, Callable[[str], Text]] = {"python-topics": _topics}
