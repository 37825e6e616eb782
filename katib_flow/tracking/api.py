"""What we need of MLflow: a dozen operations, carried out by its REST API, in its SQLite file, or by its client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from katib_flow.errors import TrackingError
from katib_flow.tracking.encode import Point


@dataclass(frozen=True, slots=True)
class Run:
    """A run of MLflow's.

    Attributes:
        status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
        start_ms, end_ms: milliseconds since the epoch.
        metrics: the latest value of each.
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
    """A part of a list of runs, with the token that asks for the next part; None where this is the last."""

    runs: Sequence[Run]
    token: str | None


class Group(NamedTuple):
    """An experiment of MLflow's, which holds runs."""

    experiment_id: str
    active: bool


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Conditions that a run must meet, all of them.

    Attributes:
        tags: tag -> its value.
        prefixes: tag -> what its value begins with; more may be found, as SQL's LIKE takes ``_`` for any character.
        since_ms, before_ms: bounds of the start, the second one excluded.
        run_ids: the runs that are asked for; None for any.
        deleted: look among the deleted runs, not among the others.
    """

    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    prefixes: Mapping[str, str] = field(default_factory=dict[str, str])
    since_ms: int | None = None
    before_ms: int | None = None
    run_ids: tuple[str, ...] | None = None
    deleted: bool = False

    def text(self) -> str:
        """The filter in MLflow's language.

        Raises:
            TrackingError: a value cannot be written in it.
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
    """One MLflow store. Every call may fail with any error; ``Faults`` says what it means and whether to try again."""

    def experiment(self, name: str) -> Group | None: ...

    def create_experiment(self, name: str, artifact_root: str | None, tags: Mapping[str, str]) -> str:
        """Make an experiment; its id."""
        ...

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None: ...

    def create_run(self, experiment_id: str, started_ms: int, tags: Mapping[str, str], name: str) -> Run:
        """Open a run, with a single request: a second one could open a second run."""
        ...

    def run(self, run_id: str) -> Run: ...

    def search(
        self,
        experiment_id: str,
        where: RunFilter,
        *,
        newest_first: bool = False,
        limit: int = 1000,
        token: str | None = None,
    ) -> Page:
        """Runs in the order of their start."""
        ...

    def log_batch(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]
    ) -> None: ...

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None: ...

    def delete_run(self, run_id: str) -> None: ...

    def metric_history(self, run_id: str, key: str) -> list[Point]:
        """Every value of a metric, in the order they came."""
        ...


class ApiError(Exception):
    """MLflow, or what stands before it, refuses a request.

    Attributes:
        status: of HTTP; None where no server was asked.
        error_code: MLflow's name of the error, such as RESOURCE_DOES_NOT_EXIST, or "".
    """

    def __init__(self, message: str, *, status: int | None = None, error_code: str = "") -> None:
        super().__init__(message)
        self.status, self.error_code = status, error_code


def quoted(text: str) -> str:
    """A text as a filter of MLflow has it, which knows no escapes.

    Raises:
        TrackingError: it holds both kinds of quotes.
    """
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise TrackingError(f"{text!r}: found both kinds of quotes, need at most one, because MLflow cannot search for it")


def order(*, newest_first: bool) -> str:
    """The order of a search, in MLflow's language."""
    return f"attributes.start_time {'DESC' if newest_first else 'ASC'}"
