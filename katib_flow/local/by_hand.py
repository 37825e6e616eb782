"""A search whose trials the user's own program evaluates: it asks for a trial, and tells its result.

As in any other experiment, the decisions are made in ``loop``, and the state is in MLflow; only the workers are
missing. So a search that was cut short can be continued: ``ask`` returns its open trials again first.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import Any, Self, overload

from katib_flow import loop
from katib_flow.algorithms.registry import find_algorithm
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.history import History, Learnt, State, Suggestion, Trial, Value
from katib_flow.local.conclusion import standing
from katib_flow.local.kept import Kept
from katib_flow.local.placeholder import HOW
from katib_flow.local.reports import Reports
from katib_flow.local.result import Result
from katib_flow.loop import End, Verdict
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import PROGRAM, SERVICE
from katib_flow.stopping import judged_metrics, reason_to_stop, with_rules
from katib_flow.tracking import Change, Control, Status
from katib_flow.trial.outcome import CUT_SHORT
from katib_flow.trial.protocol import assigned
from katib_flow.wording import counted

_ANY_NUMBER = 1_000_000  # of open trials: the program decides how many it evaluates at once


class Search:
    """A search that a program drives, as ``kf.ask_and_tell`` returns it.

    Several threads may use it. It is a context manager, which closes it, and an iterator over the trials to evaluate.
    """

    def __init__(self, spec: Experiment, kept: Kept | None) -> None:
        self.experiment, self._kept = spec, kept
        self._many = spec.model_copy(update={"limits": spec.limits.model_copy(update={"parallel_trials": _ANY_NUMBER})})
        self._trials: dict[str, Trial] = {}
        self._history: History | None = None
        self._without_run: set[str] = set()
        self._reports: dict[str, Reports] = {}
        self._stopping: dict[str, str] = {}
        self._again: list[Suggestion] = []
        self._next: list[Suggestion] = []  # suggested to find out whether there are more, and not returned yet
        self._learnt: list[Learnt] = []
        self._exhausted = self._closed = False
        self._stands = (Status.RUNNING, "")
        self._began = time.monotonic()
        self._lock = threading.RLock()
        self._earlier = kept.store.earlier(spec) if kept else History()
        if kept:
            self._recover(kept)

    def _recover(self, kept: Kept) -> None:
        series = self.experiment.early_stopping is not None
        for trial in kept.store.history(kept.record, series=series):
            self._set(trial if trial.state.over else replace(trial, state=State.KILLED))
        self._again = [trial.suggestion for trial in self.history if not trial.state.over]
        if kept.record.status is not Status.RUNNING:
            kept.stands(self.history, Status.RUNNING)

    # state

    @property
    def history(self) -> History:
        """All trials so far."""
        with self._lock:
            if self._history is None:  # sorted once per change: there may be thousands
                self._history = History(tuple(self._trials.values()))
            return self._history

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials so far, by index."""
        return self.history.trials

    @property
    def best(self) -> Trial | None:
        """The best trial by the first objective; None if no trial has a finite value."""
        return self.experiment.best(self.history)

    @property
    def verdict(self) -> Verdict:
        """Whether more trials may start, and the reason if not."""
        with self._lock:
            history, control = self.history, self._control()
            seconds = self._kept.seconds() if self._kept else time.monotonic() - self._began
            limits: Mapping[str, Any] = {"max_trials": control.max_trials, "timeout": control.timeout}
            verdict = loop.verdict(self._many, history, elapsed_seconds=seconds, stop=control.stop, **limits)
            if verdict.go and self._exhausted and not history.open():
                return loop.exhausted(self.experiment, history)
            return verdict

    @property
    def done(self) -> bool:
        """True if no more trials may start: a limit or the goal is reached, or the search is exhausted or closed."""
        with self._lock:
            if self._closed or not self.verdict.go or self._control().pause:
                return True
            if self._may_run_out() and not (self._again or self._next or self.history.open()):
                self._next = self._suggested(1)
            return not self.verdict.go

    def _may_run_out(self) -> bool:
        """True if the algorithm may have no more suggestions, which only asking it can show."""
        entry = find_algorithm(self.experiment.algorithm.registered_name)
        finite = self.experiment.architecture is None and search_space(self.experiment).size is not None
        return finite or entry is None or entry.ends or entry.name in (PROGRAM, SERVICE)

    @property
    def result(self) -> Result:
        """The search as a ``Result``, which ``kf.run`` returns too.

        Raises:
            KatibFlowError: the search is not recorded.
        """
        if self._kept is None:
            need = "a recorded one; best and trials work without a store"
            raise KatibFlowError(f"result: found a search in memory, need {need}")
        record = self._kept.record
        where = (record.run_id, record.name, self._kept.store)
        return Result(self.experiment, self.history, self.verdict, *self._stands, *where)

    def parameters(self, trial: Trial) -> dict[str, Value]:
        """The parameters of a trial, including its budget."""
        return assigned(self.experiment, trial.suggestion)

    # asking

    @overload
    def ask(self) -> Trial:
        """Return the next trial to evaluate."""
        ...

    @overload
    def ask(self, n: int) -> list[Trial]:
        """Return a list of up to ``n`` trials to evaluate."""
        ...

    def ask(self, n: int | None = None) -> Trial | list[Trial]:
        """Return the next trial to evaluate or, with ``n``, a list of up to ``n`` trials.

        The list is shorter, or empty, if a limit allows no more or the algorithm waits for open trials.

        Raises:
            KatibFlowError: no trial is available and ``n`` is not given, or the algorithm failed.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidSpec("ask", [SpecError("n", n, "a whole number of at least 1, or None")])
        with self._lock:
            trials = self._started(n or 1)
            if n is not None:
                return trials
            if not trials:
                raise KatibFlowError(f"ask: {self._no_trial_reason()}")
            return trials[0]

    def __iter__(self) -> Iterator[Trial]:
        """Yield trials until the search is done; tell the result of one before taking the next."""
        while not self.done:
            yield self.ask()

    def _started(self, n: int) -> list[Trial]:
        self._check_open()
        verdict = self.verdict
        room = 0 if self._control().pause or not verdict.go else min(n, verdict.may_start)
        started: list[str] = []
        while len(started) < room and (portion := self._portion(room - len(started))):
            for suggestion in portion:
                self._start(suggestion)
                started.append(suggestion.id)
        self._flush()
        return [self._trials[trial_id] for trial_id in started]

    def _portion(self, n: int) -> list[Suggestion]:
        """Up to ``n`` suggestions: those to evaluate again, else as many as a scheduler would ask for at once."""
        if self._again:
            again, self._again = self._again[:n], self._again[n:]
            return again
        return self._fresh(min(n, self.experiment.limits.parallel_trials))

    def _start(self, suggestion: Suggestion) -> None:
        known = self._trials.get(suggestion.id, Trial(suggestion))
        fresh: dict[str, Any] = {"ended": None, "message": "", "observations": {}, "series": {}}
        self._put(self._set(replace(known, state=State.RUNNING, started=time.time(), **fresh)))
        self._reports[suggestion.id] = Reports(self.experiment)
        if not known.run_id:
            self._without_run.add(suggestion.id)

    def _fresh(self, n: int) -> list[Suggestion]:
        waiting, self._next = self._next, []
        return waiting if waiting and n == 1 else self._suggested(n)

    def _suggested(self, n: int) -> list[Suggestion]:
        history = self.history
        kept = chain(self._learnt, self._kept.learnings() if self._kept else ())
        answer = loop.proposed(self.experiment, history, n, earlier=self._earlier, kept=kept)
        if answer.learnt:
            self._learnt = [answer.learnt]
            if self._kept:
                self._kept.keep_learnt(answer.learnt)
        suggestions = with_rules(self.experiment, history, answer.suggestions)
        self._exhausted = not suggestions and not history.open()
        return suggestions

    def _no_trial_reason(self) -> str:
        verdict = self.verdict
        if self._control().pause:
            return f"the search is paused; {HOW}"
        if not verdict.go:
            return f"the search has ended: {verdict.reason}"
        waiting = ", ".join(trial.id for trial in self.history.open())
        return f"the algorithm waits for the results of open trials ({waiting}); tell them first"

    # telling

    def report(
        self, trial: Trial | str, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any
    ) -> None:
        """Report metrics of an open trial at a step: ``report(trial, loss=0.3, step=1)``.

        Args:
            metrics, named: numbers, or vectors of numbers.
            step: by default one more than that of the last report of the metric, from 0.

        Raises:
            KatibFlowError: the trial is not open, or a value is not a number.
        """
        with self._lock:
            known = self._asked(trial)
            self._take(known, {**(metrics or {}), **named}, step)

    def should_stop(self, trial: Trial | str) -> bool:
        """True if a trial should end now: its early stopping rule says so, or the search has ended.

        Then stop evaluating it and ``tell`` it: it is recorded as early-stopped, with the metrics reported so far.
        """
        with self._lock:
            known, verdict = self._asked(trial), self.verdict
            why = self._stopping.get(known.id, "") or reason_to_stop(self.experiment, self.history, known)
            if not why and verdict.end not in (End.NOT_YET, End.MAX_TRIALS, End.EXHAUSTED):
                why = verdict.reason
            if why:
                self._stopping[known.id] = why
            return bool(why)

    def tell(
        self, trial: Trial | str, metrics: Mapping[str, Any] | float | None = None, *, error: object = None
    ) -> Trial:
        """Record the result of a trial, and return the trial as recorded.

        Args:
            metrics: its last report: the value of the objective, or metrics by name; None if all have been reported.
            error: why it failed, as text or an exception. It counts against ``limits.max_failed_trials``.

        Raises:
            KatibFlowError: the trial is not open, a value is not a number, or an objective has no value. The trial
                stays open.
        """
        with self._lock:
            known = self._asked(trial)
            values = self._values(known, metrics)
            if error is None:
                self._reports[known.id].check_complete(known.id, values)
            known = self._take(known, values, None)
            stopping = self._stopping.pop(known.id, "")
            state = State.EARLY_STOPPED if stopping else State.SUCCEEDED
            message = f"stopped early: {stopping}" if stopping else ""
            if error is not None:
                named = isinstance(error, BaseException)
                state, message = State.FAILED, f"{type(error).__name__}: {error}" if named else str(error)
            observed = self._reports.pop(known.id).observations
            ended = replace(known, state=state, message=message, ended=time.time(), observations=observed)
            self._put(self._set(ended))
            self._next = []
            self._flush()
            return self._trials[known.id]

    def _values(self, trial: Trial, metrics: Any) -> Mapping[str, Any]:
        if metrics is None or isinstance(metrics, Mapping):
            return metrics or {}
        names = [objective.metric for objective in self.experiment.objective]
        if len(names) > 1:
            need = f"a mapping with values for {' and '.join(map(repr, names))}"
            raise InvalidSpec("tell", [SpecError(trial.id, metrics, need)])
        return {names[0]: metrics}

    def _take(self, trial: Trial, values: Mapping[str, Any], step: int | None) -> Trial:
        metrics = self._reports[trial.id].take(trial.id, values, step)
        judged = judged_metrics(self.experiment, trial.suggestion)
        more = {name: (*trial.series.get(name, ()), *(m for m in metrics if m.name == name)) for name in judged}
        trial = self._set(replace(trial, series=more))
        if metrics and self._kept:
            self._kept.queue(Change(trial, tuple(metrics)))
        return trial

    def _asked(self, trial: object) -> Trial:
        """The open trial that an argument names."""
        self._check_open()
        name = trial.id if isinstance(trial, Trial) else trial
        known = self._trials.get(name) if isinstance(name, str) else None
        if known is None or known.state is not State.RUNNING:
            open_ids = ", ".join(known.id for known in self.history.open())
            what = f"{known.id}, which is {known.state}" if known else repr(trial)
            are = f"open: {open_ids}" if open_ids else "no trial is open"
            raise KatibFlowError(f"trial: found {what}, need an open trial that ask() returned ({are})")
        return known

    # the store

    def _control(self) -> Control:
        if self._kept is None:
            return Control()
        return self._kept.control if self._closed else self._kept.look(self.history)

    def _set(self, trial: Trial) -> Trial:
        self._trials[trial.id], self._history = trial, None
        return trial

    def _put(self, trial: Trial) -> None:
        if self._kept:
            self._kept.queue(Change(trial))

    def _flush(self) -> None:
        """Wait until all is recorded, so that no result is lost, and give new trials the ids of their runs."""
        if self._kept:
            self._kept.flush()
            for trial in [self._trials[trial_id] for trial_id in self._without_run]:
                if run_id := self._kept.run_id(trial):
                    self._set(replace(trial, run_id=run_id))
                    self._without_run.discard(trial.id)

    def _check_open(self) -> None:
        if self._closed:
            raise KatibFlowError(f"{self.experiment.name}: the search is closed")

    def close(self) -> None:
        """Record the status of the search, and release it for other processes.

        Open trials are recorded as killed; when the search is continued, ``ask`` returns them again.
        """
        with self._lock:
            if self._closed:
                return
            try:
                if self._kept:
                    self._conclude(self._kept)
            finally:
                self._closed = True
                if self._kept:
                    self._kept.close()

    def _conclude(self, kept: Kept) -> None:
        paused = kept.look(self.history).pause  # raises if another process has taken over
        for trial in self.history.open():
            self._put(self._set(replace(trial, state=State.KILLED, message=CUT_SHORT, ended=time.time())))
        self._stands = standing(self.verdict, interrupted=not paused, paused=paused, how=HOW)
        for trial in kept.stands(self.history, *self._stands):
            self._set(trial)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except KatibFlowError:
            if error is None:  # the error that ended the block takes precedence
                raise

    def _repr_html_(self) -> str:
        return self.history._repr_html_()

    def __repr__(self) -> str:
        best = self.best
        text = f"best {best.id} {dict(best.assignment)} {dict(best.observations)}" if best else "no trial with a value"
        return f"<Search {self.experiment.name}: {counted(len(self.history), 'trial')}, {text}>"
