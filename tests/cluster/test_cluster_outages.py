"""What goes wrong around an experiment on a real cluster, and what becomes of it.

MLflow and Argo's controller are stopped and started by commands that the environment gives: KATIB_FLOW_STOP_MLFLOW,
KATIB_FLOW_START_MLFLOW, KATIB_FLOW_STOP_CONTROLLER, KATIB_FLOW_START_CONTROLLER, split into words as a shell would.
"""

import time

import pytest
from cluster_kit import Bench, Hook
from searches import SLEEPS

from katib_flow.argo.cluster import WORKFLOW
from katib_flow.argo.submit import Following, go_on, standing
from katib_flow.history import State
from katib_flow.tracking import Status

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
NOWHERE = "registry.invalid/katib-flow:none"


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_what_argo_terminated_is_started_again_first(bench: Bench, mode: str) -> None:
    limits = {"max_trials": 4, "parallel_trials": 2, "max_failed_trials": 0}
    run = bench.run(parameters=SLEEPS, limits=limits, argo={"mode": mode})
    run.running_trial()
    bench.cluster.patch(WORKFLOW, run.name, {"spec": {"shutdown": "Terminate"}})
    run.until(lambda: bench.phase(run.name) == "Failed", "the Workflow's end")
    cut_short = {trial.id for trial in run.trials.open()}
    assert cut_short, "no exit handler has closed them"
    go_on(bench.cluster, bench.store, run.record)
    run.begun = time.monotonic()
    assert run.wait(segment=1) is Status.SUCCEEDED, run.record.reason
    done = [trial for trial in run.trials if trial.state is State.SUCCEEDED]
    assert len(done) == 4
    assert cut_short <= {trial.id for trial in done}
    assert {trial.state for trial in run.trials} <= {State.SUCCEEDED, State.KILLED}


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_mlflow_away_for_four_minutes_costs_no_trial_and_adds_none(bench: Bench, mode: str, mlflow_hook: Hook) -> None:
    limits = {"max_trials": 8, "parallel_trials": 4, "max_failed_trials": 0}
    run = bench.run(parameters=SLEEPS, limits=limits, argo={"mode": mode})
    run.running_trial()
    with mlflow_hook.away():
        time.sleep(240)
    trials = run.ends(f"MLflow away for 4 min, {mode}", turns=2)
    assert [trial.state for trial in trials if trial.state is not State.KILLED] == [State.SUCCEEDED] * 8


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_a_controller_that_is_away_goes_on_where_it_was(bench: Bench, mode: str, controller_hook: Hook) -> None:
    run = bench.run(parameters=SLEEPS, limits={"max_trials": 4, "parallel_trials": 2}, argo={"mode": mode})
    run.running_trial()
    with controller_hook.away():
        time.sleep(30)
    trials = run.ends(f"controller away for 30 s, {mode}", turns=2)
    assert [trial.state for trial in trials if trial.state is not State.KILLED] == [State.SUCCEEDED] * 4
    assert {trial.retries for trial in trials} == {0}


def test_an_image_that_cannot_be_pulled_is_told_by_name(bench: Bench) -> None:
    run = bench.run(argo={"image": NOWHERE, "image_pull_policy": "IfNotPresent"})
    said: list[str] = []
    following = Following(bench.cluster, run.name, bench.store, say=said.append)

    def told() -> bool:
        assert following.look() is None, "it waits"
        return bool(said)

    run.until(told, "word of the image")
    assert said[0].startswith(f"suggest waits: the image {NOWHERE} cannot be pulled: ")
    state, waiting = standing(bench.cluster, run.name)
    assert state == f"{run.name} Running"
    assert NOWHERE in waiting[0]
    bench.cluster.delete(WORKFLOW, run.name)
