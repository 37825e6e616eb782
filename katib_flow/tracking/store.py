"""The store: experiments and trials in MLflow and back. Nothing else of katib-flow knows MLflow."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import tenacity

from katib_flow.errors import NotFound, TrackingError
from katib_flow.history import History, Metric, State, Trial
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import parse_spec
from katib_flow.spec.problems import did_you_mean
from katib_flow.tracking import codec
from katib_flow.tracking.bulk import Bulk
from katib_flow.tracking.connection import PATIENCE_SECONDS, artifact_location, connect, is_passing, resolve, sqlite_path, translated, user_name
from katib_flow.tracking.records import Change, Control, Record, Status

PAGE = 1000
T = TypeVar("T")


class Store:
    """One MLflow experiment of one MLflow store.

    Args:
        uri: MLflow's tracking URI; ``$MLFLOW_TRACKING_URI`` or SQLite in the current directory where it is None.
        experiment: name of the MLflow experiment that holds the runs.
        patience_seconds: how long a store that went away is waited for.

    Raises:
        TrackingError: the store does not answer, or cannot be written.
    """

    def __init__(self, uri: str | None = None, experiment: str = "katib-flow", *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.uri, self.experiment, self._patience = resolve(uri), experiment, patience_seconds
        self._client: Any = connect(self.uri)
        found = self._try(lambda: self._client.get_experiment_by_name(experiment))
        if found is None:
            self._try(lambda: self._client.create_experiment(experiment, artifact_location(self.uri)))
            found = self._try(lambda: self._client.get_experiment_by_name(experiment))
        if found.lifecycle_stage != "active":
            raise TrackingError(f"MLflow experiment {experiment!r} is deleted; restore it, or name another in tracking.experiment")
        self._experiment_id: str = found.experiment_id
        self._bulk: Bulk | None = None
        if sqlite_path(self.uri):
            self._bulk = Bulk(self._client._tracking_client.store.engine, found.artifact_location, user_name())

    def _try(self, call: Callable[[], T]) -> T:
        """Call MLflow; while it is away, again and again with growing pauses."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._patience),
            wait=tenacity.wait_exponential_jitter(initial=0.2, max=20),
            retry=tenacity.retry_if_exception(is_passing),
            reraise=True,
        )

        def once() -> T:
            with translated(self.uri):
                return call()

        return retrying(once)

    # Experiments

    def create(self, experiment: Experiment, key: str = "") -> Record:
        """Open an experiment's parent run; with a key, the one that was opened under it before."""
        if key and (found := self._search(f"tags.`{codec.KEY}` = '{key}'")):
            return self._record(found[0])
        algorithm, limits = experiment.algorithm, experiment.limits.model_dump(exclude_none=True)
        tags = {codec.KIND: "experiment", codec.NAME: experiment.name, codec.STATUS: str(Status.RUNNING), codec.NOTE: experiment.description}
        run = self._try(
            lambda: self._client.create_run(self._experiment_id, tags=tags | {codec.KEY: key, "mlflow.user": user_name()}, run_name=experiment.name)
        )
        facts = {"algorithm": algorithm.name, "seed": algorithm.seed, **{f"limits.{name}": value for name, value in limits.items()}}
        from mlflow.entities import Param

        params = [Param(name, str(value)) for name, value in facts.items()]
        self._try(lambda: self._client.log_batch(run.info.run_id, params=params))
        self._try(lambda: self._client.log_text(run.info.run_id, spec_text(experiment), "spec.yaml"))
        return self.get(run.info.run_id)

    def get(self, run_id: str) -> Record:
        return self._record(self._try(lambda: self._client.get_run(run_id)))

    def records(self) -> list[Record]:
        """Every experiment, the newest first."""
        return [self._record(run) for run in self._search(f"tags.`{codec.KIND}` = 'experiment'")]

    def find(self, name: str) -> Record:
        """The newest experiment of a name, or the one of a run id or its beginning (6 characters or more).

        Raises:
            NotFound: there is none; the message names what there is.
        """
        quoted = name.replace("'", "")
        if found := self._search(f"tags.`{codec.NAME}` = '{quoted}'", most=1):
            return self._record(found[0])
        runs = self._search(f"tags.`{codec.KIND}` = 'experiment'")
        matching = [run for run in runs if len(name) >= 6 and run.info.run_id.startswith(name)]
        if len(matching) == 1:
            return self._record(matching[0])
        names = sorted({run.data.tags[codec.NAME] for run in runs})
        known = f"there are {', '.join(names[:20])}" if names else "there is none yet"
        raise NotFound(f"{name}: no such experiment in {self.uri} ({self.experiment}){did_you_mean(name, names)}; {known}")

    def _search(self, filter_: str, most: int | None = None) -> list[Any]:
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._try(
                lambda token=token: self._client.search_runs(
                    [self._experiment_id], filter_, max_results=most or PAGE, order_by=["attributes.start_time DESC"], page_token=token
                )
            )
            runs += page
            token = page.token
            if not token or most:
                return runs

    def _record(self, run: Any) -> Record:
        tags, info = run.data.tags, run.info
        text = self.read_artifact(info.run_id, "spec.yaml").read_text(encoding="utf-8")
        return Record(
            run_id=info.run_id,
            name=tags[codec.NAME],
            experiment=parse_spec(text, f"spec.yaml of run {info.run_id}"),
            status=Status(tags.get(codec.STATUS, Status.RUNNING)),
            reason=tags.get(codec.REASON, ""),
            started=info.start_time / 1000,
            ended=info.end_time / 1000 if info.end_time else None,
            mlflow_experiment_id=info.experiment_id,
            artifact_uri=info.artifact_uri,
            key=tags.get(codec.KEY, ""),
        )

    def control(self, record: Record) -> Control:
        tags = self._try(lambda: self._client.get_run(record.run_id)).data.tags
        given = {field.name: json.loads(tags[codec.CONTROL + field.name]) for field in fields(Control) if codec.CONTROL + field.name in tags}
        return Control(**given)

    def set_control(self, record: Record, **changes: Any) -> Control:
        """Change some of the knobs; the others stay as they are."""
        control = replace(self.control(record), **changes)
        for name in changes:
            self._tag(record.run_id, codec.CONTROL + name, json.dumps(asdict(control)[name]))
        return control

    def _tag(self, run_id: str, name: str, value: str) -> None:
        self._try(lambda: self._client.set_tag(run_id, name, value))

    def summarise(self, record: Record, history: History, status: Status | None = None, reason: str = "") -> Record:
        """Bring the parent run up to date: best values, counts, description, and its status where it is given."""
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import RunTag

        now = int(time.time() * 1000)
        metrics = [MlflowMetric(name, value, int((ended or 0) * 1000) or now, step) for name, value, ended, step in _best_curve(record.experiment, history)]
        counts = history.counts()
        metrics += [MlflowMetric(f"trials/{state}", counts[state], now, len(history)) for state in State if counts[state]]
        tags = {codec.NOTE: describe(record, history, self.uri)}
        if status:
            tags |= {codec.STATUS: str(status), codec.REASON: reason[:2000]}
        entities = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, max(len(metrics), 1), PAGE - len(entities)):
            batch = metrics[start : start + PAGE - len(entities)]
            self._try(lambda batch=batch: self._client.log_batch(record.run_id, metrics=batch, tags=entities))
        if status:
            ended = {Status.FAILED: "FAILED", Status.SUCCEEDED: "FINISHED", Status.RUNNING: "RUNNING", Status.PAUSED: "SCHEDULED"}
            final = ended.get(status, "KILLED")
            if final in ("FAILED", "FINISHED", "KILLED"):
                self._try(lambda: self._client.set_terminated(record.run_id, final))
            else:
                self._try(lambda: self._client.update_run(record.run_id, status=final))
        return replace(record, status=status or record.status, reason=reason or record.reason)

    # Trials

    def history(self, record: Record, *, series: bool = False) -> History:
        """Every trial; with its metric series (a request for each trial and metric) where they are asked for."""
        if self._bulk:
            bulk = self._bulk
            trials = self._try(lambda: bulk.trials(record))
        else:
            trials = [codec.trial_of(run.info.run_id, run.data.tags) for run in self._search(f"tags.`{codec.PARENT}` = '{record.run_id}'")]
        return History(tuple(self._with_series(trial) if series else trial for trial in trials))

    def trial(self, record: Record, trial_id: str) -> Trial | None:
        runs = self._search(f"tags.`{codec.PARENT}` = '{record.run_id}' AND tags.`{codec.TRIAL_ID}` = '{trial_id}'", most=1)
        return codec.trial_of(runs[0].info.run_id, runs[0].data.tags) if runs else None

    def _with_series(self, trial: Trial) -> Trial:
        series: dict[str, tuple[Metric, ...]] = {}
        for name in trial.observations:
            points = self._try(lambda name=name: self._client.get_metric_history(trial.run_id, codec.legal(name)))
            ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
            series[name] = tuple(Metric(name, point.value, point.step, point.timestamp) for point in ordered)
        for path in self._try(lambda: self._client.list_artifacts(trial.run_id, "vectors")):
            found = json.loads(self.read_artifact(trial.run_id, path.path).read_text())
            metric = Metric(found["name"], tuple(found["value"]), found["step"], found["timestamp_ms"])
            series[metric.name] = (*series.get(metric.name, ()), metric)
        return replace(trial, series=series)

    def write(self, record: Record, changes: Sequence[Change], *, lookup: bool = False) -> list[Trial]:
        """Record changes of trials.

        Args:
            lookup: ask first whether a trial without a run id is recorded already, so that a step may run twice.

        Returns:
            The trials with their run ids, in the same order.
        """
        run_ids = [change.trial.run_id or (self._known(record, change) if lookup else "") for change in changes]
        if self._bulk:
            bulk = self._bulk
            run_ids = self._try(lambda: bulk.write(record, changes, run_ids))
        else:
            run_ids = [self._write_one(record, change, run_id) for change, run_id in zip(changes, run_ids, strict=True)]
        for change, run_id in zip(changes, run_ids, strict=True):
            for path, source in _files(change):
                self._keep(run_id, path, source)
        return [replace(change.trial, run_id=run_id) for change, run_id in zip(changes, run_ids, strict=True)]

    def _known(self, record: Record, change: Change) -> str:
        found = self.trial(record, change.trial.id)
        return found.run_id if found else ""

    def _write_one(self, record: Record, change: Change, run_id: str) -> str:
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param, RunTag

        trial, new = change.trial, not run_id
        tags = codec.trial_tags(trial, record.run_id, new=new)
        if new:
            started = int((trial.started or time.time()) * 1000)
            every = tags | {"mlflow.user": user_name()}
            run_id = self._try(lambda: self._client.create_run(record.mlflow_experiment_id, started, every, trial.id)).info.run_id
        params = [Param(name, text) for name, text in codec.trial_params(trial).items()] if new else []
        entities = [] if new else [RunTag(name, value) for name, value in tags.items()]
        metrics = [MlflowMetric(*point) for point in codec.numbers(change.metrics)]
        size = PAGE - 150 - len(entities)
        for start in range(0, max(len(metrics), 1), size):
            batch = metrics[start : start + size]
            first = {"params": params[:100], "tags": entities} if start == 0 else {}
            self._try(lambda batch=batch, first=first: self._client.log_batch(run_id, metrics=batch, **first))
        if trial.state.final:
            ended = int((trial.ended or time.time()) * 1000)
            self._try(lambda: self._client.set_terminated(run_id, codec.run_status(trial.state), ended))
        elif not new or trial.state is State.PENDING:
            self._try(lambda: self._client.update_run(run_id, status=codec.run_status(trial.state)))
        return run_id

    # Artifacts

    def _keep(self, run_id: str, path: str, source: Path | str) -> None:
        """Store a file, or text, under a path among a run's artifacts."""
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / Path(path).name
            if isinstance(source, str):
                local.write_text(source, encoding="utf-8")
            else:
                local.symlink_to(source.absolute())
            folder = str(Path(path).parent)
            self._try(lambda: self._artifacts(run_id).log_artifact(str(local), None if folder == "." else folder))

    def _artifacts(self, run_id: str) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self._bulk.artifact_uri(run_id) if self._bulk else self._client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(uri, self.uri)

    def log_text(self, record: Record, text: str, path: str) -> None:
        """Keep a text (a report, say) among the experiment's artifacts."""
        self._try(lambda: self._client.log_text(record.run_id, text, path))

    def read_artifact(self, run_id: str, path: str) -> Path:
        """A local copy of an artifact, or the artifact itself where it lies on this machine."""
        if self._bulk_path(run_id, path).is_file():
            return self._bulk_path(run_id, path)
        folder = tempfile.mkdtemp(prefix="katib-flow-")
        return Path(self._try(lambda: self._client.download_artifacts(run_id, path, folder)))

    def _bulk_path(self, run_id: str, path: str) -> Path:
        location = artifact_location(self.uri)
        return Path(location.removeprefix("file://") if location else "/nonexistent") / run_id / "artifacts" / path


