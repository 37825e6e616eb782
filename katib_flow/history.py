"""The facts of an experiment so far, frozen: what was suggested, what ran, what it reported.

Nothing here does I/O. ``tracking`` writes these facts to MLflow and reads them back exactly.
"""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Any

from katib_flow.basis import Basis
from katib_flow.errors import written_out
from katib_flow.markup import facts, table

Value = bool | int | float | str | None
"""What a parameter may be assigned: any scalar of JSON."""


class State(StrEnum):
    """Where a trial stands. The last five are final."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EARLY_STOPPED = "early-stopped"
    METRICS_UNAVAILABLE = "metrics-unavailable"
    KILLED = "killed"

    @property
    def final(self) -> bool:
        return self not in (State.PENDING, State.RUNNING)

    @property
    def over(self) -> bool:
        """Whether the trial has said all it will; a killed one is started again."""
        return self.final and self is not State.KILLED

    @property
    def failure(self) -> bool:
        """Whether the trial counts against ``limits.max_failed_trials``."""
        return self in (State.FAILED, State.METRICS_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number, or vector (feature statistics), with the step and the time it was reported at."""

    name: str
    value: float | tuple[float, ...]
    step: int = 0
    timestamp_ms: int = 0


class Kind(StrEnum):
    """What a suggestion is."""

    GENERATE = "generate"
    """Decided on, parameter by parameter."""
    MODIFY = "modify"
    """Made of earlier trials by changing something of them, be it only how long they train."""
    SEGMENT = "segment"
    """A part of the training of a supernet, or of weights that are shared otherwise."""
    GIVEN = "given"
    """Named by the user, not by the algorithm."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a suggestion is, and where it came from.

    Attributes:
        parents: indices of the trials that it was made of, the most important first; it need not inherit from them.
        repeats: indices of the trials on which the algorithm decided once more before it came to this one, as often as
            it did: they are not run again, and count again with the results they had.
    """

    kind: Kind = Kind.GENERATE
    parents: tuple[int, ...] = ()
    repeats: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data of which ``from_dict`` makes an equal origin; what is empty is left out."""
        numbers = {"parents": list(self.parents), "repeats": list(self.repeats)}
        return {"kind": str(self.kind), **{name: found for name, found in numbers.items() if found}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Origin":
        return cls(Kind(data["kind"]), tuple(data.get("parents", ())), tuple(data.get("repeats", ())))


def _finite(value: object) -> bool:
    """Whether a value is a number that a float can come near to."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max  # NaN is not


