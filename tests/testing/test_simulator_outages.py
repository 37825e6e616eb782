"""MLflow away in the midst of an experiment: never more trials than max_trials, and in the end no fewer."""

import pytest

from katib_flow.argo import compile_experiment
from katib_flow.history import State, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.argo import FREE, Simulator
from katib_flow.testing.argo.fast import FastPrograms
from katib_flow.testing.argo.outage import Outage
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Status


def simulate(mode: str, outage: Outage, *, trials: int = 4, parallel: int = 3) -> FastPrograms:
    """An experiment of trials that all take the same time, so that lanes ask for the last ones at once."""
    of = Experiment.parse({
        "name": "outage",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": "random",
        "limits": {"max_trials": trials, "parallel_trials": parallel, "max_failed_trials": 0},
        "trial": {"function": "module:train"},
        "argo": {"image": "user:1", "mode": mode},
    })  # fmt: skip
    cluster = FakeCluster()
    seconds = lambda pod: 20.0 if pod.template == "trial" else 1.0  # noqa: E731
    programs = FastPrograms(of, cluster, lambda trial: (State.SUCCEEDED, 1.0), seconds, outage=outage)
    simulator = Simulator(programs, cluster=cluster, costs=FREE)
    run = simulator.submit(compile_experiment(of).to_dict())
    simulator.run()
    record = programs.store.keyed(run)
    assert record is not None
    ended: list[Trial] = [trial for trial in programs.store.history(record) if trial.state is not State.KILLED]
    found = (record.status, len(programs.evaluated), [trial.state for trial in ended])
    assert found == (Status.SUCCEEDED, trials, [State.SUCCEEDED] * trials), outage
    return programs


@pytest.mark.parametrize("third", range(3))
@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_an_outage_at_any_call_starts_neither_more_trials_nor_fewer(mode: str, third: int) -> None:
    outage = Outage()
    simulate(mode, outage)
    for first in range(third, outage.calls, 3):
        simulate(mode, Outage(first, answer_lost=first % 2 == 0))


def test_lanes_that_want_the_last_trials_at_once_start_them_all() -> None:
    programs = simulate("lanes", Outage(), trials=10, parallel=4)
    assert len(programs.evaluated) == 10
