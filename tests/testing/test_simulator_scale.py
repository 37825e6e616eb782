"""Compiled experiments of thousands of trials, in virtual time, with a store in memory in the place of MLflow."""

import math
import random
from typing import Any

import pytest

from katib_flow.argo import compile_experiment
from katib_flow.history import State, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.argo import FREE, INFRASTRUCTURE, Costs, Pod, Random, Simulator
from katib_flow.testing.argo.fast import FastPrograms
from katib_flow.testing.argo.programs import Result
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Status


def experiment(mode: str, trials: int, parallel: int, **changes: Any) -> Experiment:
    data: dict[str, Any] = {
        "name": "scale",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": {"name": "random", "seed": 3},
        "limits": {"max_trials": trials, "parallel_trials": parallel, "max_failed_trials": trials},
        "trial": {"function": "module:train"},
        "argo": {"image": "user:1", "mode": mode},
    }
    return Experiment.parse(data | changes)


def outcome(trial: Trial) -> tuple[State, float]:
    """Every fiftieth trial fails, for good."""
    return (State.FAILED, 0.0) if trial.index % 50 == 7 else (State.SUCCEEDED, float(str(trial.assignment["x"])))


def heavy_tailed(pod: Pod) -> float:
    """Ten minutes in the median for a trial, log-normal with sigma 1; a second for any other step."""
    return 600 * math.exp(random.Random(pod.node).gauss(0, 1)) if pod.template == "trial" else 1.0


def simulate(of: Experiment, **settings: Any) -> tuple[Simulator, FastPrograms, str]:
    cluster = FakeCluster()
    programs = FastPrograms(of, cluster, outcome, settings.pop("seconds", heavy_tailed))
    simulator = Simulator(programs, cluster=cluster, **settings)
    simulator.machine.keep = False
    name = simulator.submit(compile_experiment(of).to_dict())
    simulator.run()
    return simulator, programs, name


def busy(simulator: Simulator, parallel: int) -> float:
    """Share of the time of all lanes that trials ran."""
    begun = [each.started or 0.0 for each in simulator.workflows.values()]
    ended = [each.finished or 0.0 for each in simulator.workflows.values()]
    return simulator.machine.busy_seconds["trial"] / (max(ended) - min(begun)) / parallel


def check(simulator: Simulator, programs: FastPrograms, run: str, trials: int) -> None:
    """No trial is lost, none runs twice, no object outgrows Kubernetes, no recursion goes too deep."""
    record = programs.store.keyed(run)
    assert record is not None
    history = programs.store.history(record)
    assert {each.phase for each in simulator.workflows.values()} == {"Succeeded"}
    assert (record.status, record.reason) == (Status.SUCCEEDED, f"reached limits.max_trials ({trials})")
    assert len([trial for trial in history if trial.state is not State.KILLED]) == trials
    assert not history.open()
    assert set(programs.store.finals.values()) == {1}
    assert set(programs.evaluated.values()) == {1}
    assert [trial.id for trial in history if trial.state is State.FAILED] == [
        trial.id for trial in history if trial.index % 50 == 7 and trial.state is not State.KILLED
    ]
    assert max(each.deepest for each in simulator.workflows.values()) < 60
    assert max(each.largest_bytes for each in simulator.workflows.values()) < 600_000


def test_barrier_mode_needs_two_pods_an_iteration_beside_its_trials() -> None:
    simulator, programs, run = simulate(experiment("barrier", 1000, 10))
    check(simulator, programs, run, 1000)
    assert simulator.machine.started["trial"] == 1000
    assert simulator.machine.started["suggest"] == simulator.machine.started["collect-metrics"] == 100
    assert simulator.machine.started["handover"] == len(simulator.workflows) - 1
    assert simulator.machine.started["finish"] == len(simulator.workflows)


def test_lanes_are_busy() -> None:
    simulator, programs, run = simulate(experiment("lanes", 1000, 10))
    check(simulator, programs, run, 1000)
    assert busy(simulator, 10) >= 0.9  # the end of the experiment, when one lane after another has no more, included
    assert simulator.machine.started["suggest"] <= 1000 + 3 * len(simulator.workflows) * 10
    assert simulator.machine.started["handover"] == len(simulator.workflows) - 1


def test_one_of_many_lanes_that_begin_their_last_turn_at_once_hands_over() -> None:
    simulator, programs, run = simulate(experiment("lanes", 300, 12), seconds=lambda pod: 5.0)
    check(simulator, programs, run, 300)
    assert simulator.machine.started["handover"] == len(simulator.workflows) - 1 > 1


def test_a_barrier_is_not() -> None:
    simulator, _, _ = simulate(experiment("barrier", 200, 10))
    assert busy(simulator, 10) < 0.5  # each iteration waits for the slowest of ten


def test_where_the_lane_that_hands_over_cannot_the_segment_does_when_its_lanes_have_ended() -> None:
    class Refused(FastPrograms):
        def _run(self, pod: Pod) -> Result:
            return Result(2) if pod.template == "handover" and ".lane(" in pod.node else super()._run(pod)

    of, cluster = (
        experiment("lanes", 60, 4, argo={"image": "u:1", "mode": "lanes", "iterations_per_segment": 5}),
        FakeCluster(),
    )
    programs = Refused(of, cluster, outcome, heavy_tailed)
    simulator = Simulator(programs, cluster=cluster)
    run = simulator.submit(compile_experiment(of).to_dict())
    simulator.run()
    check(simulator, programs, run, 60)


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
@pytest.mark.parametrize("seed", range(3))
def test_faults_of_machines_lose_no_trial_repeat_none_and_are_nobodys_failure(mode: str, seed: int) -> None:
    faults = Random(seed, 0.01)
    simulator, programs, run = simulate(experiment(mode, 400, 8), faults=faults)
    check(simulator, programs, run, 400)
    assert sum(faults.drawn.values()) >= 30


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_a_bad_day_and_a_controller_that_restarts_all_the_time_change_nothing(mode: str) -> None:
    def restart(simulator: Simulator, name: str) -> None:
        if simulator.looks % 5 == 0:
            simulator.restart_controller()

    faults = Random(5, 0.05, kinds=INFRASTRUCTURE)
    of = experiment(mode, 40, 4)
    simulator, programs, run = simulate(of, faults=faults, before_each=[restart], costs=Costs())
    check(simulator, programs, run, 40)
    assert sum(faults.drawn.values()) >= 15


SEGMENTS = [(1, "a"), (4, "a" * 45), (10, "scale"), (10, "a" * 45), (40, "a" * 30), (100, "scale")]


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
@pytest.mark.parametrize(("parallel", "name"), SEGMENTS, ids=[f"{each[0]}-{len(each[1])}" for each in SEGMENTS])
def test_a_segment_fills_its_workflow_and_does_not_outgrow_it(mode: str, parallel: int, name: str) -> None:
    of = experiment(mode, 100_000, parallel, name=name, description="d" * 20_000)
    cluster = FakeCluster()
    programs = FastPrograms(of, cluster, outcome, lambda pod: 30.0)
    simulator = Simulator(programs, cluster=cluster, costs=FREE)
    first = simulator.submit(compile_experiment(of).to_dict())
    while not simulator[first].completed:
        simulator.step()
    assert simulator[first].largest_bytes < 600_000
    if simulator[first].deepest < 40 and parallel < 100:
        assert simulator[first].largest_bytes > 400_000