_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,199}")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What an algorithm proposes to try.

    Attributes:
        index: position in the experiment, from 0. It names the random stream that the suggestion was drawn from.
        assignment: value of each active parameter, by name; inactive conditional parameters are absent.
        budget: what the trial may spend, in units of the budget parameter; None where there is no budget.
        parent: index of the trial to continue or inherit from.
        topology: a neural network as plain data (NAS), or None.
        origin: what it is, and which trials it was made of, its parent among them.
        info: notes of the algorithm, plain JSON (rung, bracket, generation).
        key: id that tells suggestions apart where they are made side by side; the index where it is empty.
        basis: what was known when the algorithm was asked, from which it can be derived again; no part of what is
            proposed, and None where it was not asked by the loop.
    """

    index: int
    assignment: Mapping[str, Value]
    budget: float | None = None
    parent: int | None = None
    topology: Mapping[str, object] | None = None
    info: Mapping[str, object] = field(default_factory=dict[str, object])
    key: str = ""
    origin: Origin = Origin()
    basis: Basis | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """What inherits from a trial is made of it, whoever forgot to say so.

        Raises:
            ValueError: its id, which names a directory and may come from a store, is no plain name.
        """
        if not isinstance(self.index, int) or isinstance(self.index, bool) or self.index < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - read from JSON
            raise ValueError(f"index: found {written_out(self.index)}, need a whole number from 0")
        if self.key != "" and not (isinstance(self.key, str) and _KEY.fullmatch(self.key)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"key: found {written_out(self.key)}, need lower-case letters, digits and dashes")
        parents = self.origin.parents
        if self.parent is not None and self.parent not in parents:
            kind = Kind.MODIFY if self.origin.kind is Kind.GENERATE else self.origin.kind
            origin = Origin(kind, (self.parent, *parents), self.origin.repeats)
            object.__setattr__(self, "origin", origin)

    @property
    def id(self) -> str:
        """Short id, unique in the experiment: lower-case letters, digits and dashes."""
        return self.key or f"t{self.index:05d}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data of which ``from_dict`` makes an equal suggestion; JSON keeps 1, 1.0 and true apart."""
        fields = {
            "index": self.index,
            "assignment": dict(self.assignment),
            "budget": self.budget,
            "parent": self.parent,
        }
        notes = {"info": dict(self.info), "key": self.key, "origin": self.origin.to_dict()}
        asked = {"basis": self.basis.to_dict()} if self.basis else {}
        return fields | {"topology": self.topology, **notes, **asked}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Suggestion":
        """The suggestion of plain data.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is none.
        """
        rest = dict(data)
        origin = Origin.from_dict(rest.pop("origin", Origin().to_dict()))
        basis = rest.pop("basis", None)
        suggestion = cls(**rest, origin=origin, basis=None if basis is None else Basis.from_dict(basis))
        if wrong := next(suggestion._wrong(), None):
            raise ValueError(wrong)
        return suggestion

    def _wrong(self) -> Iterator[str]:
        """What is not of the type that it should be."""
        for name in ("assignment", "info", "topology"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) and not (name == "topology" and value is None):
                yield f"{name}: found {written_out(value)}, need a mapping"
                return
        for name, value in self.assignment.items():
            if not (value is None or isinstance(value, str | int) or _finite(value)):
                yield f"assignment.{name}: found {written_out(value)}, need text, a finite number, true, false or null"
        if self.budget is not None and (isinstance(self.budget, bool) or not _finite(self.budget)):
            yield f"budget: found {written_out(self.budget)}, need a finite number"
        for index in (*self.origin.parents, *self.origin.repeats):
            if not isinstance(index, int) or isinstance(index, bool) or index < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - read from JSON
                yield f"origin: found {written_out(index)}, need the index of a trial, a whole number from 0"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the Workflows of an experiment a trial was started last.

    Attributes:
        segment: number of the Workflow, from 0.
        iteration: number of the iteration, or of the lane's turn, in the segment, from 1.
        lane: None where iterations start their trials at once.
        first: of an iteration, the index of the first trial that is new in it.
        registered: when a lane recorded it, in seconds since the epoch, by the clock of its pod.
    """

    segment: int
    iteration: int
    lane: int | None = None
    first: int = 0
    registered: float = 0.0

    @property
    def turn(self) -> tuple[int, int]:
        return self.segment, self.iteration

    def to_dict(self) -> dict[str, Any]:
        """Plain data of which ``from_dict`` makes an equal place; what is None or 0 is left out."""
        rest = {"lane": self.lane, "first": self.first, "registered": self.registered}
        optional = {name: value for name, value in rest.items() if value or (name == "lane" and value is not None)}
        return {"segment": self.segment, "iteration": self.iteration, **optional}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Place":
        """The place of plain data.

        Raises:
            ValueError, TypeError: it is none.
        """
        registered = float(data.get("registered", 0.0))
        return cls(**{name: int(value) for name, value in data.items() if name != "registered"}, registered=registered)


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation of one suggestion.

    Attributes:
        observations: the reduced value of each metric that was reported, NaN and infinity included.
        series: every reported value, by metric, in the order reported; empty where it was not asked for.
        started, ended: seconds since the epoch.
        message: why the trial failed, or what else a reader should know.
        run_id: id of the MLflow run that records it.
        retries: how often it was started again after a fault of the machine.
        place: where in a Workflow it was started last; None where none has started it.
    """

    suggestion: Suggestion
    state: State = State.PENDING
    observations: Mapping[str, float] = field(default_factory=dict[str, float])
    series: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict[str, tuple[Metric, ...]])
    started: float | None = None
    ended: float | None = None
    message: str = ""
    run_id: str = ""
    retries: int = 0
    place: Place | None = None

    @property
    def id(self) -> str:
        return self.suggestion.id

    @property
    def index(self) -> int:
        return self.suggestion.index

    @property
    def assignment(self) -> Mapping[str, Value]:
        return self.suggestion.assignment

    @property
    def seconds(self) -> float | None:
        """For how long it ran; None where it has not ended."""
        return None if self.started is None or self.ended is None else round(self.ended - self.started, 3)

    def _facts(self) -> dict[str, Any]:
        """What there is to tell of it, for notebooks."""
        notes = {"budget": self.suggestion.budget, "seconds": self.seconds, "message": self.message}
        return {"state": self.state, **{name: fact for name, fact in notes.items() if fact not in (None, "")}}

    def _repr_html_(self) -> str:
        known = {"parameters": self.assignment, "metrics": self.observations, "MLflow run": self.run_id}
        return facts(f"trial {self.id}", {**self._facts(), **known})

    @property
    def reported(self) -> list[Metric]:
        """Every value of every series."""
        return [metric for series in self.series.values() for metric in series]

    def observed(self, metric: str) -> float | None:
        """The finite value of a metric; None where it is absent, NaN or infinite, or does not count.

        It counts of a trial that succeeded or was stopped early, and not of a segment: what one reports was measured
        with weights that it shares with other architectures, and does not compare with a training of its own.
        """
        if self.state not in (State.SUCCEEDED, State.EARLY_STOPPED) or self.suggestion.origin.kind is Kind.SEGMENT:
            return None
        value = self.observations.get(metric)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Learnt:
    """What an algorithm has learnt from a history and cannot cheaply learn anew: a controller's weights, say.

    Attributes:
        lessons: from how many it has learnt.
        digest: of these lessons and of the experiment: 64 hexadecimal digits.
        content: as the algorithm has packed it.
    """

    lessons: int
    digest: str
    content: bytes


