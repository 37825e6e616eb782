"""The basis of a suggestion: which trials the algorithm knew when it was asked, and their states.

A basis is small even for a long history, because the results of a trial that is over do not change any more: only the
trials that were not over are listed with their states.
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
    """A set of indices as ranges, whose memory does not depend on their lengths, because they may come from a store.

    Attributes:
        ranges: (first, last) pairs, both included, in ascending order, with gaps between them.
    """

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_sorted(cls, indices: Iterable[int]) -> "Indices":
        """The set of some indices, which must be in ascending order."""
        ranges: list[list[int]] = []
        last = -2
        for index in indices:
            if index > last + 1:
                ranges.append([index, index])
            ranges[-1][1] = last = index
        return cls(tuple((first, last) for first, last in ranges))

    @classmethod
    def parse(cls, text: object) -> "Indices":
        """Parse a text such as ``0-6,8``; "" is the empty set.

        Raises:
            ValueError: the text has another form, or its ranges are not in order.
        """
        matches = [_RANGE.fullmatch(part) for part in text.split(",")] if isinstance(text, str) and text else []
        ranges = [(int(match[1]), int(match[2] or match[1])) for match in matches if match]
        ordered = all(first <= last for first, last in ranges)
        apart = all(left[1] + 1 < right[0] for left, right in pairwise(ranges))
        if not isinstance(text, str) or len(ranges) < len(matches) or not (ordered and apart):
            raise ValueError(f"found {text!r}, need indices in ascending order, such as 0-6,8")
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
    """A request to an algorithm, and the trials that were known then.

    Attributes:
        start, count: index of the first requested suggestion, and number of requested suggestions.
        trials: the known trials.
        unfinished: (state, indices) pairs of the known trials that were not over.
        earlier: number of known trials of earlier experiments.
    """

    start: int
    count: int
    trials: Indices = Indices()
    unfinished: tuple[tuple[str, Indices], ...] = ()
    earlier: int = 0

    @classmethod
    def of_request(cls, history: "History", start: int, count: int, earlier: "History") -> "Basis":
        """The basis of a request for ``count`` suggestions with this history."""
        unfinished: dict[str, list[int]] = {}
        for trial in history:
            if not trial.state.over:
                unfinished.setdefault(str(trial.state), []).append(trial.suggestion.index)
        return cls(
            start,
            count,
            Indices.from_sorted(sorted(trial.suggestion.index for trial in history)),
            tuple((state, Indices.from_sorted(sorted(indices))) for state, indices in sorted(unfinished.items())),
            len(earlier),
        )

    def state_of(self, index: int) -> str | None:
        """The state of a trial that was known but not over; None for any other trial."""
        return next((state for state, indices in self.unfinished if index in indices), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which ``from_dict`` builds an equal basis; empty parts are left out."""
        unfinished = {state: str(indices) for state, indices in self.unfinished}
        optional = {"trials": str(self.trials), "unfinished": unfinished, "earlier": self.earlier}
        return {"start": self.start, "count": self.count, **{name: value for name, value in optional.items() if value}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Basis":
        """The inverse of ``to_dict``.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the data has another form.
        """
        unfinished = tuple((state, Indices.parse(text)) for state, text in sorted(data.get("unfinished", {}).items()))
        start, count = _whole("start", data["start"]), _whole("count", data["count"])
        return cls(
            start, count, Indices.parse(data.get("trials", "")), unfinished, _whole("earlier", data.get("earlier", 0))
        )


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}: found {value!r}, need a whole number of at least 0")
    return value
