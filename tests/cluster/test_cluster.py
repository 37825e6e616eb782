"""What only a real Argo and a real Kubernetes can show. `make cluster-test`; skipped where there is no cluster."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import CODE, COUNT, Bench, container, job, pipeline
from hera.workflows import DAG, Workflow

import katib_flow as kf
from katib_flow.argo.cluster import POD, WORKFLOW
from katib_flow.argo.pods import POD_SPEC_PATCH
from katib_flow.argo.submit import go_on, segment_name
from katib_flow.history import History, State
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
HOSTILE = ['it\'s "q"\n{{workflow.name}} {{=1+1}} $(HOME) $$ ${x} `id` \\ \u2028 \U0001f600', "x" * 10_000]
SPELLED = ["1e-3", "010", "12:30", "~", "y", "null"]


def on_this_machine(experiment: Experiment, tmp_path: Path, monkeypatch: Any) -> History:
    """The same search here, by the function whose result every kind of trial reports."""
    monkeypatch.chdir(tmp_path)
    data = experiment.to_dict() | {"trial": {"function": "cluster_test:train", "code": CODE}}
    for key in ("argo", "tracking"):
        data.pop(key, None)
    data["limits"] = data["limits"] | {"max_trials": 2 * data["limits"]["max_trials"]}  # lanes may start later ones
    result = run_experiment(Experiment.parse(data), store=Store(f"sqlite:///{tmp_path}/local.db"), barrier=True)
    return result.history


def same(ours: History, theirs: History) -> None:
    """Trial by trial: the same suggestion, state and score. Lanes withdraw a trial that is one too many."""
    done = [trial for trial in ours if trial.state is not State.KILLED]
    assert len(done) == 4
    there = {trial.id: trial for trial in theirs}
    for mine, other in ((trial, there[trial.id]) for trial in done):
        assert (mine.assignment, mine.state) == (other.assignment, other.state)
        assert math.isclose(mine.observations["score"], other.observations["score"], rel_tol=1e-12)


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
@pytest.mark.parametrize("kind", ["function", "command", "container", "resource", "template"])
def test_every_kind_of_trial_in_both_modes(
    bench: Bench, kind: str, mode: str, tmp_path: Path, monkeypatch: Any
) -> None:
    halve = "import sys; print('score=' + repr(float(sys.argv[1]) / 2))"
    trial = {
        "function": lambda: {"function": "cluster_test:train", "code": CODE},
        "command": lambda: {"command": ["python3", "-c", halve, "${x}"]},
        "container": lambda: container(bench.image, 'python3 -c "$1" "$2"', halve, "${x}"),
        "resource": lambda: job(bench.image),
        "template": lambda: {"template": {
            "name": bench.create(pipeline(f"kf-{bench.tag}-{mode}", bench.image)), "arguments": {"x": "${x}"},
        }},
    }[kind]()  # fmt: skip
    run = bench.run(trial=trial, argo={"mode": mode})
    trials = run.ends(f"{kind}, {mode}", turns=2)
    same(trials, on_this_machine(run.experiment, tmp_path, monkeypatch))


def test_two_segments_are_one_experiment(bench: Bench, tmp_path: Path, monkeypatch: Any) -> None:
    run = bench.run(argo={"iterations_per_segment": 1})
    same(run.ends("two segments", turns=2), on_this_machine(run.experiment, tmp_path, monkeypatch))
    assert bench.phase(segment_name(run.name, 1)) == "Succeeded"
    assert bench.phase(segment_name(run.name, 2)) == "gone"


def test_users_failures_are_recorded_and_not_retried(bench: Bench) -> None:
    trials = bench.run(trial={"function": "cluster_test:faulty", "code": CODE}).ends()
    for trial in trials:
        failed = trial.assignment["x"] > 0.5  # type: ignore[operator]
        assert trial.state is (State.FAILED if failed else State.SUCCEEDED)
        assert trial.retries == 0


def test_a_deleted_pod_is_tried_again_and_is_no_failure(bench: Bench) -> None:
    parameters = {"x": {"type": "float", "min": 0, "max": 1}, "seconds": {"type": "categorical", "values": [30]}}
    run = bench.run(parameters=parameters, limits={"max_trials": 1})
    pod = run.running_pod()
    run.running_trial()
    bench.cluster.delete(POD, pod["metadata"]["name"])
    (trial,) = run.ends()
    assert (trial.state, trial.retries) == (State.SUCCEEDED, 1)


def test_a_trial_that_runs_out_of_memory_has_failed(bench: Bench) -> None:
    hungry = container(bench.image, "tail /dev/zero", resources={"limits": {"memory": "64Mi"}})
    (trial,) = bench.run(trial=hungry, limits={"max_trials": 1, "max_failed_trials": 9}).ends()
    assert (trial.state, trial.retries) == (State.FAILED, 0)
    assert trial.message == "its pod ended without a result: main: OOMKilled (exit code 137)"


def test_a_running_container_is_stopped_early(bench: Bench) -> None:
    script = "i=0; while [ $i -lt 600 ]; do echo score=0.5; i=$((i+1)); sleep 1; done"
    rule = {"name": "patience", "settings": {"patience": 3}}
    (trial,) = bench.run(trial=container(bench.image, script), early_stopping=rule, limits={"max_trials": 1}).ends(
        "early stopping", turns=1
    )
    assert trial.state is State.EARLY_STOPPED
    assert 4 <= len(trial.series["score"]) < 300
    assert "has not improved" in trial.message


def test_argo_stop_closes_every_run_and_the_experiment_goes_on_later(bench: Bench) -> None:
    parameters = {"x": {"type": "float", "min": 0, "max": 1}, "seconds": {"type": "categorical", "values": [20]}}
    run = bench.run(parameters=parameters, limits={"max_trials": 2, "parallel_trials": 1})
    run.running_trial()
    bench.cluster.patch(WORKFLOW, run.name, {"spec": {"shutdown": "Stop"}})
    assert run.wait() is Status.STOPPED
    assert all(trial.state.final for trial in run.trials)
    assert run.trials[0].state is State.KILLED
    go_on(bench.cluster, bench.store, run.record)
    run.begun = time.monotonic()
    assert run.wait(segment=1) is Status.SUCCEEDED
    assert [trial.state for trial in run.trials] == [State.SUCCEEDED] * 2


def test_pause_lets_running_trials_finish_and_resume_gives_more(bench: Bench) -> None:
    parameters = {"x": {"type": "float", "min": 0, "max": 1}, "seconds": {"type": "categorical", "values": [10]}}
    run = bench.run(parameters=parameters, limits={"max_trials": 2, "parallel_trials": 1})
    run.running_trial()
    bench.store.set_control(run.record, pause=True)
    assert run.wait() is Status.PAUSED
    assert [trial.state for trial in run.trials] == [State.SUCCEEDED]
    go_on(bench.cluster, bench.store, run.record, max_trials=3)
    run.begun = time.monotonic()
    assert run.wait(segment=1) is Status.SUCCEEDED
    assert [trial.state for trial in run.trials] == [State.SUCCEEDED] * 3


@pytest.mark.parametrize("kind", ["command", "container"])
def test_hostile_values_reach_the_trial_byte_for_byte(bench: Bench, kind: str) -> None:
    parameters = {
        "n": {"type": "categorical", "values": [*HOSTILE, *SPELLED]},
        "y": {"type": "categorical", "values": ["on"]},
    }
    program = (
        "import hashlib, sys; print('score=' + str(int(hashlib.sha256(sys.argv[1].encode()).hexdigest()[:12], 16)))"
    )
    words = ["python3", "-c", program, "${n}"]
    trial = {"command": words} if kind == "command" else {"container": {"image": bench.image, "command": words}}
    count = len(HOSTILE) + len(SPELLED)
    run = bench.run(
        parameters=parameters, trial=trial, algorithm="grid", limits={"max_trials": count, "parallel_trials": 4}
    )
    import hashlib

    for each in run.ends():
        expected = int(hashlib.sha256(str(each.assignment["n"]).encode()).hexdigest()[:12], 16)
        assert each.observations["score"] == expected, each.assignment
    assert {trial.assignment["n"] for trial in run.trials} == {*HOSTILE, *SPELLED}


def wait_for(bench: Bench, workflow: str) -> dict[str, Any]:
    until = time.monotonic() + 600
    while bench.phase(workflow) not in ("Succeeded", "Failed", "Error"):
        assert time.monotonic() < until, workflow
        time.sleep(2)
    return bench.cluster.get(WORKFLOW, workflow)


def test_an_experiment_from_the_template_and_no_python_here(bench: Bench) -> None:
    experiment = bench.experiment(limits={"max_trials": 1})
    bench.names.add(experiment.name)
    arguments = {"parameters": [{"name": "spec", "value": json.dumps(experiment.to_dict())}]}
    spec = {"workflowTemplateRef": {"name": bench.template()}, "arguments": arguments}
    manifest = {"apiVersion": WORKFLOW[0], "kind": "Workflow", "metadata": {"generateName": "kf-from-"}, "spec": spec}
    ended = wait_for(bench, bench.create(manifest))
    assert ended["status"]["phase"] == "Succeeded", ended["status"].get("message")
    (record,) = [each for each in bench.store.records() if each.name == experiment.name]
    assert record.status is Status.SUCCEEDED


def test_an_experiment_inside_another_dag_gives_its_best(bench: Bench) -> None:
    experiment = bench.experiment(limits={"max_trials": 2})
    bench.names.add(experiment.name)
    with Workflow(
        api_version=WORKFLOW[0], kind="Workflow", generate_name="kf-dag-", entrypoint="main",
        service_account_name="kf-executor", pod_spec_patch=POD_SPEC_PATCH,
    ) as workflow, DAG(name="main"):  # fmt: skip
        kf.experiment_task(experiment, name="tune", template=bench.template())
    ended = wait_for(bench, bench.create(workflow.to_dict()))
    assert ended["status"]["phase"] == "Succeeded", ended["status"].get("message")
    (record,) = [each for each in bench.store.records() if each.name == experiment.name]
    best = experiment.best(bench.store.history(record))
    assert best is not None
    found = {
        parameter["name"]: parameter["value"]
        for node in ended["status"]["nodes"].values()
        if node["displayName"] == "tune"
        for parameter in node["outputs"]["parameters"]
    }
    assert json.loads(found["best-parameters"]) == best.assignment
    assert found["run-id"] == record.run_id


def test_an_architecture_is_built_trained_and_kept(bench: Bench, nas_image: str) -> None:
    run = bench.run(
        architecture="cell",
        parameters={},
        trial={"function": "cluster_test:train", "code": COUNT},
        argo={"image": nas_image},
        limits={"max_trials": 2, "parallel_trials": 2},
    )
    trials = run.ends("architectures", turns=1)
    assert all(trial.observations["score"] > 0 for trial in trials)
    for trial in trials:
        assert bench.store.read_artifact(trial.run_id, "topology.json").stat().st_size > 0