_ORDER = attrgetter("suggestion.index", "suggestion.key")


def continued(earlier: Iterable[Metric], later: Sequence[Metric]) -> list[Metric]:
    """What a trial that was tried again has reported, as if it had run once.

    Of each metric, earlier tries count up to the step at which the last one began, be it the first or that of a
    checkpoint; where they tell a step twice, the later one counts.

    Args:
        earlier: by earlier tries, in the order of time.
        later: by the last one.
    """
    begun: dict[str, int] = {}
    for metric in later:
        begun[metric.name] = min(metric.step, begun.get(metric.name, metric.step))
    kept = {(each.name, each.step): each for each in earlier if each.step < begun.get(each.name, math.inf)}
    return [*kept.values(), *later]


@dataclass(frozen=True)
class History(Sequence[Trial]):
    """The trials of an experiment, in the order of their index whatever order they are given in."""

    trials: tuple[Trial, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trials", tuple(sorted(self.trials, key=_ORDER)))

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, position):  # type: ignore[no-untyped-def,override]
        return self.trials[position]

    def completed(self, *metrics: str) -> tuple[Trial, ...]:
        """Trials that ended with a finite observation of every metric named."""
        return tuple(
            trial
            for trial in self.trials
            if trial.state in (State.SUCCEEDED, State.EARLY_STOPPED)
            and all(trial.observed(metric) is not None for metric in metrics)
        )

    def open(self) -> tuple[Trial, ...]:
        """Trials that are pending or running."""
        return tuple(trial for trial in self.trials if not trial.state.final)

    def counts(self) -> Counter[State]:
        return Counter(trial.state for trial in self.trials)

    @property
    def next_index(self) -> int:
        return self.trials[-1].index + 1 if self.trials else 0

    def _repr_html_(self) -> str:
        rows = [
            {"trial": trial.id, **trial._facts(), "metrics": trial.observations, "parameters": trial.assignment}
            for trial in self.trials
        ]
        return table(f"{len(self)} trial{'s' * (len(self) != 1)}", rows)

    def replaced(self, trials: Iterable[Trial]) -> "History":
        """This history with trials added, or put in the place of those of the same id."""
        return History(
            tuple(({trial.id: trial for trial in self.trials} | {trial.id: trial for trial in trials}).values())
        )
