"""Resource trials in the simulator: their watchers are real programs, their Jobs those of a namespace in memory."""

from pathlib import Path
from typing import Any

import pytest
from experiments import Cluster, Run, experiment
from test_simulator_steps import cluster, uri

from katib_flow.argo.cluster import POD
from katib_flow.history import State
from katib_flow.testing.argo import Fault, Scripted, Simulator
from katib_flow.tracking import Status

__all__ = ["cluster", "uri"]
pytestmark = pytest.mark.slow
JOB = ("batch/v1", "Job")
MAIN = {"name": "main", "image": "any", "args": ["${x}"]}
MANIFEST = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": {"containers": [MAIN]}}}}


def controller(simulator: Simulator, *, works: bool = True) -> list[str]:
    """Have Jobs run at once as the trial's function does; their names, in the order they were created."""
    names: list[str] = []
    namespace: Any = simulator.cluster

    def created(job: dict[str, Any]) -> None:
        if job["kind"] != "Job":
            return
        name, x = job["metadata"]["name"], float(job["spec"]["template"]["spec"]["containers"][0]["args"][0])
        names.append(name)
        namespace.add_pod(f"{name}-abcde")
        namespace.print_(f"{name}-abcde", f"score={x / 2!r}\nscore={x!r}")
        ended = "Complete" if works else "Failed"
        namespace.set_status(JOB, name, conditions=[{"type": ended, "status": "True", "message": "as told"}])

    namespace.on_create.append(created)
    return names


def submit(cluster: Cluster, mode: str, *, works: bool = True, **settings: Any) -> tuple[Run, list[str]]:
    names: list[str] = []

    def prepare(simulator: Simulator) -> None:
        made = controller(simulator, works=works)
        simulator.run()
        names.extend(made)

    of = experiment(trial={"resource": {"manifest": MANIFEST}}, argo={"image": "user:1", "mode": mode})
    return cluster.submit(of, prepare=prepare, **settings), names


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_jobs_as_trials_are_the_same_search_as_a_function_here(cluster: Cluster, mode: str) -> None:
    run, names = submit(cluster, mode)
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "all 7 trials have run")
    ours = [(trial.id, trial.assignment, trial.state, trial.observations) for trial in run.trials]
    here = cluster.here(experiment(argo={"image": "user:1", "mode": mode}))
    assert ours == [(trial.id, trial.assignment, trial.state, trial.observations) for trial in here]
    assert sorted(names) == [f"{run.run}-{trial.id}" for trial in run.trials]
    assert run.simulator.cluster.find(JOB, {}) == []
    assert len(run.simulator.cluster.find(POD, {})) == 7  # of Jobs: nobody told the fake that they belong to them


def test_failed_jobs_are_failed_trials_with_their_message(cluster: Cluster, tmp_path: Path) -> None:
    run, _ = submit(cluster, "barrier", works=False)
    assert {trial.state for trial in run.trials} == {State.FAILED}
    assert all("as told" in trial.message for trial in run.trials)


def test_a_watcher_that_is_deleted_is_tried_again_and_creates_no_second_job(cluster: Cluster) -> None:
    faults = Scripted({"trial(0:t00000)(0)": Fault.DELETED})
    run, names = submit(cluster, "barrier", faults=faults)
    assert run.record.status is Status.SUCCEEDED
    assert len(set(names)) == len(names) == 7
