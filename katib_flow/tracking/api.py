"""The dozen operations of MLflow that we use, through its REST API, in its SQLite file, or through its client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from katib_flow.errors import TrackingError
from katib_flow.tracking.encode import Point


@dataclass(frozen=True, slots=True)
class Run:
    """A run in MLflow.

    Attributes:
        status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
        start_ms, end_ms: milliseconds since the epoch.
        metrics: the latest value of each metric.
    """

    run_id: str
    experiment_id: str
    status: str
    start_ms: int
    end_ms: int | None
    artifact_uri: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])


class Page(NamedTuple):
    """A page of a list of runs, with the token of the next page; None on the last page."""

    runs: Sequence[Run]
    token: str | None


class Group(NamedTuple):
    """An MLflow experiment, which holds runs."""

    experiment_id: str
    active: bool


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Conditions on runs, all of which must hold.

    Attributes:
        tags: tag -> value.
        prefixes: tag -> prefix of its value. A search may return more, because ``_`` matches any character in a LIKE.
        since_ms, before_ms: bounds of the start time; ``before_ms`` is exclusive.
        run_ids: the runs to search; None for all.
        deleted: search the deleted runs instead of the active ones.
    """

    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    prefixes: Mapping[str, str] = field(default_factory=dict[str, str])
    since_ms: int | None = None
    before_ms: int | None = None
    run_ids: tuple[str, ...] | None = None
    deleted: bool = False

    def text(self) -> str:
        """The filter in MLflow's search syntax.

        Raises:
            TrackingError: a value cannot be quoted in it.
        """
        conditions = [f"tags.`{tag}` = {quoted(value)}" for tag, value in self.tags.items()]
        conditions += [f"tags.`{tag}` LIKE {quoted(f'{prefix}%')}" for tag, prefix in self.prefixes.items()]
        if self.since_ms is not None:
            conditions.append(f"attributes.start_time >= {self.since_ms}")
        if self.before_ms is not None:
            conditions.append(f"attributes.start_time < {self.before_ms}")
        if self.run_ids is not None:
            conditions.append(f"attributes.run_id IN ({', '.join(map(quoted, self.run_ids))})")
        return " AND ".join(conditions)


class Api(Protocol):
    """One MLflow store. A call may fail with any error; ``Faults`` explains it and decides whether to try again."""

    def experiment(self, name: str) -> Group | None:
        """The MLflow experiment of a name; None if it does not exist."""
        ...

    def create_experiment(self, name: str, artifact_root: str | None, tags: Mapping[str, str]) -> str:
        """Create an experiment, and return its id."""
        ...

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an MLflow experiment."""
        ...

    def create_run(self, experiment_id: str, started_ms: int, tags: Mapping[str, str], name: str) -> Run:
        """Create a run, with a single request: a second request could create a second run."""
        ...

    def run(self, run_id: str) -> Run:
        """One run."""
        ...

    def search(
        self,
        experiment_id: str,
        where: RunFilter,
        *,
        newest_first: bool = False,
        limit: int = 1000,
        token: str | None = None,
    ) -> Page:
        """Return a page of the matching runs, in the order of their start."""
        ...

    def log_batch(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]
    ) -> None:
        """Log params, tags and metrics of a run; the server limits the size of one call."""
        ...

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        """Set the status of a run, and its end in milliseconds since the epoch, if given."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        ...

    def metric_history(self, run_id: str, key: str) -> list[Point]:
        """All values of a metric, in the order in which they were logged."""
        ...


class ApiError(Exception):
    """MLflow, or a proxy before it, refused a request.

    Attributes:
        status: the HTTP status; None if no server was involved.
        error_code: MLflow's name for the error, such as RESOURCE_DOES_NOT_EXIST, or "".
    """

    def __init__(self, message: str, *, status: int | None = None, error_code: str = "") -> None:
        super().__init__(message)
        self.status, self.error_code = status, error_code


def quoted(text: str) -> str:
    """A text in quotes, for MLflow's search syntax, which has no escapes.

    Raises:
        TrackingError: the text contains both kinds of quotes.
    """
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    need = "at most one kind, because MLflow cannot search for both"
    raise TrackingError(f"{text!r}: found both kinds of quotes, need {need}")


def order(*, newest_first: bool) -> str:
    """The order of a search by start time, in MLflow's search syntax."""
    return f"attributes.start_time {'DESC' if newest_first else 'ASC'}"
