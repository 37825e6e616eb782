"""Compiled experiments run to their end in the simulator, and are what they are on this machine."""

from pathlib import Path
from typing import Any

import pytest
from experiments import MODULE, Cluster, experiment, seen
from kit import needs_busybox

from katib_flow.argo import compile_experiment
from katib_flow.argo.submit import go_on
from katib_flow.history import State
from katib_flow.testing.argo import Fault, Scripted, Simulator
from katib_flow.testing.argo.real import StepPrograms
from katib_flow.tracking import Status, Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def cluster(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    workdir = tmp_path / "image"
    workdir.mkdir()
    (workdir / "simulated_user.py").write_text(MODULE)
    monkeypatch.chdir(workdir)
    return Cluster(uri, tmp_path, workdir)


@pytest.mark.parametrize("function", ["train", "faulty"])
@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_the_trials_are_those_of_the_local_scheduler(cluster: Cluster, mode: str, function: str) -> None:
    of = experiment(argo={"image": "user:1", "mode": mode}, trial={"function": f"simulated_user:{function}"})
    run = cluster.submit(of)
    assert [each.phase for each in run.workflows] == ["Succeeded"]
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (7)")
    assert seen(run.trials) == seen(cluster.here(of))
    assert run.simulator.machine.started["trial"] == 7


def test_a_command_gets_its_arguments_as_they_are(cluster: Cluster) -> None:
    nasty = "a b'\"\n$(touch x) {{workflow.name}} $(HOME) $$ {{=1}} \\ é"
    program = "import sys; print(f'score={len(sys.argv[1])}')"
    of = experiment(
        parameters={"text": {"type": "categorical", "values": [nasty, "{{item}}"]}},
        trial={"command": ["python3", "-c", program, "${text}"]},
        limits={"max_trials": 4, "parallel_trials": 2},
    )
    run = cluster.submit(of)
    assert [trial.observations["score"] for trial in run.trials] == [
        len(trial.assignment["text"]) for trial in run.trials
    ]
    assert seen(run.trials) == seen(cluster.here(of))


@needs_busybox
def test_a_container_of_any_image_runs_between_prepare_and_collector(cluster: Cluster) -> None:
    script = 'echo "score=$1"; [ "$(echo "$1" | cut -c3)" -lt 2 ] || exit 3'
    container = {"image": "any:1", "command": ["sh", "-c", script, "sh", "${x}"]}
    of = experiment(trial={"container": container}, argo={}, limits={"max_trials": 2, "parallel_trials": 2})
    run = cluster.submit(of)
    assert (run.record.status, run.workflows[0].phase) == (Status.SUCCEEDED, "Succeeded")
    assert [trial.observations["score"] for trial in run.trials] == [trial.assignment["x"] for trial in run.trials]
    assert [trial.state for trial in run.trials] == [State.SUCCEEDED, State.FAILED]  # 0.09 and 0.25
    assert run.simulator.machine.started["trial"] == 2


def test_the_goal_ends_the_experiment(cluster: Cluster) -> None:
    goal = {"metric": "score", "direction": "maximize", "goal": 0.25}
    of = experiment(objective=goal)
    run = cluster.submit(of)
    assert run.record.reason == "trial t00001 reached the goal with score 0.253253"
    assert [trial.id for trial in run.trials] == ["t00000", "t00001", "t00002"]
    assert run.workflows[0].phase == "Succeeded"


def test_too_many_failures_fail_the_workflow_through_its_exit_handler(cluster: Cluster) -> None:
    of = experiment(
        trial={"function": "simulated_user:faulty"},
        parameters={"x": {"type": "float", "min": 0.9, "max": 1}},
        limits={"parallel_trials": 2, "max_trials": 9, "max_failed_trials": 1},
    )
    run = cluster.submit(of)
    assert (run.record.status, run.record.reason) == (
        Status.FAILED,
        "2 trials failed; limits.max_failed_trials allows 1; "
        "no trial gave a finite value of 'score': 2 failed (ValueError: too high)",
    )
    assert run.workflows[0].phase == "Failed"
    assert run.workflows[0].message == "retryStrategy.expression evaluated to false"
    assert run.simulator.machine.started["finish"] == 1


def short_segments(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    monkeypatch.setattr("katib_flow.argo.segments.MAX_ITERATIONS", iterations)


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_segments_follow_one_another_and_change_nothing(
    cluster: Cluster, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_segments(monkeypatch, 1)
    of = experiment(argo={"image": "user:1", "mode": mode})
    run = cluster.submit(of)
    segments = 3 if mode == "barrier" else 4  # the last lane in its last turn does not know that it is the last
    assert [each.name for each in run.workflows] == [run.run, *(f"{run.run}-s{n}" for n in range(1, segments))]
    assert {each.phase for each in run.workflows} == {"Succeeded"}
    assert seen(run.trials) == seen(cluster.here(of))
    assert run.store.segment(run.record) == segments - 1
    assert all(each.labels["katib-flow/experiment"] == "simulated" for each in run.workflows)


STRUCK = ["suggest(0)", "trial(1:t00001)(0)", "collect-metrics(0)", "handover(0)", "onExit(0)"]
ANYWHERE = [Fault.INIT, Fault.DELETED, Fault.LOST, Fault.EVICTED, Fault.TWICE]


@pytest.mark.parametrize("fault", [*ANYWHERE, Fault.HALFWAY])
def test_a_fault_of_every_step_changes_no_trial(
    cluster: Cluster, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_segments(monkeypatch, 1)
    faults = Scripted(dict.fromkeys(STRUCK, fault))
    run = cluster.submit(experiment(), faults=faults)
    assert {name.rpartition(".")[2] for name in faults.struck} >= {"suggest(0)", "collect-metrics(0)", "onExit(0)"}
    assert len(run.workflows) == 3
    assert {each.phase for each in run.workflows} == {"Succeeded"}
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (7)")
    assert seen(run.trials) == seen(cluster.here(experiment()))


@pytest.mark.parametrize("fault", [Fault.OUTPUT])
def test_outputs_that_cannot_be_read_are_written_again(cluster: Cluster, fault: Fault) -> None:
    run = cluster.submit(experiment(), faults=Scripted(dict.fromkeys(STRUCK[:3], fault)))
    assert run.workflows[0].phase == "Succeeded"
    assert seen(run.trials) == seen(cluster.here(experiment()))


OUT_OF_MEMORY = "main: OOMKilled (exit code 137)"
PAST_DEADLINE = "Pod was active on the node longer than the specified deadline"


@pytest.mark.parametrize(("fault", "why"), [(Fault.MEMORY, OUT_OF_MEMORY), (Fault.DEADLINE, PAST_DEADLINE)])
@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_a_trial_that_can_never_end_well_is_one_failure_that_says_why(
    cluster: Cluster, mode: str, fault: Fault, why: str
) -> None:
    limits = {"max_trials": 4, "parallel_trials": 2, "trial_timeout": "1m", "max_failed_trials": 1}
    node = "trial(1:t00001)(0)" if mode == "barrier" else "lane(1:1).turn.train(0)"
    of = experiment(limits=limits, argo={"image": "user:1", "mode": mode})
    run = cluster.submit(of, faults=Scripted({node: fault}))
    assert run.workflows[0].phase == "Succeeded"
    assert [trial.state for trial in run.trials] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED, State.SUCCEEDED]
    assert run.trials[1].message == f"its pod ended without a result: {why}"
    assert run.simulator.machine.started["trial"] == 4


def test_argo_stop_closes_every_run(cluster: Cluster) -> None:
    def stop(simulator: Simulator) -> None:
        simulator.run(until=simulator.now + 35)  # in the midst of the second iteration's trials
        [name] = simulator.workflows
        simulator.stop(name)
        simulator.run()

    run = cluster.submit(experiment(), prepare=stop)
    assert run.workflows[0].phase == "Failed"
    assert (run.record.status, run.record.reason) == (Status.STOPPED, "stopped in Argo; resume it to continue")
    assert {trial.state for trial in run.trials} == {State.SUCCEEDED, State.KILLED}


@pytest.mark.parametrize(("control", "status"), [({"stop": True}, Status.STOPPED), ({"pause": True}, Status.PAUSED)])
@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_a_stop_and_a_pause_in_mlflow_end_the_workflow_in_order(
    cluster: Cluster, mode: str, control: dict[str, bool], status: Status
) -> None:
    def ask(simulator: Simulator) -> None:
        simulator.run(until=simulator.now + 25)  # while the first trials run
        store = Store(cluster.uri)
        record = store.keyed(next(iter(simulator.workflows)))
        assert record is not None
        store.set_control(record, **control)
        simulator.run()

    run = cluster.submit(experiment(argo={"image": "user:1", "mode": mode}), prepare=ask)
    assert run.workflows[0].phase == "Succeeded"
    assert run.record.status is status
    assert len(run.trials) == 3
    assert not run.trials.open()


@pytest.mark.parametrize("how", ["pause", "argo stop"])
@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_what_was_cut_short_goes_on_as_a_further_segment(cluster: Cluster, mode: str, how: str) -> None:
    def cut_short(simulator: Simulator) -> None:
        assert isinstance(simulator.programs, StepPrograms)
        simulator.programs.seconds = lambda pod: 60.0 if pod.template == "trial" else 1.0
        simulator.run(until=simulator.now + 25)  # while the first trials run
        name = next(iter(simulator.workflows))
        if how == "argo stop":
            simulator.stop(name)
        else:
            store = Store(cluster.uri)
            record = store.keyed(name)
            assert record is not None
            store.set_control(record, pause=True)
        simulator.run()

    of = experiment(argo={"image": "user:1", "mode": mode})
    run = cluster.submit(of, prepare=cut_short)
    before = run.trials
    assert {trial.state for trial in before} == {State.KILLED if how == "argo stop" else State.SUCCEEDED}
    assert go_on(run.simulator.cluster, run.store, run.record, max_trials=8) == f"{run.run}-s1"
    run.simulator.run()
    assert run.workflows[-1].phase == "Succeeded"
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (8)")
    ended = [trial for trial in run.trials if trial.state is State.SUCCEEDED]
    assert len(ended) == 8
    if mode == "barrier":  # what was killed starts again, as it was suggested
        assert seen(ended[:7]) == seen(cluster.here(of))
        assert [trial.id for trial in ended][:3] == [trial.id for trial in before]


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_trials_that_argo_terminated_are_started_again_first_and_are_no_failures(cluster: Cluster, mode: str) -> None:
    def terminate(simulator: Simulator) -> None:
        assert isinstance(simulator.programs, StepPrograms)
        simulator.programs.seconds = lambda pod: 60.0 if pod.template == "trial" else 1.0
        simulator.run(until=simulator.now + 25)  # while the first trials' pods are there
        name = next(iter(simulator.workflows))
        simulator.stop(name, "Terminate")
        simulator.run()

    of = experiment(argo={"image": "user:1", "mode": mode})
    run = cluster.submit(of, prepare=terminate)
    assert run.simulator.machine.started["finish"] == 0, "nobody has closed them"
    before = [trial.id for trial in run.trials.open()]
    assert len(before) == 3
    go_on(run.simulator.cluster, run.store, run.record)
    run.simulator.run()
    assert (run.record.status, run.record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (7)")
    assert {trial.state for trial in run.trials} == {State.SUCCEEDED}
    order = [pod.inputs["id"] for pod in run.simulator.machine.history if pod.template == "trial"]
    assert sorted(order[-7:][:3]) == before


def test_a_trial_lost_too_often_says_how_its_last_pod_ended(cluster: Cluster) -> None:
    of = experiment(limits={"max_trials": 2, "parallel_trials": 2, "retries": 1, "max_failed_trials": 1})
    faults = Scripted({"trial(1:t00001)(0)": Fault.EVICTED, "trial(1:t00001)(1)": Fault.EVICTED})
    run = cluster.submit(of, faults=faults)
    assert run.trials[1].message == "its pod ended without a result: main: Error (exit code 143), at attempt 2"


ONE_NAME = "one-name"


def of_one_name() -> dict[str, Any]:
    written = compile_experiment(experiment(limits={"max_trials": 2, "parallel_trials": 2})).to_dict()
    del written["metadata"]["generateName"]
    written["metadata"]["name"] = ONE_NAME
    return written


def test_of_two_of_one_name_in_two_namespaces_the_second_is_refused_while_the_first_one_runs(cluster: Cluster) -> None:
    first, second = cluster.simulator(), cluster.simulator()
    second.cluster.namespace = "team-b"
    for simulator in (first, second):
        simulator.submit(of_one_name())
    begun: list[str] = []

    def let_the_second_run(*_: Any) -> None:
        if not begun and any(pod.template == "trial" for pod in first.machine.history):
            begun.append(ONE_NAME)
            second.run()

    first.before_each.append(let_the_second_run)
    first.run()
    refused = [pod for pod in second.machine.history if pod.template == "suggest"]
    assert refused
    programs: Any = second.programs
    assert f"another process is running this experiment: Workflow default/{ONE_NAME} on a cluster" in programs.log(
        refused[0]
    )
    assert not any(pod.template == "trial" for pod in second.machine.history)
    assert (first[ONE_NAME].phase, second[ONE_NAME].phase) == ("Succeeded", "Failed")
    store = Store(cluster.uri, experiment().tracking.experiment)
    record = store.keyed(ONE_NAME)
    assert record is not None
    assert record.status is Status.SUCCEEDED
    assert [(trial.id, trial.state, trial.retries) for trial in store.history(record)] == [
        ("t00000", State.SUCCEEDED, 0),
        ("t00001", State.SUCCEEDED, 0),
    ]
