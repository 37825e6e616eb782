"""Compiled experiments in the simulator, their step programs and trials real, and the same on this machine."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katib_flow.argo import compile_experiment
from katib_flow.history import History, Trial
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.testing.argo import Simulator, Workflow
from katib_flow.testing.argo.real import StepPrograms
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Record, Store

MODULE = """\
import katib_flow as kf

def train(x):
    kf.report(score=x / 2, step=0)
    return {"score": x}

def faulty(x):
    if x > 0.75:
        raise ValueError("too high")
    if x > 0.5:
        print("nothing to report")
    else:
        return {"score": x}
"""
_NUMBERS = itertools.count()
_LOCAL: dict[str, History] = {}


def experiment(**changes: Any) -> Experiment:
    data = {
        "name": "simulated",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": {"name": "random", "seed": 3},
        "limits": {"max_trials": 7, "parallel_trials": 3, "max_failed_trials": 20},
        "trial": {"function": "simulated_user:train"},
        "argo": {"image": "user:1"},
    }
    return Experiment.parse(data | changes)


@dataclass
class Run:
    """One experiment in the simulator.

    Attributes:
        run: key of the experiment, the name of its first Workflow.
    """

    simulator: Simulator
    programs: StepPrograms
    store: Store
    run: str

    @property
    def record(self) -> Record:
        record = self.store.keyed(self.run)
        assert record is not None
        return record

    @property
    def trials(self) -> History:
        return self.store.history(self.record, series=True)

    @property
    def workflows(self) -> list[Workflow]:
        return list(self.simulator.workflows.values())

    def logs(self, template: str) -> list[str]:
        return [self.programs.log(pod) for pod in self.simulator.machine.history if pod.template == template]


@dataclass
class Cluster:
    """Where experiments run: an MLflow store, and a directory with the user's module."""

    uri: str
    scratch: Path
    workdir: Path

    def submit(self, of: Experiment, *, prepare: Callable[[Simulator], None] | None = None, **settings: Any) -> Run:
        """Submit an experiment, and run it unless ``prepare`` takes over."""
        number, simulator = next(_NUMBERS), self.simulator(**settings)
        programs = simulator.programs
        assert isinstance(programs, StepPrograms)
        manifest = compile_experiment(of).to_dict()
        manifest["metadata"]["generateName"] = f"{of.name}-{number}-"
        run = Run(simulator, programs, Store(self.uri, of.tracking.experiment), simulator.submit(manifest))
        (prepare or Simulator.run)(simulator)
        return run

    def simulator(self, **settings: Any) -> Simulator:
        """A namespace with Argo, whose ConfigMap says where MLflow is."""
        cluster = FakeCluster()
        data = {"MLFLOW_TRACKING_URI": self.uri}
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "katib-flow"}, "data": data})
        evicted, scratch = settings.pop("evicted", {}), self.scratch / f"pods{next(_NUMBERS)}"
        programs = StepPrograms(cluster, scratch, self.workdir, evicted=evicted)
        simulator = Simulator(programs, cluster=cluster, **settings)
        programs.wait = lambda seconds: simulator.run(until=simulator.now + seconds)
        return simulator

    def here(self, of: Experiment) -> History:
        """The same on this machine, iteration by iteration; run once, however often it is asked for."""
        key = json.dumps([self.uri, of.to_dict()], sort_keys=True)
        if key not in _LOCAL:
            store = Store(self.uri, "local")
            result = run_experiment(of, store=store, barrier=True)
            _LOCAL[key] = store.history(store.get(result.run_id), series=True)
        return _LOCAL[key]


def seen(trials: History | list[Trial]) -> list[tuple[Any, ...]]:
    """What must be alike wherever a trial runs."""
    return [
        (
            trial.id,
            dict(trial.assignment),
            trial.suggestion.budget,
            trial.suggestion.parent,
            trial.state,
            dict(trial.observations),
            {name: [(each.value, each.step) for each in values] for name, values in trial.series.items()},
            trial.message,
        )
        for trial in trials
    ]