def _files(change: Change) -> Iterator[tuple[str, Path | str]]:
    if change.log and change.log.exists() and change.log.stat().st_size:
        yield "log.txt", change.log
    yield from change.artifacts.items()
    yield from codec.vectors(change.metrics).items()


def _best_curve(experiment: Experiment, history: History) -> Iterator[tuple[str, float, float | None, int]]:
    """Each improvement of each objective: (metric, value, when, trial index)."""
    for objective in experiment.objective:
        best: float | None = None
        for trial in history:
            value = trial.observed(objective.metric)
            if value is not None and (best is None or objective.loss(value) < objective.loss(best)):
                best = value
                yield f"best/{codec.legal(objective.metric)}", value, trial.ended, trial.index


def describe(record: Record, history: History, uri: str) -> str:
    """The parent run's description, in Markdown: the best trial, and how to get it again."""
    experiment = record.experiment
    counts = ", ".join(f"{count} {state}" for state, count in sorted(history.counts().items())) or "no trial yet"
    lines = [experiment.description, f"**{experiment.name}**: {counts}; algorithm {experiment.algorithm.name}, seed {experiment.algorithm.seed}."]
    if best := experiment.best(history):
        values = ", ".join(f"{name} **{value:.6g}**" for name, value in best.observations.items() if name in experiment.metric_names)
        lines += [f"Best trial `{best.id}`: {values}, with", "```json", json.dumps(dict(best.assignment), indent=2)[:4000], "```"]
    lines += [
        "Run it again: save the artifact `spec.yaml`, then `katib-flow run spec.yaml`; the seed makes the same suggestions.",
        f"Go on with it: `katib-flow resume {record.name} --max-trials N`.",
    ]
    return "\n\n".join(line for line in lines if line).replace("```json\n\n", "```json\n").replace("\n\n```\n", "\n```\n")


def spec_text(experiment: Experiment) -> str:
    """The spec as YAML whose every text value is quoted."""
    import yaml

    return yaml.safe_dump(experiment.to_dict(), sort_keys=False, allow_unicode=True, default_style=None)
