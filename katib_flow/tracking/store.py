"""The experiments in an MLflow store. One object serves several threads."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path

from katib_flow.errors import NotFound, TrackingError
from katib_flow.history import History, Metric, Trial
from katib_flow.spec import Experiment, dump_yaml
from katib_flow.tracking import source, summary
from katib_flow.tracking.api import Run, RunFilter
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.checkpoints import Checkpoints
from katib_flow.tracking.commands import mlflow_command
from katib_flow.tracking.connect import Connection, alone, artifact_root, located
from katib_flow.tracking.encode import Point, as_one_try
from katib_flow.tracking.faults import Faults, error_code, shown
from katib_flow.tracking.learnt import Learnings
from katib_flow.tracking.lease import Holding, Lease
from katib_flow.tracking.names import MAX_TAG, json_tags, readable
from katib_flow.tracking.parent import WHOLE, checked, control_of, key_hash, params_of, record_of, without_password
from katib_flow.tracking.records import Change, Control, Record, Status
from katib_flow.tracking.runs import ApiBackend, Backend
from katib_flow.tracking.settled import Histories
from katib_flow.tracking.sqlite import SqliteApi, SqliteBackend
from katib_flow.tracking.trials import Trials
from katib_flow.tracking.views import view_tags
from katib_flow.wording import did_you_mean

PATIENCE_SECONDS = 300.0
SEGMENT, GIVEN = "katib_flow.segment", "katib_flow.given"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # makes MLflow's UI show pages for training, not agents
_RUN_STATUS = {
    Status.RUNNING: "RUNNING",
    Status.PAUSED: "RUNNING",
    Status.SUCCEEDED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.STOPPED: "KILLED",
    Status.INTERRUPTED: "KILLED",
}
FIRST_CONTACT_SECONDS = 10.0


class Store:
    """The experiments in one MLflow experiment of one MLflow store.

    Attributes:
        checkpoints: the checkpoints of running trials.
        learnings: the learnt states of algorithms.

    Args:
        uri: the address of the store; None for MLFLOW_TRACKING_URI or, without that, ``katib_flow.db`` in the working
            directory. The artifacts of a SQLite store are beside it; a server chooses their location.
        experiment: the name of the MLflow experiment, which is created with the first record.
        patience_seconds: how long a call is repeated while the server is faulty or the database is locked.
        contact_seconds: how long the first contact may take; ``FIRST_CONTACT_SECONDS`` by default.

    Raises:
        TrackingError: the store does not answer, or cannot be written.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "katib-flow",
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        contact_seconds: float | None = None,
        thin: bool = True,  # False: MLflow's own client for every store, for tests that compare the two
    ) -> None:
        self.uri, self._path = located(uri)
        self.experiment = experiment
        self._faults = Faults(self.uri, patience_seconds)
        connection = Connection(self.uri, self._path, self._faults, thin=thin)
        self._api = connection.open(FIRST_CONTACT_SECONDS if contact_seconds is None else contact_seconds)
        self._runs = ApiBackend(self._api, self._faults)
        self._backend: Backend = self._runs
        if isinstance(self._api, SqliteApi):
            self._backend = SqliteBackend(self._api, self._faults)
        self._artifacts = Artifacts(self.uri, self._faults, connection.server)
        histories = Histories(self._runs, self._artifacts) if self._backend is self._runs else None
        self._trials = Trials(self._backend, self._artifacts, histories, self._address)
        self.checkpoints = Checkpoints(self._runs, self._artifacts, self._run)
        self.learnings = Learnings(self._artifacts)
        self._experiment_id = ""
        self._logged: dict[str, set[Point]] = {}  # points of the best values, by parent run

    @property
    def away_since(self) -> float | None:
        """Since when the store has not answered, in seconds since the epoch; None while it answers."""
        return self._faults.away_since

    def patience(self, seconds: float) -> AbstractContextManager[None]:
        """Replace ``patience_seconds`` for the calls of this thread in the block."""
        return self._faults.patience(seconds)

    # experiments

    def create(self, experiment: Experiment, key: str = "") -> Record:
        """Create the parent run of an experiment, or return the existing one with the same key.

        If the run exists and is complete, this costs one search.

        Args:
            key: an idempotency key; "" always creates a run.
        """
        with alone(self._path):  # processes that create a run at the same time agree on one
            run = (self._keyed(key) if key else None) or self._open(experiment, key)
        record = record_of(run)
        if not run.params:
            try:
                self._complete(record)
            except TrackingError:  # another process may have created a second run and deleted this one
                winner = self._keyed(key) if key else None
                if winner is None or winner.run_id == record.run_id:
                    raise
                record = record_of(winner)
                self._complete(record)
        return record

    def _complete(self, record: Record) -> None:
        """Write the rest of a run, its params last. Repeating this does no harm."""
        self.log_text(record, dump_yaml(record.experiment.to_dict()), "spec.yaml")
        view = view_tags(record.run_id, record.experiment)
        self._faults.run(lambda: self._api.tag_experiment(record.mlflow_experiment_id, view))
        self._runs.log(record.run_id, params_of(record.experiment), {}, ())

    def keyed(self, key: str) -> Record | None:
        """The experiment that was created with a key; None if there is no such experiment."""
        return record_of(run) if (run := self._keyed(key)) else None

    def _keyed(self, key: str) -> Run | None:
        """The run of a key. If competing pods have created two: the complete one, otherwise the older one."""
        runs = self._search({"katib_flow.key_hash": key_hash(key)})
        return min(runs, key=lambda run: (not run.params, run.start_ms, run.run_id), default=None)

    def _open(self, experiment: Experiment, key: str) -> Run:
        if experiment.warm_start:  # a name may mean another experiment later, above all this experiment's own name
            run_ids = tuple(self.find(name).run_id for name in experiment.warm_start)
            experiment = experiment.model_copy(update={"warm_start": run_ids})
        experiment = without_password(experiment)
        experiment_id, unique = self._mlflow_experiment(create=True), key or uuid.uuid4().hex
        tags = {
            **{name: readable(value, MAX_TAG) for name, value in source.tags().items()},
            "katib_flow.kind": "experiment",
            "katib_flow.name": experiment.name,
            "katib_flow.status": str(Status.RUNNING),
            "katib_flow.reason": "",
            **({"katib_flow.key": key} if key else {}),
            "katib_flow.key_hash": key_hash(unique),
            **json_tags("katib_flow.spec", experiment.to_dict()),
        }

        def look_up() -> tuple[str, str] | None:
            return (run.run_id, run.artifact_uri) if (run := self._keyed(unique)) else None

        now_ms = int(time.time() * 1000)
        run_id, _ = self._runs.open_run(experiment_id, now_ms, tags, experiment.name, look_up)
        run = self._keyed(unique) or self._run(run_id)
        if run.run_id != run_id:
            self._faults.run(lambda: self._api.delete_run(run_id))  # another process was faster
        return run

    def get(self, run_id: str) -> Record:
        """The experiment that a parent run records.

        Raises:
            NotFound: there is no such run.
            TrackingError: the run records no experiment.
        """
        return record_of(self._run(run_id))

    def _run(self, run_id: str) -> Run:
        try:
            return self._faults.run(lambda: self._api.run(run_id))
        except TrackingError as error:
            if error_code(error) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise NotFound(f"{run_id}: no such run in {self._shown}") from error
            raise

    def _address(self, run_id: str) -> str:
        return self._run(run_id).artifact_uri

    @property
    def _shown(self) -> str:
        return str(self._path) if self._path else shown(self.uri)

    def find(self, name: str) -> Record:
        """The newest experiment of a name, or the one whose run id begins with it (6 characters or more).

        Raises:
            NotFound: there is no such experiment, or several run ids begin with the name.
        """
        if "'" not in name and (named := next(self._records({"katib_flow.name": name}), None)):
            return named
        records = self.records()
        fitting = [record for record in records if len(name) >= 6 and record.run_id.startswith(name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise NotFound(
                f"{name}: the ids of {len(fitting)} runs begin like this; give more characters: "
                + ", ".join(record.run_id for record in fitting)
            )
        names = list(dict.fromkeys(record.name for record in records))
        known = did_you_mean(name, names) or (
            f"; the store has {', '.join(names[:10])}" if names else "; the store has no experiments"
        )
        raise NotFound(f"{name}: no such experiment in {self._shown}{known}")

    def newest(self) -> Record | None:
        """The newest experiment; None if the store has no experiments."""
        return next(self._records({"katib_flow.kind": "experiment"}), None)

    def records(self) -> list[Record]:
        """All experiments, the newest first, except those with a spec that this version cannot read."""
        return list(self._records({"katib_flow.kind": "experiment"}))

    def _records(self, tags: Mapping[str, str]) -> Iterator[Record]:
        for run in self._search(tags, newest_first=True):
            with suppress(TrackingError):
                yield record_of(run)

    def _search(self, tags: Mapping[str, str], *, newest_first: bool = False) -> Iterator[Run]:
        if experiment_id := self._mlflow_experiment(create=False):
            runs = self._runs.search(experiment_id, RunFilter(tags=tags), newest_first=newest_first)
            yield from (run for run in runs if run.tags.get("katib_flow.kind") == "experiment")

    def _mlflow_experiment(self, *, create: bool) -> str:
        """The id of the MLflow experiment; "" if it does not exist and ``create`` is False."""
        if not self._experiment_id:
            self._experiment_id = self._faults.run(lambda: self._find_or_make(create=create))
        return self._experiment_id

    def _find_or_make(self, *, create: bool) -> str:
        group = self._api.experiment(self.experiment)
        if group is None and create:
            root = None if self._path is None else artifact_root(self._path).as_uri()
            try:
                return self._api.create_experiment(self.experiment, root, KIND)
            except Exception as error:
                if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                    raise
                group = self._api.experiment(self.experiment)  # another process was faster
                if group is None:
                    what = f"MLflow says that the experiment {self.experiment!r} exists, but does not find it"
                    why = "which happens if a file was replaced while a process had it open; try again in a new process"
                    raise TrackingError(f"{self._shown}: {what}, {why}") from error
        if group is not None and not group.active:
            command = f"{mlflow_command(self.uri)} experiments restore -x {group.experiment_id}"
            need = f"restore it ({command}), or set another tracking.experiment"
            raise TrackingError(f"{self._shown}: the MLflow experiment {self.experiment!r} is deleted: {need}")
        return "" if group is None else group.experiment_id

    # trials

    def history(self, record: Record, *, series: bool = False) -> History:
        """All trials of an experiment; with ``series``, including all values of their metrics."""
        return self._trials.history(record, series=series)

    def earlier(self, experiment: Experiment) -> History:
        """The trials of the experiments named in ``warm_start``.

        Raises:
            NotFound: one of the experiments does not exist any more.
        """
        records = [self.find(name) for name in experiment.warm_start]
        return History(tuple(trial for record in records for trial in self.history(record)))

    def trial(self, record: Record, trial_id: str, *, series: bool = False) -> Trial | None:
        """One trial, with ``series`` including all values of its metrics; None if it is not recorded."""
        return self._trials.trial(record, trial_id, series=series)

    def reported(self, trials: Sequence[Trial], names: Sequence[str]) -> dict[str, list[Metric]]:
        """All values of some scalar metrics in the runs of trials, including those that other programs have logged.

        It costs one call per trial and metric.

        Returns:
            By trial id, ordered by time and then step.
        """
        series = iter(self._runs.points([(trial.run_id, name) for trial in trials for name in names]))
        return {
            trial.id: sorted((metric for _ in names for metric in next(series)), key=lambda m: (m.timestamp_ms, m.step))
            for trial in trials
        }

    def curves(self, trials: Sequence[Trial], names: Sequence[str]) -> dict[str, list[Metric]]:
        """As ``reported``, with each trial as if it had been run in a single attempt."""
        reported = self.reported(trials, names)
        return {trial.id: as_one_try(trial, reported[trial.id]) for trial in trials}

    def write(self, record: Record, changes: Sequence[Change], *, lookup: bool = False) -> list[Trial]:
        """Record changes of trials, and return the trials with their run ids, in the same order.

        A trial without a run id gets a new run, unless ``lookup`` is set and its id is recorded already. Writing the
        same change twice has the same result as writing it once.
        """
        return self._trials.write(record, changes, lookup=lookup)

    def reserve(self, record: Record, trial_id: str) -> str:
        """The run id of a trial that is not recorded yet; "" if the store chooses it later."""
        return self._backend.reserve(record.run_id, trial_id)

    # the experiment as a whole

    def summarise(self, record: Record, history: History, status: Status | None = None, reason: str = "") -> Record:
        """Update the parent run from a history, and set its status if one is given; a final one ends the run."""
        run = self._run(record.run_id)
        before = record_of(run)
        status, reason = (before.status, before.reason) if status is None else (status, reason)
        now_ms = int(time.time() * 1000)
        best = summary.best_points(record.experiment, history, closing=status.final)
        fresh = [point for point in best if point not in self._logged.get(record.run_id, ())]
        top = record.experiment.best(history)
        tags = {
            "katib_flow.reason": readable(reason, MAX_TAG),
            "mlflow.note.content": summary.description(record, history, status, reason),
            **({"katib_flow.best_trial": top.id} if top else {}),
            "katib_flow.status": str(status),  # last: it means that all the rest is written
        }
        changed = {key: value for key, value in tags.items() if run.tags.get(key) != value}
        if status is not before.status or run.status != _RUN_STATUS[status]:
            self._runs.set_status(record.run_id, _RUN_STATUS[status], now_ms if status.final else None)
        self._runs.log(record.run_id, {}, changed, [*fresh, *summary.counts(history, run.metrics, now_ms)])
        self._logged.setdefault(record.run_id, set()).update(fresh)
        return self.get(record.run_id)

    def control(self, record: Record) -> Control:
        """Read the user's requests; cheap enough to do every second."""
        return control_of(self._backend.tags(record.run_id))

    def set_control(self, record: Record, **changes: bool | float | None) -> Control:
        """Change some of the user's requests; ``changes`` are fields of ``Control``."""
        control = Control(**{**asdict(self.control(record)), **changes})  # type: ignore[arg-type]
        tags = {f"katib_flow.{name}": json.dumps(value) for name, value in asdict(control).items() if name in changes}
        self._runs.log(record.run_id, {}, tags, ())
        return control

    def go_on(self, record: Record, *, max_trials: int | None = None, timeout: float | None = None) -> Control:
        """Withdraw the requests to stop or pause, so that an experiment can continue.

        Args:
            max_trials, timeout: new limits, in trials and seconds; None keeps the earlier requests.
        """
        asked = {"max_trials": max_trials, "timeout": timeout}
        changes = {name: value for name, value in asked.items() if value is not None}
        before, now = self.control(record), time.time()
        spent = before.running_seconds(record, record.ended or self._last_seen(record, before))
        return self.set_control(record, stop=False, pause=False, spent=spent, resumed=now, **changes)

    def _last_seen(self, record: Record, control: Control) -> float:
        """When an experiment without an end last started or ended a trial, in seconds since the epoch."""
        times = [time for trial in self.history(record) for time in (trial.started, trial.ended) if time]
        return max([control.resumed or record.started, *times])

    def lease(self, record: Record, say: Callable[[str], None], own: Lease | None = None) -> Holding:
        """The lease of an experiment, which is not taken yet.

        Args:
            say: called with messages for the user.
            own: the owner; this process by default.
        """
        return Holding(
            read=lambda: self._backend.tags(record.run_id),
            write=lambda tags: self._runs.log(record.run_id, {}, tags, ()),
            name=record.name,
            say=say,
            own=own,
        )

    def segment(self, record: Record) -> int:
        """The number of the newest Workflow of an experiment, from 0."""
        return checked(SEGMENT, self._backend.tags(record.run_id).get(SEGMENT, "0"), *WHOLE)

    def set_segment(self, record: Record, segment: int) -> None:
        """Set the number of the newest Workflow; earlier ones must leave the experiment alone."""
        self._runs.log(record.run_id, {}, {SEGMENT: str(segment)}, ())

    def given(self, record: Record) -> tuple[int, int]:
        """The newest iteration with all of its trials recorded: the numbers of its Workflow and of the iteration."""
        segment, _, iteration = self._backend.tags(record.run_id).get(GIVEN, "0 0").partition(" ")
        return int(segment), int(iteration)

    def set_given(self, record: Record, segment: int, iteration: int) -> None:
        """Mark an iteration as fully recorded; it gets no more trials."""
        self._runs.log(record.run_id, {}, {GIVEN: f"{segment} {iteration}"}, ())

    def log_artifact(self, record: Record, path: Path, name: str = "") -> None:
        """Store a file or directory with the parent run."""
        self._artifacts.write(record.artifact_uri, name or path.name, path)

    def log_text(self, record: Record, text: str, name: str) -> None:
        """Store a text as a file with the parent run."""
        self._artifacts.write(record.artifact_uri, name, text)

    def read_artifact(self, run_id: str, path: str) -> Path:
        """A local path to an artifact of a run; do not change it. A download is deleted when the process ends.

        Raises:
            NotFound: there is no such run, or it has no such artifact.
        """
        return self._artifacts.get(self._address(run_id), path)
