"""Experiments from outside: submitted, followed over segments, gone on with, run as a step of another workflow."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hera.workflows import DAG, Workflow

import katib_flow as kf
from katib_flow.argo.cluster import WORKFLOW
from katib_flow.argo.spec_text import decode_spec
from katib_flow.argo.steps import experiment as step
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.argo.submit import Following, go_on, submit
from katib_flow.errors import KatibFlowError
from katib_flow.history import State
from katib_flow.spec import Experiment
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Change, Status, Store


def experiment(**changes: Any) -> Experiment:
    data = {
        "name": "outside",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "int", "min": 1, "max": 9}},
        "limits": {"max_trials": 2, "parallel_trials": 2},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1"},
    }
    return Experiment.parse(data | changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(namespace="ml", _made=time.monotonic_ns() % 90_000)  # names that no other test has


def end(store: Store, run: str, status: Status, scores: tuple[float, ...] = (1.0, 3.0)) -> None:
    """An experiment as its steps leave it."""
    context = Context(store, store.create(experiment(), key=run), 0)
    suggest_iteration(context, 1)
    trials = list(store.history(context.record))
    done = [
        replace(trial, state=State.SUCCEEDED, observations={"score": score})
        for trial, score in zip(trials, scores, strict=True)
    ]
    store.write(context.record, [Change(trial) for trial in done])
    store.summarise(context.record, store.history(context.record), status, "it is over")


def phases(cluster: FakeCluster, *then: Callable[[], None]) -> Callable[[float], None]:
    events = list(then)

    def sleep(_: float) -> None:
        events.pop(0)()

    return sleep


def test_each_submit_is_an_experiment_of_its_own(cluster: FakeCluster) -> None:
    names = {submit(cluster, experiment()) for _ in range(2)}
    assert len(names) == 2
    for name in names:
        assert cluster.object(WORKFLOW, name)["metadata"]["namespace"] == "ml"
    assert submit(cluster, experiment(), "given") == submit(cluster, experiment(), "given") == "given"
    with pytest.raises(KatibFlowError, match="workflow given: found one of another experiment"):
        submit(cluster, experiment(name="other"), "given")


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.STOPPED, Status.PAUSED])
def test_an_experiment_is_followed_over_its_segments_to_its_end(
    cluster: FakeCluster, store: Store, status: Status
) -> None:
    run = submit(cluster, experiment())

    def second_segment() -> None:
        cluster.set_status(WORKFLOW, run, phase="Succeeded")
        submit(cluster, experiment(), f"{run}-s1")

    def over() -> None:
        end(store, run, status)
        cluster.set_status(WORKFLOW, f"{run}-s1", phase="Failed" if status is Status.FAILED else "Succeeded")

    running = lambda: cluster.set_status(WORKFLOW, run, phase="Running")  # noqa: E731
    shown: list[int] = []
    following = Following(
        cluster,
        run,
        store,
        show=lambda f: shown.append(f.segment),
        sleep=phases(cluster, running, second_segment, over),
    )
    assert following.wait() is status
    assert shown == [0, 0, 1, 1]
    assert following.record is not None
    assert following.record.reason == "it is over"


def test_without_mlflow_the_workflow_tells_how_it_ended(cluster: FakeCluster) -> None:
    run = submit(cluster, experiment())
    ends = phases(cluster, lambda: cluster.set_status(WORKFLOW, run, phase="Failed"))
    assert Following(cluster, run, sleep=ends).wait() is Status.FAILED


def test_a_stopped_experiment_goes_on_in_its_next_segment_with_more_trials(cluster: FakeCluster, store: Store) -> None:
    run = submit(cluster, experiment())
    end(store, run, Status.STOPPED)
    record = store.keyed(run)
    assert record is not None
    store.set_control(record, stop=True)
    with pytest.raises(KatibFlowError, match=f"outside: is already running as workflow {run}"):
        go_on(cluster, store, record)
    cluster.set_status(WORKFLOW, run, phase="Failed")
    assert go_on(cluster, store, record, max_trials=5) == f"{run}-s1"
    parameters = cluster.object(WORKFLOW, f"{run}-s1")["spec"]["arguments"]["parameters"]
    given = {each["name"]: each["value"] for each in parameters}
    assert (given["run"], given["segment"]) == (run, "1")
    control = store.control(record)
    assert (control.stop, control.pause, control.max_trials) == (False, False, 5)
    assert suggest_iteration(Context(store, record, 1), 1) == ["t00002", "t00003"]


def test_time_that_is_up_is_up_for_the_next_segment_too_unless_it_gets_more(cluster: FakeCluster, store: Store) -> None:
    run = submit(cluster, experiment(limits={"max_trials": 9, "timeout": "1h"}))
    assert cluster.object(WORKFLOW, run)["spec"]["activeDeadlineSeconds"] == 3600 + 1800
    cluster.set_status(WORKFLOW, run, phase="Succeeded")
    record = store.create(experiment(limits={"max_trials": 9, "timeout": "1h"}), key=run)
    ended = replace(record, ended=record.started + 3601)
    go_on(cluster, store, ended)
    assert cluster.object(WORKFLOW, f"{run}-s1")["spec"]["activeDeadlineSeconds"] == 1800
    assert suggest_iteration(Context(store, record, 1), 1) == []
    cluster.set_status(WORKFLOW, f"{run}-s1", phase="Succeeded")
    go_on(cluster, store, ended, timeout=3 * 3600)
    spent = store.control(record).spent
    assert store.control(record).timeout == 3 * 3600
    deadline = cluster.object(WORKFLOW, f"{run}-s2")["spec"]["activeDeadlineSeconds"]
    assert deadline == int(3 * 3600 - spent) + 1800
    assert suggest_iteration(Context(store, record, 2), 1) != []


class NoSignal(step.Termination):
    """Requested by the test alone."""

    def __init__(self) -> None:
        self.requested = False


def test_a_step_runs_an_experiment_and_gives_its_best(
    cluster: FakeCluster, store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    name = step.workflow_name(experiment(), f"uid-{tmp_path}", "pipeline.tune")
    assert name == step.workflow_name(experiment(), f"uid-{tmp_path}", "pipeline.tune(2)")

    def over() -> None:
        end(store, name, Status.SUCCEEDED)
        cluster.set_status(WORKFLOW, name, phase="Succeeded")

    assert step.run(cluster, experiment(), name, tmp_path, termination=NoSignal(), sleep=phases(cluster, over)) == 0
    assert step.run(cluster, experiment(), name, tmp_path, termination=NoSignal()) == 0  # tried again, it finds it
    record = store.keyed(name)
    assert record is not None
    best = record.experiment.best(store.history(record))
    assert best is not None
    found = {each: (tmp_path / each).read_text() for each in step.OUTPUTS}
    assert json.loads(found["best-parameters"]) == best.assignment
    assert (found["best-value"], found["run-id"]) == ("3.0", record.run_id)
    assert found["best-model-uri"] == "", "no trial has kept a model"
    for model in ("weights.safetensors", "model/MLmodel"):  # MLflow's own model is what others can load
        file = tmp_path / Path(model).name
        file.write_text("a model")
        store.write(record, [Change(best, artifacts={model: file})])
        assert step.run(cluster, experiment(), name, tmp_path, termination=NoSignal()) == 0
        uri = (tmp_path / "best-model-uri").read_text()
        assert uri == f"runs:/{best.run_id}/{model.partition('/')[0]}"


def test_a_step_that_is_told_to_go_stops_its_experiment(
    cluster: FakeCluster, store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    name, termination = step.workflow_name(experiment(), f"uid-{tmp_path}", "x"), NoSignal()
    record = store.create(experiment(), key=name)
    termination.requested = True
    assert step.run(cluster, experiment(), name, tmp_path, termination=termination) == 143
    assert store.control(record).stop is True


def test_a_spec_for_a_step_may_be_yaml_json_or_katibs() -> None:
    assert step.experiment_of(json.dumps(experiment().to_dict())) == experiment()
    with pytest.raises(KatibFlowError, match="found nothing, need a spec as text"):
        step.experiment_of(" ")


def test_an_experiment_is_a_task_of_somebodys_dag() -> None:
    with Workflow(name="pipeline", entrypoint="main") as workflow, DAG(name="main"):
        task = kf.experiment_task(experiment(), name="tune", cluster_scope=True)
        assert task.get_parameter("best-parameters").value == "{{tasks.tune.outputs.parameters.best-parameters}}"
    made = workflow.to_dict()["spec"]["templates"][0]["dag"]["tasks"][0]
    assert made["templateRef"] == {"name": "katib-flow", "template": "run-experiment", "clusterScope": True}
    (parameter,) = made["arguments"]["parameters"]
    assert decode_spec(parameter["value"], "spec") == experiment()
