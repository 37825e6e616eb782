"""MLflow away in the midst of an experiment: never more trials than max_trials, and in the end no fewer."""

import pytest

from katib_flow.argo import compile_experiment
from katib_flow.history import State, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.argo import FREE, Simulator
from katib_flow.testing.argo.fast import FastPrograms
from katib_flow.testing.argo.outage import Outage
from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Status


def experiment(mode: str, *, trials: int, parallel: int, retries: int = 2) -> Experiment:
    return Experiment.parse({
        "name": "outage",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": "random",
        "limits": {"max_trials": trials, "parallel_trials": parallel, "max_failed_trials": 0, "retries": retries},
        "trial": {"function": "module:train"},
        "argo": {"image": "user:1", "mode": mode},
    })  # fmt: skip


def simulate(mode: str, outage: Outage, *, trials: int = 4, parallel: int = 3, retries: int = 2) -> FastPrograms:
    """An experiment of trials that all take the same time, so that lanes ask for the last ones at once."""
    of = experiment(mode, trials=trials, parallel=parallel, retries=retries)
    cluster = FakeCluster()

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


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_an_outage_of_an_hour_that_begins_at_any_step_is_seen_through(mode: str) -> None:
    whole = Outage()
    simulate(mode, whole, trials=2, parallel=1)
    for first in range(whole.calls):  # trials have as many tries here as steps have
        outage = Outage(first, seconds=3600)
        simulate(mode, outage, trials=2, parallel=1, retries=12)
        assert outage.calls > whole.calls, "steps gave up and were tried again"


def test_a_step_that_hangs_until_its_deadline_is_not_tried_again() -> None:
    cluster, of = FakeCluster(), experiment("barrier", trials=1, parallel=1)
    ran: list[str] = []

    def seconds(pod: Pod) -> float:
        ran.append(pod.template)
        return 1e6 if pod.template == "suggest" else 1.0

    programs = FastPrograms(of, cluster, lambda trial: (State.SUCCEEDED, 1.0), seconds)
    simulator = Simulator(programs, cluster=cluster, costs=FREE)
    workflow = simulator[simulator.submit(compile_experiment(of).to_dict())]
    simulator.run()
    assert ran == ["suggest", "finish"]
    assert str(workflow.phase) == "Failed"
