"""The loop on this machine, with asynchronous workers: an idle worker gets the next suggestion at once.

The decisions are made in ``loop``, and the state is in MLflow (until it has arrived there, in the spool). The scheduler
only moves trials from one state to the next. With ``barrier`` it waits for all running trials before it suggests again,
as an iteration on Argo does.
"""

import itertools
import json
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import FrameType
from typing import Any

from katib_flow import loop
from katib_flow.effects import reported_once, tell
from katib_flow.errors import TrackingUnavailable
from katib_flow.history import History, Learnt, Metric, State, Suggestion, Trial
from katib_flow.local.conclusion import conclude, standing
from katib_flow.local.observer import Progress
from katib_flow.local.result import Result
from katib_flow.local.spool import Spool
from katib_flow.local.worker import Done, Reported, Run, read_result
from katib_flow.local.workers import Event, Lost, Workers
from katib_flow.loop import End, Verdict
from katib_flow.stopping import judged_metrics, reason_to_stop, with_rules
from katib_flow.tracking import Change, Control, Record, Recorder, Status, Store
from katib_flow.tracking.lease import Holding, LeaseLost
from katib_flow.tracking.models import fetch_model
from katib_flow.trial.outcome import CUT_SHORT, Outcome, StopTrial
from katib_flow.trial.protocol import TrialDirectory, model_files
from katib_flow.trial.tracked import Tracked
from katib_flow.trial.tree import end_left_over
from katib_flow.wording import counted

TICK_SECONDS = 0.2
CONTROL_SECONDS = 2.0  # how often the requests of `katib-flow stop` and `pause` are read
SUMMARY_SECONDS = 10.0
STORE_SECONDS = 5.0  # how long the loop waits for the store itself, while trials run
AWAY_SECONDS = 10.0  # when the user first hears that the store does not answer,
AWAY_AGAIN_SECONDS = 300.0  # and how often after that


