"""Step functions called directly, on a store in memory, with trials that only report a number: for tests at scale.

The other tasks of the programs in steps/ (arguments, environment, files) are left out; see ``real`` for them.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from katib_flow.argo.names import TRY_LATER
from katib_flow.argo.steps.collect import collect_metrics, finish
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.handover import hand_over
from katib_flow.argo.steps.suggest import suggest_iteration, suggest_lane
from katib_flow.argo.steps.train import begin, exit_code, find_trial
from katib_flow.errors import TrackingUnavailable
from katib_flow.history import State, Trial
from katib_flow.spec.experiment import Experiment
from katib_flow.testing.argo.outage import Outage, Remote
from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.programs import Killed, Program, Result, Waiting
from katib_flow.testing.argo.waiting import Sleep, waiting
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.testing.memory import MemoryStore
from katib_flow.tracking import Change, Status


@dataclass
class FastPrograms:
    """Programs of a compiled experiment.

    Attributes:
        outcome: from a trial to its final state and the value of its objectives.
        seconds: how long a pod's main container runs.
        also: other metrics that a successful trial reports.
        evaluated: how often each trial was evaluated, by id.
        store: replaces MLflow.
        outage: makes calls of the store take time and fail, so that programs wait for it concurrently.
    """

    experiment: Experiment
    cluster: FakeCluster
    outcome: Callable[[Trial], tuple[State, float]]
    seconds: Callable[[Pod], float] = lambda pod: 1.0
    also: Callable[[Trial], Mapping[str, float]] = lambda trial: {}
    store: MemoryStore = field(default_factory=MemoryStore)
    evaluated: Counter[str] = field(default_factory=Counter[str])
    outage: Outage | None = None

    def __post_init__(self) -> None:
        self._own = threading.local()  # the store and the sleep function of each waiting program

    def __call__(self, pod: Pod) -> Program | Waiting:
        if self.outage is None:
            return Program(self._run, self.seconds)
        return Waiting(self._wait)

    def _wait(self, pod: Pod) -> Generator[float, None, Result]:
        outage = self.outage
        assert outage is not None

        def program(sleep: Sleep) -> Result:
            self._own.sleep = sleep
            self._own.store = Remote(self.store, outage, sleep, self.cluster.clock)
            sleep(self.seconds(pod))
            try:
                return self._programs[pod.template](self, pod, _options(pod))
            except TrackingUnavailable:
                return Result(TRY_LATER)

        return waiting(program, lambda: None)

    def _run(self, pod: Pod) -> Result:
        dying = [self._die] if pod.notes.pop("halfway", False) else []
        self.store.on_write[:] = dying
        try:
            return self._programs[pod.template](self, pod, _options(pod))
        finally:
            self.store.on_write.clear()

    def _die(self) -> None:
        raise Killed

    def _connect(self) -> FakeCluster:
        return self.cluster

    def _context(self, options: dict[str, str]) -> Context:
        store: Any = getattr(self._own, "store", self.store)
        record = store.create(self.experiment, options["run"])
        return Context(store, record, int(options.get("segment", "0")))

    def _suggest(self, pod: Pod, options: dict[str, str]) -> Result:
        context = self._context(options)
        if "open" in options:
            return Result()
        iteration = int(options["iteration"])
        if "lane" not in options:
            return Result(files={"/kf/ids": json.dumps(suggest_iteration(context, iteration))})
        lane, lanes, last = (int(options[name]) for name in ("lane", "lanes", "last"))
        sleep = getattr(self._own, "sleep", time.sleep)
        turn = suggest_lane(context, iteration, lane, lanes, last, self._connect, sleep=sleep)
        flags = {"/kf/go": turn.trial is not None, "/kf/handover": turn.hand_over}
        return Result(files={"/kf/id": turn.trial or "", **{path: json.dumps(on) for path, on in flags.items()}})

    def _trial(self, pod: Pod, options: dict[str, str]) -> Result:
        context = self._context(options)
        trial = find_trial(context, pod.inputs["id"])
        if trial.state.final:
            return Result(exit_code(trial.state))
        trial = begin(context, trial)
        self.evaluated[trial.id] += 1
        state, value = self.outcome(trial)
        reported = {**self.also(trial), **{objective.metric: value for objective in self.experiment.objective}}
        observations = reported if state is State.SUCCEEDED else {}
        ended = replace(trial, state=state, observations=observations, ended=trial.started)
        context.store.write(context.record, [Change(ended)])
        return Result(exit_code(state))

    def _collect(self, pod: Pod, options: dict[str, str]) -> Result:
        iteration = int(options["iteration"]) if "iteration" in options else None
        go = collect_metrics(self._context(options), self._connect, iteration)
        return Result(files={"/kf/go": "true" if go else "false"})

    def _handover(self, pod: Pod, options: dict[str, str]) -> Result:
        context, segment = self._context(options), int(options["segment"])
        hand_over(self.cluster, workflow=options["workflow"], run=options["run"], segment=segment)
        context.take_over(segment + 1)
        return Result()

    def _finish(self, pod: Pod, options: dict[str, str]) -> Result:
        status = finish(self._context(options), options["status"], options["failures"])
        return Result(1 if status is Status.FAILED else 0)

    def _build(self, pod: Pod, options: dict[str, str]) -> Result:
        return Result()

    _programs = {
        "open": _suggest,
        "suggest": _suggest,
        "build-model": _build,
        "trial": _trial,
        "collect-metrics": _collect,
        "handover": _handover,
        "finish": _finish,
    }


def _options(pod: Pod) -> dict[str, str]:
    """The arguments of a pod's step, by name; those of ``prepare`` if main is the user's container."""
    options: dict[str, str] = {}
    words: list[str] = next(container["args"] for container in pod.containers() if "--run" in container.get("args", []))
    for position, word in enumerate(words):
        if word.startswith("--"):
            following = words[position + 1] if position + 1 < len(words) else ""
            options[word[2:]] = "" if following.startswith("--") else following
    return options
