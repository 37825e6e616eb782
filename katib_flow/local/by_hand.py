"""A search whose trials the user's own program evaluates: it asks what to try, and tells what came of it.

What decides is ``loop``, and what is remembered is in MLflow, as in any other experiment; only the workers are missing.
So a search that was cut off is gone on with: its open trials are asked again first.
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
from katib_flow.local.reports import Reports
from katib_flow.local.result import Result
from katib_flow.local.told import HOW
from katib_flow.loop import End, Verdict
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import PROGRAM, SERVICE
from katib_flow.stopping import judged_metrics, reason_to_stop, with_rules
from katib_flow.tracking import Change, Control, Status
from katib_flow.trial.protocol import assigned

_ANY_NUMBER = 1_000_000  # of open trials: how many run at once is for the program to say


class Search:
    """A search in the hands of a program; several threads may use it. ``kf.ask_and_tell`` makes one."""

    def __init__(self, spec: Experiment, kept: Kept | None) -> None:
        self.experiment, self._kept = spec, kept
        self._many = spec.model_copy(update={"limits": spec.limits.model_copy(update={"parallel_trials": _ANY_NUMBER})})
        self._trials: dict[str, Trial] = {}
        self._history: History | None = None
        self._without_run: set[str] = set()
        self._reports: dict[str, Reports] = {}
        self._stopping: dict[str, str] = {}
        self._again: list[Suggestion] = []
        self._next: list[Suggestion] = []  # asked for to know whether there is any, and not given yet
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

    # what is known

    @property
    def history(self) -> History:
        """All trials so far."""
        with self._lock:
            if self._history is None:  # thousands are not sorted anew at every question
                self._history = History(tuple(self._trials.values()))
            return self._history

    @property
    def trials(self) -> tuple[Trial, ...]:
        return self.history.trials

    @property
    def best(self) -> Trial | None:
        """The best trial by the first objective; None where no trial has a finite value."""
        return self.experiment.best(self.history)

    @property
    def verdict(self) -> Verdict:
        """Whether it goes on, and why it does not."""
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
        """Whether no more trials may start: it reached a limit or its goal, ran out of points, or was ended."""
        with self._lock:
            if self._closed or not self.verdict.go or self._control().pause:
                return True
            if self._may_run_out() and not (self._again or self._next or self.history.open()):
                self._next = self._suggested(1)
            return not self.verdict.go

    def _may_run_out(self) -> bool:
        """Whether the algorithm may have nothing more to suggest: it is asked, to know."""
        entry = find_algorithm(self.experiment.algorithm.registered_name)
        finite = self.experiment.architecture is None and search_space(self.experiment).size is not None
        return finite or entry is None or entry.ends or entry.name in (PROGRAM, SERVICE)

    @property
    def result(self) -> Result:
        """The search as ``kf.run`` gives it back.

        Raises:
            KatibFlowError: nothing is recorded.
        """
        if self._kept is None:
            raise KatibFlowError(
                "result: found a search in memory, need one that is recorded; best and trials are here"
            )
        record = self._kept.record
        where = (record.run_id, record.name, self._kept.store)
        return Result(self.experiment, self.history, self.verdict, *self._stands, *where)

    def parameters(self, trial: Trial) -> dict[str, Value]:
        """The parameters of a trial, its budget among them."""
        return assigned(self.experiment, trial.suggestion)

    # asking

    @overload
    def ask(self) -> Trial: ...
    @overload
    def ask(self, n: int) -> list[Trial]: ...
    def ask(self, n: int | None = None) -> Trial | list[Trial]:
        """The next trial to evaluate; with a number, a list of up to so many.

        Fewer, or none, come where a limit allows no more, and where the algorithm waits for open trials.

        Raises:
            KatibFlowError: there is none, where one was asked for; or the algorithm failed.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidSpec("ask", [SpecError("n", n, "a whole number from 1, or nothing")])
        with self._lock:
            trials = self._started(n or 1)
            if n is not None:
                return trials
            if not trials:
                raise KatibFlowError(f"ask: {self._why_none()}")
            return trials[0]

    def __iter__(self) -> Iterator[Trial]:
        """Trials until the search is done; each is to be told before the next."""
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
        return [self._trials[each] for each in started]

    def _portion(self, n: int) -> list[Suggestion]:
        """Some of ``n`` suggestions: those that are asked again, else as many as a scheduler would ask for at once."""
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

    def _why_none(self) -> str:
        found = self.verdict
        if self._control().pause:
            return f"the search is paused; {HOW}"
        if not found.go:
            return f"the search has ended: {found.reason}"
        waiting = ", ".join(trial.id for trial in self.history.open())
        return f"the algorithm waits for what came of {waiting}, which were asked and not told"

    # telling

    def report(
        self, trial: Trial | str, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any
    ) -> None:
        """Report metrics of a trial that goes on, at a step: ``report(trial, loss=0.3, step=1)``.

        Args:
            metrics, named: numbers, or vectors of them.
            step: where it is left out, each report of a metric is one step after the last.

        Raises:
            KatibFlowError: the trial is not open, or a value is no number.
        """
        with self._lock:
            known = self._asked(trial)
            self._take(known, {**(metrics or {}), **named}, step)

    def should_stop(self, trial: Trial | str) -> bool:
        """Whether a trial should end now: the rule of early stopping says so, or the search has ended meanwhile.

        The trial is then to be told, and counts as stopped early with what it has reported.
        """
        with self._lock:
            known, found = self._asked(trial), self.verdict
            why = self._stopping.get(known.id, "") or reason_to_stop(self.experiment, self.history, known)
            if not why and found.end not in (End.NOT_YET, End.MAX_TRIALS, End.EXHAUSTED):
                why = found.reason
            if why:
                self._stopping[known.id] = why
            return bool(why)

    def tell(
        self, trial: Trial | str, metrics: Mapping[str, Any] | float | None = None, *, error: object = None
    ) -> Trial:
        """Say what came of a trial; the trial as it is recorded.

        Args:
            metrics: its last report: the objective's value, or metrics by name; nothing where all has been reported.
            error: why it failed, as text or an exception. It counts against ``limits.max_failed_trials``.

        Raises:
            KatibFlowError: the trial is not open, a value is no number, or an objective has none; then it stays open.
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
            need = f"a mapping with a value of {' and '.join(map(repr, names))}"
            raise InvalidSpec("tell", [SpecError(trial.id, metrics, need)])
        return {names[0]: metrics}

    def _take(self, trial: Trial, values: Mapping[str, Any], step: int | None) -> Trial:
        metrics = self._reports[trial.id].take(trial.id, values, step)
        judged = judged_metrics(self.experiment, trial.suggestion)
        more = {name: (*trial.series.get(name, ()), *(m for m in metrics if m.name == name)) for name in judged}
        trial = self._set(replace(trial, series=more))
        if metrics and self._kept:
            self._kept.put(Change(trial, tuple(metrics)))
        return trial

    def _asked(self, trial: object) -> Trial:
        """The open trial that is meant."""
        self._check_open()
        name = trial.id if isinstance(trial, Trial) else trial
        known = self._trials.get(name) if isinstance(name, str) else None
        if known is None or known.state is not State.RUNNING:
            there = ", ".join(each.id for each in self.history.open()) or "none is"
            what = f"{known.id}, which is {known.state}" if known else repr(trial)
            raise KatibFlowError(f"trial: found {what}, need one that was asked and is open ({there})")
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
            self._kept.put(Change(trial))

    def _flush(self) -> None:
        """Wait until all is recorded: what was told is never lost, and a trial knows its run."""
        if self._kept:
            self._kept.flush()
            for trial in [self._trials[each] for each in self._without_run]:
                if run_id := self._kept.run_id(trial):
                    self._set(replace(trial, run_id=run_id))
                    self._without_run.discard(trial.id)

    def _check_open(self) -> None:
        if self._closed:
            raise KatibFlowError(f"{self.experiment.name}: the search is closed")

    def close(self) -> None:
        """Record how the search stands, and let go of it.

        Trials that are open then were cut short; whoever goes on is asked to evaluate them again.
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
        paused = kept.look(self.history).pause  # raises where somebody else has taken over
        for trial in self.history.open():
            message = "ended before it had finished"
            self._put(self._set(replace(trial, state=State.KILLED, message=message, ended=time.time())))
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
            if error is None:  # what ended the block is told first
                raise

    def _repr_html_(self) -> str:
        return self.history._repr_html_()

    def __repr__(self) -> str:
        best = self.best
        found = f"best {best.id} {dict(best.assignment)} {dict(best.observations)}" if best else "no trial with a value"
        return f"<Search {self.experiment.name}: {len(self.history)} trials, {found}>"
