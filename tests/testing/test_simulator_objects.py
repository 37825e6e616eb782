"""Trials that are objects in the simulator: their watchers are the real programs, their pods real processes."""

from typing import Any

import pytest
from experiments import Cluster, Run, experiment, seen
from shapes import pod
from test_simulator_steps import cluster, needs_busybox, uri

from katib_flow.argo.cluster import POD, WORKFLOW, Kind
from katib_flow.history import State
from katib_flow.spec import Experiment
from katib_flow.testing.argo import Fault, Scripted, Simulator
from katib_flow.testing.argo.jobs import JOB, PYTORCH_JOB, Jobs
from katib_flow.tracking import Status

__all__ = ["cluster", "uri"]
pytestmark = pytest.mark.slow
SCORES = "import sys; x = float(sys.argv[1]); print(f'score={x / 2!r}'); print(f'score={x!r}')"
FAULTY = """\
import sys
x = float(sys.argv[1])
if x > 0.75:
    sys.exit("too high")
print("nothing to report" if x > 0.5 else f"score={x!r}")
"""
CURVE = "for step in range(40): print(f'score={min(step, 2)} step={step}')"
TRIALS = {JOB: "Job", PYTORCH_JOB: "PyTorchJob", WORKFLOW: "template"}


def template(program: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "image": "any", "command": ["python3", "-c", program, "${x}"]}]}}


def of_objects(kind: Kind, program: str = SCORES, **changes: Any) -> Experiment:
    """An experiment whose trials are objects of a kind, each of which runs a program."""
    primary: dict[str, Any] = {}
    spec: dict[str, Any] = {"template": template(program)}
    if kind == PYTORCH_JOB:
        worker = template("print('score=9')")  # of another pod than the one whose log counts
        spec = {"pytorchReplicaSpecs": {"Master": {"template": template(program)}, "Worker": {"template": worker}}}
        primary = {"primary_pod_labels": {"training.kubeflow.org/replica-type": "master"}}
    trial: dict[str, Any] = {
        "resource": {"manifest": {"apiVersion": kind[0], "kind": kind[1], "spec": spec}, **primary}
    }
    if kind == WORKFLOW:
        trial = {"template": {"name": "pipeline", "arguments": {"x": "${x}"}}}
    changes["argo"] = {"image": "user:1", **changes.get("argo", {})}
    return experiment(trial=trial, **changes)


def pipeline(program: str) -> dict[str, Any]:
    """A WorkflowTemplate of the user's: a program whose output parameter is the metric."""
    write = f"import pathlib, sys\nscore = {program}\npathlib.Path(sys.argv[2]).write_text(score)"
    step = pod("main", inputs=("x",), outputs={"score": {}})
    mount = [{"name": "kf", "mountPath": "/kf"}]
    step["container"] |= {"command": ["python3", "-c", write], "args": ["{{inputs.parameters.x}}", "/kf/score"]}
    step["container"]["volumeMounts"], step["volumes"] = mount, [{"name": "kf", "emptyDir": {}}]
    given = {"parameters": [{"name": "x"}]}
    outputs = {"parameters": [{"name": "score", "valueFrom": {"parameter": "{{steps.work.outputs.parameters.score}}"}}]}
    call = {
        "name": "work",
        "template": "main",
        "arguments": {"parameters": [{"name": "x", "value": "{{workflow.parameters.x}}"}]},
    }
    whole = {"name": "whole", "steps": [[call]], "outputs": outputs}
    spec = {"entrypoint": "whole", "arguments": given, "templates": [whole, step]}
    kind = {"apiVersion": WORKFLOW[0], "kind": "WorkflowTemplate", "metadata": {"name": "pipeline"}}
    return {**kind, "spec": spec}


def submit(
    cluster: Cluster,
    of: Experiment,
    then: Any = Simulator.run,
    *,
    seconds: float = 12,
    score: str = "sys.argv[1]",
    **settings: Any,
) -> tuple[Run, list[Any]]:
    """Run an experiment, each trial's object for some seconds; what was created of the trials' kind, in order.

    Args:
        score: what the pipeline gives, where the trials are one.
    """
    made: list[Any] = []

    def prepare(simulator: Simulator) -> None:
        Jobs(simulator, cluster.workdir, seconds)
        simulator.programs.seconds = lambda pod: seconds if pod.template == "main" else 5.0  # type: ignore[union-attr]
        simulator.cluster.create(pipeline(score))
        simulator.cluster.on_create.append(
            lambda each: made.append(each) if "-t0" in each["metadata"]["name"] else None
        )
        then(simulator)

    run = cluster.submit(of, prepare=prepare, **settings)
    return run, [each for each in made if each["kind"] != "Pod"]


def nothing_is_left(run: Run, kind: Kind) -> bool:
    there = [each for each in run.simulator.cluster.find(kind, {}) if "-t0" in each["metadata"]["name"]]
    return not there and not run.simulator.cluster.find(POD, {})


@pytest.mark.parametrize(("kind", "mode"), [(JOB, "barrier"), (JOB, "lanes"), (PYTORCH_JOB, "barrier")])
def test_jobs_as_trials_are_the_same_search_as_a_function_here(cluster: Cluster, kind: Kind, mode: str) -> None:
    run, made = submit(cluster, of_objects(kind, argo={"mode": mode}))
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (7)")
    assert seen(run.trials) == seen(cluster.here(experiment(argo={"image": "user:1", "mode": mode})))
    assert sorted(each["metadata"]["name"] for each in made) == [f"{run.run}-{trial.id}" for trial in run.trials]
    assert nothing_is_left(run, kind)
    pods = [each for each in run.simulator.machine.history if each.template == "trial"]
    assert {each.ended - each.created for each in pods if each.ended} <= {14.0, 15.0, 16.0}  # 12 s a Job, on its clock


