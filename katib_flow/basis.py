"""What a suggestion was derived from: which trials were known when the algorithm was asked, and how they stood.

It is small whatever the length of the history, because what a trial that is over has reported does not change any more:
only the trials that were not over are named one by one.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katib_flow.history import History

_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")


@dataclass(frozen=True, slots=True)
class Indices:
    """A set of indices as ranges, which take no memory by their length: they may come from a store.

    Attributes:
        ranges: first and last index of each, both included; in order, and apart from each other.
    """

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, indices: Iterable[int]) -> "Indices":
        """The ranges of indices in rising order."""
        ranges: list[list[int]] = []
        last = -2
        for index in indices:
            if index > last + 1:
                ranges.append([index, index])
            ranges[-1][1] = last = index
        return cls(tuple((first, last) for first, last in ranges))

    @classmethod
    def parse(cls, text: object) -> "Indices":
        """The indices of a text such as ``0-6,8``.

        Raises:
            ValueError: it is none.
        """
        matches = [_RANGE.fullmatch(part) for part in text.split(",")] if isinstance(text, str) and text else []
        ranges = [(int(match[1]), int(match[2] or match[1])) for match in matches if match]
        ordered = all(first <= last for first, last in ranges)
        apart = all(left[1] + 1 < right[0] for left, right in pairwise(ranges))
        if not isinstance(text, str) or len(ranges) < len(matches) or not (ordered and apart):
            raise ValueError(f"found {text!r}, need indices in order, such as 0-6,8")
        return cls(tuple(ranges))

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)

    def __contains__(self, index: int) -> bool:
        position = bisect_right(self.ranges, index, key=itemgetter(0))
        return position > 0 and index <= self.ranges[position - 1][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class Basis:
    """What the algorithm was asked, and what was known then.

    Attributes:
        start, count: index of the first suggestion that it was asked for, and for how many it was asked.
        trials: the trials that were known.
        unfinished: those of them that were not over, by the name of the state in which they were.
        earlier: how many trials of earlier experiments were known.
    """

    start: int
    count: int
    trials: Indices = Indices()
    unfinished: tuple[tuple[str, Indices], ...] = ()
    earlier: int = 0

    @classmethod
    def of(cls, history: "History", start: int, count: int, earlier: "History") -> "Basis":
        """What an algorithm is asked that knows a history."""
        unfinished: dict[str, list[int]] = {}
        for trial in history:
            if not trial.state.over:
                unfinished.setdefault(str(trial.state), []).append(trial.suggestion.index)
        return cls(
            start,
            count,
            Indices.of(sorted(trial.suggestion.index for trial in history)),
            tuple((state, Indices.of(sorted(indices))) for state, indices in sorted(unfinished.items())),
            len(earlier),
        )

    def state_of(self, index: int) -> str | None:
        """In which state a trial was that was known and not over; None of any other."""
        return next((state for state, indices in self.unfinished if index in indices), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data of which ``from_dict`` makes an equal basis; what is empty is left out."""
        unfinished = {state: str(indices) for state, indices in self.unfinished}
        optional = {"trials": str(self.trials), "unfinished": unfinished, "earlier": self.earlier}
        return {"start": self.start, "count": self.count, **{name: value for name, value in optional.items() if value}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Basis":
        """The basis of plain data.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is none.
        """
        unfinished = tuple((state, Indices.parse(text)) for state, text in sorted(data.get("unfinished", {}).items()))
        start, count = _whole("start", data["start"]), _whole("count", data["count"])
        return cls(
            start, count, Indices.parse(data.get("trials", "")), unfinished, _whole("earlier", data.get("earlier", 0))
        )


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}: found {value!r}, need a whole number from 0")
    return value