@dataclass
class Scheduler:
    """Runs one experiment to its end, or until it is interrupted.

    Attributes:
        barrier: suggest only when no trial is running.
        again: suggestions whose trials are to be started again.
        interrupts: how often the user has interrupted: 1 ends the trials in order, 2 kills them.
        stop_asked: the same request as that of ``katib-flow stop``, from within this process.
        exhausted: the algorithm had no suggestions when no trial was running.
    """

    store: Store
    record: Record
    lease: Holding
    workers: Workers
    spool: Spool
    recorder: Recorder
    progress: Progress
    barrier: bool = False
    again: list[Suggestion] = field(default_factory=list[Suggestion])
    interrupts: int = 0
    stop_asked: bool = False
    exhausted: bool = False
    _announced: bool = False
    _judged_once: bool = False
    _full: str = ""
    control: Control = field(default_factory=Control)

    def __post_init__(self) -> None:
        self.experiment = self.record.experiment
        self._trials: dict[str, Trial] = {}
        self._history: History | None = None
        self._learnt: list[Learnt] = []
        self.earlier = self.store.earlier(self.experiment)
        self._looked = self._summarised = time.monotonic()  # changes of the system clock do not move these
        self._clock = time.time() - self._looked
        self._away, self._away_announced = 0.0, 0.0

    @property
    def history(self) -> History:
        """All trials so far."""
        if self._history is None:  # sorting thousands of trials several times per event would take most of our time
            self._history = History(tuple(self._trials.values()))
        return self._history

    def _set(self, trial: Trial) -> Trial:
        self._trials[trial.id], self._history = trial, None
        return trial

    def recover(self) -> None:
        """Take over what an earlier scheduler left: results that MLflow does not have, trials that were cut short."""
        for trial in self.store.history(self.record, series=self.experiment.early_stopping is not None):
            self._set(replace(trial, series=self._kept(trial)))
        for suggestion in self.spool.suggestions():
            end_left_over(self.spool.directory(suggestion))
            known = self._trials.get(suggestion.id, Trial(suggestion))
            if _proposal(known) != _proposal(Trial(suggestion)):  # the experiment was resumed elsewhere since
                self.spool.drop(suggestion)
                self.progress.say(
                    f"{known.id}: the store holds another trial of this id, recorded since; the files of the one that "
                    "ran here are deleted"
                )
                continue
            known = self._set(replace(known, suggestion=suggestion))
            if known.state.over:
                self.spool.remove(suggestion)
            elif outcome := self._ended_on_disk(suggestion):
                self._close(known, outcome)
            elif known.ended is not None:  # recorded as killed, here or elsewhere: the store has all of it
                self.spool.remove(suggestion)
        self.again = [trial.suggestion for trial in self.history if not trial.state.over]
        for suggestion in self.again:  # not started yet: open trials count as running, killed ones do not
            self._set(replace(self._trials[suggestion.id], state=State.KILLED))

    def _ended_on_disk(self, suggestion: Suggestion) -> Outcome | None:
        """The outcome of a trial whose end was not handled; None if the trial should be started again."""
        outcome = read_result(self.spool.directory(suggestion))
        return None if outcome is None or outcome.fault or outcome.state is State.KILLED else outcome

    def run(self) -> Result:
        """Run until a verdict ends the experiment and no trial is running.

        While the store does not answer, no trials start, and the results of running trials wait on disk.
        """
        self.recorder.patient = not self.interrupts
        while self.turn():
            self.progress.show(self.history, self.control.most_trials(self.experiment))
            for event in self.workers.events(TICK_SECONDS):
                self.handle(event)
        return self.finish()

    def turn(self) -> bool:
        """Start and stop trials as decided; False if no trial is running and none will start."""
        self._look_for_requests()
        verdict = self._verdict()
        if verdict.go and not self.interrupts and not self.control.pause and self.store.away_since is None:
            self._start_trials(verdict.may_start)
        self._stop_trials(verdict)
        ends = self.interrupts or self.control.pause or not verdict.go or self.exhausted
        return bool(self.workers.running() or not ends)

    def _verdict(self) -> Verdict:
        verdict = loop.verdict(
            self.experiment,
            self.history,
            elapsed_seconds=self.control.running_seconds(self.record, self._clock + time.monotonic()),
            max_trials=self.control.max_trials,
            timeout=self.control.timeout,
            stop=self.control.stop or self.stop_asked,
        )
        if verdict.go and self.exhausted and not self.workers.running():
            return loop.exhausted(self.experiment, self.history)
        return verdict

    def _start_trials(self, may_start: int) -> None:
        self.workers.fill()
        if self.barrier and self.workers.running():
            return
        idle = self.workers.idle()
        room = min(may_start, len(idle))
        if self.barrier and room < min(may_start, self.workers.size):
            return  # an iteration starts as a whole: some workers are not ready yet
        started: list[tuple[Suggestion, TrialDirectory, Sequence[Metric], str]] = []
        with suppress(TrackingUnavailable), self.store.patience(STORE_SECONDS):
            fresh = self._suggest(room - len(self.again)) if room > len(self.again) else []
            self.again += fresh
            while self.again and len(started) < room and self._kept_on_disk(self.again[0]):
                started.append(self._begun(self.again[0]))
                del self.again[0]
        if not all(run_id for *_, run_id in started) and not self.recorder.flush(self._waits_for_the_store):
            return  # a trial that logs to MLflow itself needs to know its run
        for worker, (suggestion, here, earlier, run_id) in zip(idle, started, strict=False):
            own = run_id or self.recorder.run_id(suggestion.id)
            tracked = Tracked(self.store.uri, self.record.mlflow_experiment_id, own)
            worker.running = Run(suggestion, here, tracked, earlier)
            worker.send(worker.running)

    def _begun(self, suggestion: Suggestion) -> tuple[Suggestion, TrialDirectory, Sequence[Metric], str]:
        """Record a trial as running: its suggestion, its directory, its earlier metrics and the id of its run."""
        here = self.spool.directory(suggestion, self._parent(suggestion))
        earlier = self._earlier(suggestion, here)
        trial = self._started(suggestion, earlier)
        known = trial.run_id or self.recorder.run_id(trial.id)
        run_id = known or self.store.reserve(self.record, trial.id)  # before the trial is written
        self.recorder.queue(Change(trial))
        return suggestion, here, earlier, run_id

    def _kept_on_disk(self, suggestion: Suggestion) -> bool:
        """Write a suggestion to disk; False if that fails, and the trial has to wait."""
        try:
            self.spool.add(suggestion)
        except OSError as error:
            if not self._full:
                self._full = f"{self.spool.path}: cannot be written: {error.strerror}"
                self.progress.say(f"{self._full}; no trials start until it can; finished trials are still recorded")
            return False
        if self._full:
            self.progress.say(f"{self.spool.path}: can be written again; trials start again")
            self._full = ""
        return True

    def _suggest(self, n: int) -> list[Suggestion]:
        kept = itertools.chain(self._learnt, self.store.learnings.find(self.record))
        answer = loop.proposed(self.experiment, self.history, n, earlier=self.earlier, kept=kept)
        suggestions = with_rules(self.experiment, self.history, answer.suggestions)
        if answer.learnt:
            self._learnt = [answer.learnt]
            self.store.learnings.keep(self.record, answer.learnt)
        self.exhausted = not suggestions and not self.workers.running()
        for suggestion in suggestions:  # not started yet: it does not count as running
            self._set(Trial(suggestion, State.KILLED))
        return suggestions

    def _earlier(self, suggestion: Suggestion, here: TrialDirectory) -> Sequence[Metric]:
        """The earlier metrics of a trial that is started again; empty if it has no checkpoint to continue from."""
        if suggestion.id not in self._trials or not here.checkpoint.is_dir() or not any(here.checkpoint.iterdir()):
            return ()
        self.recorder.flush()
        recorded = self.store.trial(self.record, suggestion.id, series=True)
        return recorded.reported if recorded else ()

    def _started(self, suggestion: Suggestion, earlier: Sequence[Metric]) -> Trial:
        known = self._trials.get(suggestion.id, Trial(suggestion))
        series = self._kept(Trial(suggestion), earlier)
        fresh: dict[str, Any] = {"ended": None, "message": "", "observations": {}, "series": series}
        return self._set(replace(known, state=State.RUNNING, started=time.time(), **fresh))

    def _parent(self, suggestion: Suggestion) -> Suggestion | None:
        if suggestion.parent is None:
            return None
        parent = next((trial for trial in self._trials.values() if trial.index == suggestion.parent), None)
        if parent is None:
            return None
        model = self.spool.directory(parent.suggestion).model
        if self.experiment.architecture is not None and parent.run_id and not model.is_dir():
            fetch_model(self.store, parent.run_id, model)  # the parent ran elsewhere, or the directory was cleared
        return parent.suggestion

    def handle(self, event: Event) -> None:
        """Take an event of a worker: metrics, the outcome of a trial, or the loss of the worker."""
        run, message = event
        trial = self._trials[run.suggestion.id]
        if isinstance(message, Reported):
            self.recorder.queue(Change(trial, tuple(message.metrics)))
            if self.experiment.early_stopping is not None:
                self._judge(run, self._set(replace(trial, series=self._kept(trial, message.metrics))))
        elif isinstance(message, Done):
            self._ended(trial, message.outcome)
        else:
            self._lost(run, trial, message)

    def _lost(self, run: Run, trial: Trial, lost: Lost) -> None:
        end_left_over(run.directory)  # the worker cannot do this any more
        if not self.interrupts:  # otherwise it was killed together with us, or by us: see finish
            why = f"its worker process ended unexpectedly (exit code {lost.exit_code})"
            self._ended(trial, Outcome(State.FAILED, why, started=trial.started or 0, ended=time.time(), fault=True))

    def _kept(self, trial: Trial, more: Sequence[Metric] = ()) -> Mapping[str, tuple[Metric, ...]]:
        """The series to keep in memory: only those that are judged, because there may be thousands of trials."""
        return {
            name: (*trial.series.get(name, ()), *(metric for metric in more if metric.name == name))
            for name in judged_metrics(self.experiment, trial.suggestion)
        }

    def _judge(self, run: Run, trial: Trial) -> None:
        if why := reason_to_stop(self.experiment, self.history, trial):
            for worker in self.workers.running():
                if worker.running is run:
                    worker.stop(StopTrial(State.EARLY_STOPPED, why))

    def _ended(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.fault and trial.retries < self.experiment.limits.retries and not self.interrupts:
            trial = replace(trial, state=State.KILLED, retries=trial.retries + 1, message=outcome.message)
            self._set(trial)
            self.again.append(trial.suggestion)
        else:
            self._close(trial, outcome, reported=True)
            if not self._judged_once and outcome.state is State.SUCCEEDED:
                self._judged_once = True
                name = self.experiment.objective[0].metric
                tell(reported_once(self.experiment, sum(metric.name == name for metric in outcome.metrics)))

    def _close(self, trial: Trial, outcome: Outcome, *, reported: bool = False) -> None:
        """Record a trial's end.

        Args:
            reported: True if its metrics have been passed to the recorder as they came.
        """
        trial = outcome.applied_to(replace(trial, series={}))
        self._set(replace(trial, series=self._kept(trial)))
        here = self.spool.directory(trial.suggestion)
        metrics = () if reported else outcome.metrics
        self.recorder.queue(Change(trial, metrics, here.log, model_files(here.model)))
        self.progress.trial_ended(trial)

    def _stop_trials(self, verdict: Verdict) -> None:
        ends_trials = verdict.end not in (End.NOT_YET, End.MAX_TRIALS, End.EXHAUSTED)
        if self.interrupts > 1:
            self.workers.close()
        elif self.interrupts and self.workers.running() and not self._announced:
            self._announced = True
            self.progress.say("stopping the running trials; press Ctrl-C again to kill them")
        if self.interrupts or ends_trials:
            for worker in self.workers.running():
                worker.stop(StopTrial(State.KILLED))

    def _look_for_requests(self) -> None:
        if self.lease.lost:
            raise LeaseLost(self.lease.lost)
        self._announce_store()
        now, away = time.monotonic(), self.store.away_since is not None
        if now - self._looked <= (STORE_SECONDS if away else CONTROL_SECONDS):
            return
        with suppress(TrackingUnavailable), self.store.patience(0 if away else STORE_SECONDS):
            self._looked = now
            self.control = self.store.control(self.record)
            if now - self._summarised > SUMMARY_SECONDS:
                self._summarised = now
                self.store.summarise(self.record, self.history)

    def _waits_for_the_store(self) -> bool:
        self._announce_store()
        return not self.interrupts

    def _announce_store(self) -> None:
        """Tell the user since when the store has not answered, or that it answers again."""
        since, now = self.store.away_since, time.monotonic()
        if since is None:
            if self._away_announced:
                self.progress.say(f"MLflow answers again, after {now - self._away:.0f} s")
            self._away = self._away_announced = 0.0
            return
        self._away = self._away or now
        due = self._away_announced + AWAY_AGAIN_SECONDS if self._away_announced else self._away + AWAY_SECONDS
        if now >= due:
            self._away_announced = now
            at = datetime.fromtimestamp(since).strftime("%H:%M:%S")
            results = f"{counted(self.recorder.results, 'result waits', 'results wait')} on disk"
            self.progress.say(f"MLflow has not answered since {at}; {results}, and no trials start until it does")

    def finish(self) -> Result:
        """Record the status of the experiment, and its unfinished trials as killed."""
        waiting = [self._trials[suggestion.id] for suggestion in self.again]
        unfinished = [trial for trial in waiting if trial.ended is None]  # the others are recorded as killed already
        for trial in (*self.history.open(), *unfinished):  # some are open after a second Ctrl-C: their processes ended
            if outcome := self._ended_on_disk(trial.suggestion):
                self._close(trial, outcome)
                continue
            self._close(trial, Outcome(State.KILLED, CUT_SHORT, ended=time.time()), reported=True)
        self.recorder.flush(lambda: self._announce_store() is None)
        verdict = self._verdict()  # again, because killed trials do not count
        status, reason = self._status(verdict)
        history = self._concluded(status, reason)
        run_id, name = self.record.run_id, self.record.name
        return Result(self.experiment, history, verdict, status, reason, run_id, name, self.store)

    def _concluded(self, status: Status, reason: str) -> History:
        """Call ``conclude`` until the store answers, or the user interrupts."""
        while not self.interrupts:
            with suppress(TrackingUnavailable), self.store.patience(STORE_SECONDS):
                return self.conclude(status, reason)
            self._announce_store()
        return self.conclude(status, reason)

    def conclude(self, status: Status, reason: str) -> History:
        """Record the status of the experiment, with its report and model if it has ended."""
        return conclude(self.store, self.record, self.history, self.recorder.run_id, status, reason)

    def _status(self, verdict: Verdict) -> tuple[Status, str]:
        return standing(verdict, interrupted=bool(self.interrupts), paused=self.control.pause)

    def interrupt(self) -> None:
        """End the experiment in order; a second call kills its trials. Any thread may call this."""
        self.interrupts += 1
        self.recorder.patient = False
        if self.interrupts == 2:
            self.workers.kill()  # here, because the loop may be waiting for MLflow

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """Have SIGINT, SIGTERM and SIGHUP (a closed terminal) end the experiment in order.

        A second signal kills its trials, and a third raises KeyboardInterrupt.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupted(number: int, frame: FrameType | None) -> None:
            self.interrupt()
            if self.interrupts > 2:
                raise KeyboardInterrupt

        ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, interrupted) for number in ending}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _proposal(trial: Trial) -> str:
    """A trial's suggestion as text, for comparison; without its topology, which may not have been recorded yet."""
    return json.dumps(replace(trial.suggestion, topology=None, basis=None).to_dict(), sort_keys=True)
