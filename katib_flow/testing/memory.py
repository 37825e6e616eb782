"""A store of experiments in memory: the methods of ``katib_flow.tracking.Store`` that the steps use.

It replaces MLflow in tests with thousands of trials; all other tests use a real store.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from katib_flow.history import History, Learnt, Metric, Trial
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Change, Control, Record, Status
from katib_flow.tracking.lease import Holding, Lease


@dataclass
class MemoryLearnings:
    """What algorithms have learnt, by experiment; only the newest is kept."""

    _newest: dict[str, Learnt] = field(default_factory=dict[str, Learnt])

    def find(self, record: Record) -> Iterator[Learnt]:
        """What the algorithm of an experiment has learnt, if anything."""
        if record.key in self._newest:
            yield self._newest[record.key]

    def keep(self, record: Record, learnt: Learnt | None) -> None:
        """Store what the algorithm of an experiment has learnt; None changes nothing."""
        if learnt is not None:
            self._newest[record.key] = learnt


@dataclass
class MemoryStore:
    """Experiments by key, with the methods of ``katib_flow.tracking.Store``.

    Attributes:
        learnings: what algorithms have learnt.
        on_write: called after each write; may raise, as if the process died there.
        finals: how often each trial went into a final state, by the experiment's key and the trial's id.
        texts: the texts that were logged, by the experiment's key and the text's name.
    """

    learnings: MemoryLearnings = field(default_factory=MemoryLearnings)
    on_write: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    finals: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    texts: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    _records: dict[str, Record] = field(default_factory=dict[str, Record])
    _trials: dict[str, dict[str, Trial]] = field(default_factory=dict[str, dict[str, Trial]])
    _histories: dict[str, History] = field(default_factory=dict[str, History])
    _controls: dict[str, Control] = field(default_factory=dict[str, Control])
    _segments: dict[str, int] = field(default_factory=dict[str, int])
    _given: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    _tags: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def create(self, experiment: Experiment, key: str = "") -> Record:
        """The record of an experiment, created if its key is new."""
        if key not in self._records:
            self._records[key] = Record(
                run_id=f"run-{key}",
                name=experiment.name,
                experiment=experiment,
                status=Status.RUNNING,
                reason="",
                started=time.time(),
                ended=None,
                artifact_uri="",
                mlflow_experiment_id="1",
                key=key,
            )
            self._trials[key] = {}
        return self._records[key]

    def keyed(self, key: str) -> Record | None:
        """The record of the experiment with a key, if it exists."""
        return self._records.get(key)

    def lease(self, record: Record, say: Callable[[str], None], own: Lease | None = None) -> Holding:
        """The lease of an experiment."""
        tags = self._tags.setdefault(record.key, {})
        return Holding(read=lambda: tags, write=tags.update, name=record.name, say=say, own=own)

    def history(self, record: Record, *, series: bool = False) -> History:
        """All trials of an experiment; there are never series."""
        if record.key not in self._histories:
            self._histories[record.key] = History(tuple(self._trials[record.key].values()))
        return self._histories[record.key]

    def earlier(self, experiment: Experiment) -> History:
        """The trials for a warm start: always empty."""
        return History()

    def trial(self, record: Record, trial_id: str) -> Trial | None:
        """The trial of an id, if it exists."""
        return self._trials[record.key].get(trial_id)

    def write(self, record: Record, changes: Sequence[Change], *, lookup: bool = False) -> list[Trial]:
        """Store trials, and return them with their run ids."""
        trials = self._trials[record.key]
        written: list[Trial] = []
        for change in changes:
            trial = replace(change.trial, run_id=f"run-{change.trial.id}")
            if trial.state.final and not (trial.id in trials and trials[trial.id].state.final):
                self.finals[record.key, trial.id] = self.finals.get((record.key, trial.id), 0) + 1
            trials[trial.id] = trial
            written.append(trial)
        self._histories.pop(record.key, None)
        self._written()
        return written

    def summarise(self, record: Record, history: History, status: Status | None = None, reason: str = "") -> Record:
        """Set the status of an experiment, if one is given, and return its record."""
        if status is not None:
            self._records[record.key] = replace(self._records[record.key], status=status, reason=reason)
        self._written()
        return self._records[record.key]

    def curves(self, trials: Sequence[Trial], names: Sequence[str]) -> dict[str, list[Metric]]:
        """The curves of metrics, by trial: always empty."""
        return {trial.id: [] for trial in trials}

    def log_text(self, record: Record, text: str, name: str) -> None:
        """Store a text with an experiment."""
        self.texts[record.key, name] = text

    def control(self, record: Record) -> Control:
        """The control of an experiment, by default one without requests."""
        return self._controls.get(record.key, Control())

    def set_control(self, record: Record, **changes: Any) -> Control:
        """Change fields of the control of an experiment."""
        self._controls[record.key] = Control(**{**asdict(self.control(record)), **changes})
        return self._controls[record.key]

    def segment(self, record: Record) -> int:
        """The newest segment that has taken over an experiment, from 0."""
        return self._segments.get(record.key, 0)

    def set_segment(self, record: Record, segment: int) -> None:
        """Record that a segment has taken over an experiment."""
        self._segments[record.key] = segment

    def given(self, record: Record) -> tuple[int, int]:
        """The segment and the number of the newest iteration whose trials are all recorded."""
        return self._given.get(record.key, (0, 0))

    def set_given(self, record: Record, segment: int, iteration: int) -> None:
        """Note that all trials of an iteration of a segment are recorded."""
        self._given[record.key] = segment, iteration
        self._written()

    def _written(self) -> None:
        for callback in self.on_write:
            callback()