def test_a_template_as_a_trial_is_a_workflow_whose_outputs_are_the_metrics(cluster: Cluster) -> None:
    run, made = submit(cluster, of_objects(WORKFLOW))
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (7)")
    here = cluster.here(experiment())
    ours = [(trial.id, trial.assignment, trial.state, trial.observations) for trial in run.trials]
    assert ours == [(trial.id, trial.assignment, trial.state, trial.observations) for trial in here]
    assert len(made) == 7
    assert {each.phase for each in run.workflows} == {"Succeeded"}
    assert len(run.workflows) == 1 + 7
    assert nothing_is_left(run, WORKFLOW)


def test_failed_jobs_are_failed_trials_and_silent_ones_have_no_metrics(cluster: Cluster) -> None:
    run, _ = submit(cluster, of_objects(JOB, FAULTY))
    here = cluster.here(experiment(trial={"function": "simulated_user:faulty"}))
    assert [(trial.state, trial.observations) for trial in run.trials] == [
        (trial.state, trial.observations) for trial in here
    ]
    failed = [trial.message for trial in run.trials if trial.state is State.FAILED]
    assert failed
    assert all(message.endswith("failed: BackoffLimitExceeded: its pod ended with exit code 1") for message in failed)
    assert nothing_is_left(run, JOB)


@pytest.mark.parametrize("fault", [Fault.DELETED, Fault.HALFWAY, Fault.EVICTED, Fault.LOST, Fault.OUTPUT])
def test_a_watcher_that_is_lost_is_tried_again_and_goes_on_with_its_job(cluster: Cluster, fault: Fault) -> None:
    faults = Scripted({"trial(0:t00000)(0)": fault, "trial(2:t00005)(0)": fault})
    run, made = submit(cluster, of_objects(JOB), faults=faults)
    assert len(faults.struck) == 2
    assert run.record.status is Status.SUCCEEDED
    assert seen(run.trials) == seen(cluster.here(experiment()))
    assert len({each["metadata"]["name"] for each in made}) == len(made) == 7
    again = fault in (Fault.HALFWAY, Fault.EVICTED)  # in the midst of a trial that had begun
    assert [trial.retries for trial in run.trials] == [again, 0, 0, 0, 0, again, 0]
    assert nothing_is_left(run, JOB)


def test_an_early_stop_deletes_the_job_long_before_its_end(cluster: Cluster) -> None:
    rule = {"name": "patience", "settings": {"patience": 3}}
    of = of_objects(JOB, CURVE, early_stopping=rule, limits={"max_trials": 2, "parallel_trials": 2})
    run, made = submit(cluster, of, seconds=400)
    assert len(made) == 2
    for trial in run.trials:
        assert (trial.state, trial.observations) == (State.EARLY_STOPPED, {"score": 2.0})
        assert len(trial.series["score"]) < 15  # of 40
    assert nothing_is_left(run, JOB)
    [workflow] = run.workflows
    assert workflow.finished is not None
    assert workflow.finished - workflow.created < 300


@pytest.mark.parametrize("kind", [JOB, WORKFLOW], ids=TRIALS.get)
def test_argo_stop_leaves_no_object_behind(cluster: Cluster, kind: Kind) -> None:
    def stop(simulator: Simulator) -> None:
        simulator.run(until=simulator.now + 17)
        name = next(iter(simulator.workflows))
        there = [each for each in simulator.cluster.names(kind) if "-t0" in each]
        assert len(there) == 3, "its trials run"
        simulator.stop(name)
        simulator.run()

    run, made = submit(cluster, of_objects(kind), stop, seconds=60)
    assert len(made) == 3
    assert (run.record.status, run.record.reason) == (Status.STOPPED, "stopped in Argo; resume it to continue")
    assert {trial.state for trial in run.trials} == {State.KILLED}
    assert nothing_is_left(run, kind)


TEXT = "a b'\"$(touch x) {{workflow.name}} $(HOME) {{=1}} \\ é"
SCORE = "(lambda x, scale, text: str(float(x) * float(scale) + len(text)))(*sys.argv[1].split('|'))"


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
@pytest.mark.parametrize("kind", [pytest.param("container", marks=needs_busybox), "resource", "template"])
def test_the_constants_of_a_trial_stand_where_they_are_named(cluster: Cluster, kind: str, mode: str) -> None:
    argv = ["python3", "-c", f"import sys; print('score=' + {SCORE})", "${x}|${scale}|${text}"]
    containers = [{"name": "main", "image": "any", "command": argv}]
    trials: dict[str, Any] = {
        "container": {"image": "any:1", "command": argv},
        "resource": {
            "manifest": {
                "apiVersion": JOB[0],
                "kind": JOB[1],
                "spec": {"template": {"spec": {"containers": containers}}},
            }
        },
        "template": {"name": "pipeline", "arguments": {"x": argv[-1]}},
    }
    text = TEXT.replace("{{", "{") if kind == "template" else TEXT  # Argo substitutes in what a Workflow is given
    constants = {"scale": 3, "text": text}
    of = experiment(
        trial={kind: trials[kind], "arguments": constants},
        argo={"image": "user:1", "mode": mode},
        limits={"max_trials": 1},
    )
    run, _ = submit(cluster, of, score=SCORE)
    (trial,) = run.trials
    assert (trial.state, set(trial.assignment)) == (State.SUCCEEDED, {"x"})
    assert trial.observations["score"] == pytest.approx(3 * trial.assignment["x"] + len(text))
