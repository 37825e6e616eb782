"""The states of a Workflow's steps: any of them may run again at any time, and what is promised holds.

Real are the steps and the loop; the store is in memory. Of each step that was run, a rule may run it again, as it is
when its pod was lost, or comes late from a node that was cut off.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from katib_flow.argo.steps.collect import collect_metrics, finish
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.argo.steps.train import begin
from katib_flow.history import State, Trial
from katib_flow.replay import replay
from katib_flow.spec import Experiment
from katib_flow.testing.memory import MemoryStore
from katib_flow.tracking import Change, Status

MANY = int(os.environ.get("KATIB_FLOW_CHAOS", "0"))
ENDS = st.sampled_from([State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.KILLED, None])
"""How a trial ends; None: its pod is gone, and has recorded no end."""


class Killed(Exception):
    """The pod is killed here."""


class Workflows(RuleBasedStateMachine):
    """One experiment, iteration by iteration, over several segments."""

    def __init__(self) -> None:
        super().__init__()
        self.store: Any = MemoryStore()
        self.segment, self.iteration, self.running = 0, 0, list[str]()
        self.asked: list[tuple[int, Callable[[], Any], Any]] = []  # the iteration of steps, they, and what they gave
        self.acknowledged: dict[str, Trial] = {}
        self.going = True

    @initialize(
        algorithm=st.sampled_from(["random", "tpe"]),
        most=st.integers(1, 20),
        parallel=st.integers(1, 3),
        failures=st.integers(0, 9),
    )
    def submit(self, algorithm: str, most: int, parallel: int, failures: int) -> None:
        data: dict[str, Any] = {
            "name": "states",
            "objective": {"metric": "score", "direction": "maximize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "algorithm": {"name": algorithm, "seed": 5},
            "limits": {"max_trials": most, "parallel_trials": parallel, "max_failed_trials": failures},
            "trial": {"function": "user_module:train"},
            "argo": {"image": "user:1"},
        }
        self.experiment, self.most = Experiment.parse(data), most

    def context(self, segment: int | None = None) -> Context:
        record = self.store.create(self.experiment, "states")
        return Context(self.store, record, self.segment if segment is None else segment)

    def trials(self) -> dict[str, Trial]:
        context = self.context()
        return {trial.id: trial for trial in context.store.history(context.record)}

    # what happens

    between = precondition(lambda self: self.going and not self.running)

    @between
    @rule(after=st.none() | st.integers(0, 3))
    def suggest(self, after: int | None) -> None:
        """An iteration begins; the pod of its suggest may be killed after it has recorded some of its trials."""
        self.iteration += 1
        segment, iteration = self.segment, self.iteration
        step = lambda: suggest_iteration(self.context(segment), iteration)  # noqa: E731
        if after is not None:
            with contextlib.suppress(Killed), self.dying(after):
                step()
        ids = step()
        assert not [name for name in ids if self.trials()[name].state.final]
        self.running = list(ids)
        self.asked.append((iteration, step, ids))
        if not ids:
            self.collect()

    @contextlib.contextmanager
    def dying(self, after: int) -> Iterator[None]:
        """Let the next write record so many of its changes, and no more."""
        write = self.store.write

        def killed(record: Any, changes: Any, **options: Any) -> None:
            write(record, changes[:after], **options)
            raise Killed

        self.store.write = killed
        try:
            yield
        finally:
            self.store.write = write

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=ENDS)
    def a_trial_ends(self, data: st.DataObject, how: State | None) -> None:
        self.end(data.draw(st.sampled_from(self.running)), how)

    def end(self, name: str, how: State | None) -> None:
        self.running.remove(name)
        trial = self.trials()[name]
        assert not trial.state.over, f"{name} has ended, and runs again"
        trial = begin(self.context(), trial)
        if how is not None:
            observations = {"score": float(str(trial.assignment["x"]))} if how is State.SUCCEEDED else {}
            change = Change(replace(trial, state=how, observations=observations, ended=time.time()))
            self.store.write(self.context().record, [change])
        if not self.running:
            self.collect()

    @between
    @rule(after=st.none() | st.integers(0, 3), states=st.lists(ENDS, min_size=3, max_size=3))
    def iterate(self, after: int | None, states: list[State | None]) -> None:
        """A whole iteration, to its last trial, which still runs."""
        self.suggest(after)
        for name, how in zip(self.running[1:], states, strict=False):
            self.end(name, how)

    def collect(self) -> None:
        segment, iteration = self.segment, self.iteration
        step = lambda: collect_metrics(self.context(segment), None, iteration)  # noqa: E731
        go = step()
        self.going = go
        if go:
            self.asked.append((iteration, step, go))
        else:
            self.finish()

    def finish(self) -> None:
        segment = self.segment
        finish(self.context(segment), "Succeeded", "null")
        self.going = False

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def a_step_runs_again(self, data: st.DataObject) -> None:
        iteration, step, gave = data.draw(st.sampled_from(self.asked[-4:]))
        before = self.trials()
        given = step()
        assert self.trials() == before, "a step that ran again has changed something"
        if iteration == self.iteration:
            assert given == gave
        elif isinstance(gave, list):  # a trial that a later iteration has started again is that one's
            assert set(given) <= set(gave)

    @precondition(lambda self: self.going and not self.running and self.iteration > 1)
    @rule()
    def handover(self) -> None:
        """The next segment begins; steps of the one before are fenced off from now on."""
        self.segment += 1
        self.iteration, self.asked = 0, []
        self.context().take_over(self.segment)

    @precondition(lambda self: self.going and self.running and self.iteration > 1)
    @rule()
    def the_workflow_is_stopped(self) -> None:
        self.running = []
        self.finish()

    @precondition(lambda self: not self.going)
    @rule(more=st.none() | st.integers(1, 12))
    def resume(self, more: int | None) -> None:
        context = self.context()
        changes = {"stop": False, "pause": False} | ({"max_trials": more} if more else {})
        self.store.set_control(context.record, **changes)
        self.most = max(self.most, more or 0)
        self.segment += 1
        self.iteration, self.asked, self.going = 0, [], True

    @precondition(lambda self: self.iteration > 2)
    @rule(what=st.sampled_from(["pause", "stop"]))
    def ask(self, what: str) -> None:
        self.store.set_control(self.context().record, **{what: True})

    # what holds

    @invariant()
    def nothing_is_lost_and_nothing_twice(self) -> None:
        if not hasattr(self, "experiment"):
            return
        trials = self.trials()
        assert [trial.index for trial in trials.values()] == list(range(len(trials)))
        now = {name: trial for name, trial in trials.items() if trial.state.over}
        for name, trial in self.acknowledged.items():
            assert name in now
            assert (now[name].state, now[name].observations) == (trial.state, trial.observations)
        self.acknowledged = now
        assert sum(trial.state is not State.KILLED for trial in trials.values()) <= self.most
        assert len(self.running) <= self.experiment.limits.parallel_trials

    def teardown(self) -> None:
        if not hasattr(self, "experiment"):
            return
        trials = self.trials()
        derived = replay(self.experiment, self.context().store.history(self.context().record))
        assert [one for one in derived if one.differences] == []
        if not self.going and not self.running:
            assert all(trial.state.final for trial in trials.values())
            assert self.context().record.status is not Status.RUNNING


@pytest.mark.timeout(3600 if MANY else 300)
def test_any_order_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katib_flow.argo.steps.collect.keep_report", lambda *_: None)
    run_state_machine_as_test(
        Workflows,
        settings=settings(
            max_examples=MANY * 20 or 30, stateful_step_count=30, deadline=None, derandomize=not MANY, database=None
        ),
    )
