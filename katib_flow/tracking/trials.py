"""Writes the trials of an experiment to a backend and reads them back; their files are artifacts."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from katib_flow.errors import TrackingError
from katib_flow.foreign import from_json
from katib_flow.history import History, Metric, Trial
from katib_flow.tracking import encode, source
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.encode import Entry, Point, Row
from katib_flow.tracking.records import Change, Record
from katib_flow.tracking.runs import Backend
from katib_flow.tracking.settled import Histories
from katib_flow.tracking.threads import parallel


class Trials:
    """The trials of experiments in one store."""

    def __init__(
        self, backend: Backend, artifacts: Artifacts, histories: Histories | None, address: Callable[[str], str]
    ) -> None:
        self._backend, self._artifacts, self._histories, self._address = backend, artifacts, histories, address
        self._topologies: dict[str, Mapping[str, object]] = {}  # by run id: they never change

    def history(self, record: Record, *, series: bool) -> History:
        """All trials of an experiment, as ``Store.history`` says."""
        if self._histories is not None:
            rows = self._histories.rows(record)
        else:
            rows = self._backend.rows(record.mlflow_experiment_id, record.run_id)
        return History(tuple(self._read(record, rows, series=series)))

    def trial(self, record: Record, trial_id: str, *, series: bool) -> Trial | None:
        """One trial, as ``Store.trial`` says."""
        rows = self._backend.rows(record.mlflow_experiment_id, record.run_id, [trial_id])
        return next(iter(self._read(record, rows, series=series)), None)

    def _read(self, record: Record, rows: Sequence[Row], *, series: bool) -> list[Trial]:
        trials = self._decoded(rows)
        if series:
            points = self._backend.series(record.run_id, rows)
            vectors = dict(parallel(self._vectors, [row for row in rows if "katib_flow.vectors" in row.tags]))
            trials = [_with_series(trial, points[trial.run_id], vectors.get(trial.run_id, ())) for trial in trials]
        return encode.once(trials)

    def _decoded(self, rows: Sequence[Row]) -> list[Trial]:
        missing = [row for row in rows if "katib_flow.topology" in row.tags and row.run_id not in self._topologies]
        self._topologies.update(parallel(self._topology, missing))
        return [_trial(row, self._topologies.get(row.run_id)) for row in rows]

    def _topology(self, row: Row) -> tuple[str, Mapping[str, object]]:
        file = self._artifacts.get(row.artifact_uri, "topology.json")
        with _reading(row, "topology.json"):
            return row.run_id, from_json(file.read_text(encoding="utf-8"))

    def _vectors(self, row: Row) -> tuple[str, list[Metric]]:
        names = self._artifacts.names(row.artifact_uri, "vectors/")
        files = [self._artifacts.get(row.artifact_uri, name) for name in names]
        with _reading(row, "vectors/"):
            texts = [file.read_text(encoding="utf-8") for file in files]
            return row.run_id, [metric for text in texts for metric in encode.vectors_in(text)]

    def write(self, record: Record, changes: Sequence[Change], *, lookup: bool) -> list[Trial]:
        """Record changes of trials, as ``Store.write`` says."""
        run_ids = self._known(record, changes) if lookup else {}
        recorded = frozenset(run_ids)  # their params are written again: a process that died may not have written them
        fresh = self._fresh(record, changes, run_ids)
        addresses = self._open(record, fresh, run_ids)
        trials: list[Trial] = []
        entries: list[tuple[str, str, Entry]] = []
        for change in changes:
            trial = replace(change.trial, run_id=change.trial.run_id or run_ids[change.trial.id])
            entry = None if change.trial.run_id else fresh.pop(trial.id, None)
            entry = entry or self._entry(record, trial, change.metrics, params=trial.id in recorded)
            address = addresses.get(trial.run_id) or self._sibling(record, trial.run_id)
            artifact_tags = self._keep(address, change, first=bool(entry.identity) or trial.id in recorded)
            entry = replace(entry, artifact_tags=artifact_tags) if artifact_tags else entry
            entries.append((trial.run_id, address, entry))
            trials.append(trial)
        self._backend.write(record.mlflow_experiment_id, entries)
        if addresses and self._histories is not None:
            self._histories.keep(record)
        return trials

    def _known(self, record: Record, changes: Sequence[Change]) -> dict[str, str]:
        ids = [change.trial.id for change in changes if not change.trial.run_id]
        rows = self._backend.rows(record.mlflow_experiment_id, record.run_id, ids) if ids else []
        return {trial.id: trial.run_id for trial in encode.once(_trial(row, None) for row in rows)}

    def _fresh(self, record: Record, changes: Sequence[Change], known: Mapping[str, str]) -> dict[str, Entry]:
        """Entries of the trials that no run records yet, by trial id."""
        fresh: dict[str, Entry] = {}
        for change in changes:
            trial = change.trial
            if not trial.run_id and trial.id not in known and trial.id not in fresh:
                fresh[trial.id] = self._entry(record, trial, change.metrics, new=True, params=True)
        return fresh

    def _open(self, record: Record, fresh: Mapping[str, Entry], run_ids: dict[str, str]) -> dict[str, str]:
        """Create the runs of new trials, add their ids to ``run_ids``, and return artifact addresses by run id."""
        opened = self._backend.create(record.mlflow_experiment_id, record.run_id, list(fresh.values()))
        run_ids.update({trial_id: run_id for trial_id, (run_id, _) in zip(fresh, opened, strict=True)})
        return dict(opened)

    def _entry(
        self, record: Record, trial: Trial, metrics: Sequence[Metric], *, new: bool = False, params: bool = False
    ) -> Entry:
        least_ms = self._histories.newest_ms(record) if self._histories is not None else 0
        return encode.entry(
            trial, metrics, record.run_id, new=new, params=params, common=self._common, least_ms=least_ms
        )

    @cached_property
    def _common(self) -> dict[str, str]:
        """The source tags that MLflow's own ``start_run`` sets: its UI has columns for them."""
        return {name: value[: encode.MAX_TAG] for name, value in source.default_tags().items()}

    def _sibling(self, record: Record, run_id: str) -> str:
        """The artifact address of a child run, derived from its parent's: they differ only in the run id."""
        if record.run_id in record.artifact_uri:
            return record.artifact_uri.replace(record.run_id, run_id)
        return self._address(run_id)

    def _keep(self, address: str, change: Change, *, first: bool) -> dict[str, str]:
        """Store the files of a change, and return the tags that say so."""
        artifact_tags: dict[str, str] = {}
        topology = change.trial.suggestion.topology
        if first and topology is not None:
            self._artifacts.write(address, "topology.json", json.dumps(topology))
            artifact_tags["katib_flow.topology"] = "topology.json"
        if text := encode.vectors_out(change.metrics):
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]  # written again, a change finds its own file
            self._artifacts.write(address, f"vectors/{digest}.jsonl", text)
            artifact_tags["katib_flow.vectors"] = "vectors/"
        if change.log is not None and change.log.is_file() and change.log.stat().st_size:
            self._artifacts.write(address, "log.txt", change.log)
        for name, path in change.artifacts.items():
            self._artifacts.write(address, name, path)
        return artifact_tags


def _trial(row: Row, topology: Mapping[str, object] | None) -> Trial:
    with _reading(row, "tags"):
        return encode.trial(row, topology)


def _with_series(trial: Trial, points: Iterable[Point], vectors: Iterable[Metric]) -> Trial:
    with _reading(trial, "metrics"):
        return encode.with_series(trial, points, vectors)


@contextmanager
def _reading(source: Row | Trial, part: str) -> Generator[None]:
    """Explain an error in the block that reads a part of a run, which others may have edited or damaged.

    Raises:
        TrackingError: the part cannot be read by this version.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        text = f"the {part} of its trial cannot be read by this version: {error!r}"
        raise TrackingError(f"run {source.run_id}: {text}") from error
