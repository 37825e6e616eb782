"""Text by name, as tokens: ``python-topics`` ships with Python. A token is a character.

Credit: the topics that ``help()`` shows are parts of the Python documentation (Python Software Foundation).
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
"""Each is a token, by its position; whatever is not among them is one more."""


@dataclass(frozen=True)
class Text:
    """Three texts: to train on, to search with, and to judge what was found.

    Attributes:
        tokens: how many different ones there are.
        train, valid, test: tokens from 0, shape (token,).
    """

    tokens: int
    train: Tokens
    valid: Tokens
    test: Tokens

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a text has no token to predict, or one that is out of range.
        """
        for name in ("train", "valid", "test"):
            text: Tokens = getattr(self, name)
            if text.ndim != 1 or len(text) < 2:
                raise ValueError(f"{name} has shape {text.shape}, need (token,) with 2 tokens or more")
            if text.min() < 0 or text.max() >= self.tokens:
                raise ValueError(f"{name} has tokens from {text.min()} to {text.max()}, need 0 to {self.tokens - 1}")

    def first(self, count: int | None) -> "Text":
        """With so many tokens to train on, from the first."""
        return self if count is None else Text(self.tokens, self.train[:count], self.valid, self.test)


def load_text(name: str, train_size: int | None = None) -> Text:
    """The text of a name, or of a function ``module:name`` that gives ``Text``.

    Args:
        train_size: how many of the tokens to train on, from the first; all where it is left out.

    Raises:
        KatibFlowError: there is none.
    """
    text = _load(name)
    if train_size is not None and not 2 <= train_size <= len(text.train):
        raise KatibFlowError(f"train_size: found {train_size}, need 2 to {len(text.train)}, the characters of {name}")
    return text.first(train_size)


def text_of(content: str, valid: int, test: int) -> Text:
    """The characters of a text, cut in its order: the last are to judge by, those before them to search with."""
    places = np.full(0x110000, len(CHARACTERS))
    places[[ord(character) for character in CHARACTERS]] = range(len(CHARACTERS))
    tokens = places[np.frombuffer(content.encode("utf-32-le", "surrogatepass"), dtype="<u4")]
    train, searched, judged = np.split(tokens, [len(tokens) - valid - test, len(tokens) - test])
    return Text(len(CHARACTERS) + 1, train, searched, judged)


@lru_cache(maxsize=2)
def _load(name: str) -> Text:
    return by_name(name, TEXTS, Text)


def _topics(name: str) -> Text:
    """What ``help()`` tells of Python's language, in alphabetical order; each version of Python has its own."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:  # some distributions leave it out
        raise KatibFlowError(f"data: python-topics: this Python has no pydoc_data ({error})") from None
    return text_of("\n".join(topics[topic] for topic in sorted(topics)), valid=20_000, test=20_000)


TEXTS: dict[str, Callable[[str], Text]] = {"python-topics": _topics}
