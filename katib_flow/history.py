"""The history of an experiment as frozen data: suggestions, trials and the metrics that they reported.

Nothing here does I/O. ``tracking`` writes these data to MLflow and reads them back exactly.
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
from katib_flow.wording import counted

Value = bool | int | float | str | None
"""A value of a parameter: any JSON scalar."""


class State(StrEnum):
    """The state of a trial. The last five are final."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EARLY_STOPPED = "early-stopped"
    METRICS_UNAVAILABLE = "metrics-unavailable"
    KILLED = "killed"

    @property
    def final(self) -> bool:
        """True unless the trial is pending or running."""
        return self not in (State.PENDING, State.RUNNING)

    @property
    def over(self) -> bool:
        """True if the results of the trial will not change any more; a killed trial may be restarted."""
        return self.final and self is not State.KILLED

    @property
    def failure(self) -> bool:
        """True if the trial counts against ``limits.max_failed_trials``."""
        return self in (State.FAILED, State.METRICS_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number, or vector (feature statistics), with its step and time (milliseconds since the epoch)."""

    name: str
    value: float | tuple[float, ...]
    step: int = 0
    timestamp_ms: int = 0


class Kind(StrEnum):
    """How a suggestion came about."""

    GENERATE = "generate"
    """The algorithm chose the value of each parameter."""
    MODIFY = "modify"
    """The algorithm changed earlier trials; perhaps only their budget."""
    SEGMENT = "segment"
    """The trial trains a part of a supernet, or of weights that are shared in another way."""
    GIVEN = "given"
    """The user chose it, not the algorithm."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The kind of a suggestion, and the trials that it derives from.

    Attributes:
        parents: indices of the trials that it was derived from, the most important first; it may not inherit weights.
        repeats: indices of the trials that the algorithm proposed again before this one, once per proposal; they are
            not run again, but their results count again.
    """

    kind: Kind = Kind.GENERATE
    parents: tuple[int, ...] = ()
    repeats: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which ``from_dict`` builds an equal origin; empty parts are left out."""
        indices = {"parents": list(self.parents), "repeats": list(self.repeats)}
        return {"kind": str(self.kind), **{name: numbers for name, numbers in indices.items() if numbers}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Origin":
        """The inverse of ``to_dict``; raises ValueError for an unknown kind, KeyError without one."""
        return cls(Kind(data["kind"]), tuple(data.get("parents", ())), tuple(data.get("repeats", ())))


def _finite(value: object) -> bool:
    """True for a number in the range of floats, except NaN."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max  # NaN is not


_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,199}")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A proposal of an algorithm for a trial.

    Attributes:
        index: position in the experiment, from 0; it selects the random stream of the suggestion.
        assignment: value of each active parameter, by name; inactive conditional parameters are absent.
        budget: what the trial may spend, in units of the budget parameter; None without a budget.
        parent: index of the trial to continue or inherit from; None to start anew.
        topology: a neural network as plain data (NAS), or None.
        info: notes of the algorithm as plain JSON (rung, bracket, generation).
        key: id that distinguishes suggestions made in parallel; by default the id is derived from the index.
        origin: how it came about, and the trials that it derives from, including its parent.
        basis: what the algorithm knew when it was asked, so that the suggestion can be reproduced; it is not compared,
            and None for a suggestion that does not come from the loop.
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
        """Add the parent to the origin if it is missing, and check the index and the key.

        Raises:
            ValueError: the index is not a natural number, or the key, which names a directory, is not a plain name.
        """
        if not isinstance(self.index, int) or isinstance(self.index, bool) or self.index < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - read from JSON
            raise ValueError(f"index: found {written_out(self.index)}, need a whole number of at least 0")
        if self.key != "" and not (isinstance(self.key, str) and _KEY.fullmatch(self.key)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"key: found {written_out(self.key)}, need lower-case letters, digits and dashes")
        parents = self.origin.parents
        if self.parent is not None and self.parent not in parents:
            kind = Kind.MODIFY if self.origin.kind is Kind.GENERATE else self.origin.kind
            origin = Origin(kind, (self.parent, *parents), self.origin.repeats)
            object.__setattr__(self, "origin", origin)

    @property
    def id(self) -> str:
        """A short id, unique in the experiment, of lower-case letters, digits and dashes, such as ``t00003``."""
        return self.key or f"t{self.index:05d}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which ``from_dict`` builds an equal suggestion; JSON distinguishes 1, 1.0 and true."""
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
        """The inverse of ``to_dict``.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the data has another form.
        """
        rest = dict(data)
        origin = Origin.from_dict(rest.pop("origin", Origin().to_dict()))
        basis = rest.pop("basis", None)
        suggestion = cls(**rest, origin=origin, basis=None if basis is None else Basis.from_dict(basis))
        if wrong := next(suggestion._wrong(), None):
            raise ValueError(wrong)
        return suggestion

    def _wrong(self) -> Iterator[str]:
        """Messages about fields of a wrong type."""
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
                yield f"origin: found {written_out(index)}, need the index of a trial, a whole number of at least 0"


@dataclass(frozen=True, slots=True)
class Position:
    """The position in an experiment's Workflows at which a trial was last started.

    Attributes:
        segment: number of the Workflow, from 0.
        iteration: number of the iteration, or of the lane's turn, in the segment, from 1.
        lane: number of the lane; None in barrier mode.
        first: in barrier mode, the index of the first new trial in the iteration.
        registered: when the lane recorded the trial, in seconds since the epoch by the clock of its pod.
    """

    segment: int
    iteration: int
    lane: int | None = None
    first: int = 0
    registered: float = 0.0

    @property
    def turn(self) -> tuple[int, int]:
        """Segment and iteration, which order positions in time."""
        return self.segment, self.iteration

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which ``from_dict`` builds an equal position; None and 0 are left out (but not lane 0)."""
        rest = {"lane": self.lane, "first": self.first, "registered": self.registered}
        optional = {name: value for name, value in rest.items() if value or (name == "lane" and value is not None)}
        return {"segment": self.segment, "iteration": self.iteration, **optional}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Position":
        """The inverse of ``to_dict``.

        Raises:
            ValueError, TypeError: the data has another form.
        """
        registered = float(data.get("registered", 0.0))
        return cls(**{name: int(value) for name, value in data.items() if name != "registered"}, registered=registered)


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation of one suggestion.

    Attributes:
        observations: the reduced value of each reported metric, including NaN and infinity.
        series: every reported value, by metric, in the order of the reports; empty if it was not read.
        started, ended: seconds since the epoch; None before that.
        message: why the trial failed, or another remark for people.
        run_id: id of the MLflow run that records it.
        retries: how often it was restarted after a fault of the machine.
        position: the position in a Workflow at which it was last started; None if it did not run in one.
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
    position: Position | None = None

    @property
    def id(self) -> str:
        """The id of the suggestion."""
        return self.suggestion.id

    @property
    def index(self) -> int:
        """The index of the suggestion."""
        return self.suggestion.index

    @property
    def assignment(self) -> Mapping[str, Value]:
        """The value of each active parameter, by name."""
        return self.suggestion.assignment

    @property
    def seconds(self) -> float | None:
        """The duration of the trial; None if it has not ended."""
        return None if self.started is None or self.ended is None else round(self.ended - self.started, 3)

    def _facts(self) -> dict[str, Any]:
        """The facts that a notebook shows."""
        notes = {"budget": self.suggestion.budget, "seconds": self.seconds, "message": self.message}
        return {"state": self.state, **{name: fact for name, fact in notes.items() if fact not in (None, "")}}

    def _repr_html_(self) -> str:
        known = {"parameters": self.assignment, "metrics": self.observations, "MLflow run": self.run_id}
        return facts(f"trial {self.id}", {**self._facts(), **known})

    @property
    def reported(self) -> list[Metric]:
        """All values of all series."""
        return [metric for series in self.series.values() for metric in series]

    def observed(self, metric: str) -> float | None:
        """The finite observation of a metric; None if it is absent, NaN or infinite, or does not count.

        Observations count if a trial succeeded or was stopped early. Those of segments do not count: they are measured
        with weights shared between architectures, and cannot be compared with those of separately trained networks.
        """
        if self.state not in (State.SUCCEEDED, State.EARLY_STOPPED) or self.suggestion.origin.kind is Kind.SEGMENT:
            return None
        value = self.observations.get(metric)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Learnt:
    """The state that an algorithm has learned from a history at some cost, such as the weights of a controller.

    Attributes:
        lessons: number of lessons that it has learned from.
        digest: digest of these lessons and of the experiment, 64 hexadecimal digits.
        content: the state, serialized by the algorithm.
    """

    lessons: int
    digest: str
    content: bytes


_ORDER = attrgetter("suggestion.index", "suggestion.key")


def continued(earlier: Iterable[Metric], later: Sequence[Metric]) -> list[Metric]:
    """The reports of a retried trial as if it had run once.

    For each metric, reports of earlier tries count up to the step at which the last try began, which is the first step
    or that of a checkpoint. If earlier tries reported a step twice, the later report counts.

    Args:
        earlier: the reports of earlier tries, in the order of time.
        later: the reports of the last try.
    """
    begun: dict[str, int] = {}
    for metric in later:
        begun[metric.name] = min(metric.step, begun.get(metric.name, metric.step))
    kept = {(metric.name, metric.step): metric for metric in earlier if metric.step < begun.get(metric.name, math.inf)}
    return [*kept.values(), *later]


@dataclass(frozen=True)
class History(Sequence[Trial]):
    """The trials of an experiment, sorted by index."""

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
        """The trials that succeeded or were stopped early, with a finite observation of each of these metrics."""
        return tuple(
            trial
            for trial in self.trials
            if trial.state in (State.SUCCEEDED, State.EARLY_STOPPED)
            and all(trial.observed(metric) is not None for metric in metrics)
        )

    def open(self) -> tuple[Trial, ...]:
        """The trials that are pending or running."""
        return tuple(trial for trial in self.trials if not trial.state.final)

    def counts(self) -> Counter[State]:
        """The number of trials in each state."""
        return Counter(trial.state for trial in self.trials)

    @property
    def next_index(self) -> int:
        """The index after the last trial's; 0 for an empty history."""
        return self.trials[-1].index + 1 if self.trials else 0

    def _repr_html_(self) -> str:
        rows = [
            {"trial": trial.id, **trial._facts(), "metrics": trial.observations, "parameters": trial.assignment}
            for trial in self.trials
        ]
        return table(counted(len(self), "trial"), rows)

    def replaced(self, trials: Iterable[Trial]) -> "History":
        """A copy of this history in which trials are added, or replace those with the same id."""
        return History(
            tuple(({trial.id: trial for trial in self.trials} | {trial.id: trial for trial in trials}).values())
        )
