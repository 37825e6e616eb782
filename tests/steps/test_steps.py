"""What the steps decide, in one process, on a real store."""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from katib_flow.argo import compile_experiment
from katib_flow.argo.cluster import WORKFLOW, Manifest
from katib_flow.argo.steps.collect import STOPPED_BY_ARGO, collect_metrics, finish
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.handover import hand_over, next_segment
from katib_flow.argo.steps.suggest import Turn, suggest_iteration, suggest_lane
from katib_flow.errors import KatibFlowError, NotFound
from katib_flow.history import History, Position, State, Suggestion, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Change, Status, Store

RUN = "in-process-x7k2p"
NO_CLUSTER = "no cluster is connected"


def experiment(**changes: Any) -> Experiment:
    data = {
        "name": "in-process",
        "objective": {"metric": "score", "direction": "maximize", "goal": 5},
        "parameters": {"x": {"type": "int", "min": 1, "max": 9}},
        "algorithm": "random",
        "limits": {"max_trials": 6, "parallel_trials": 2, "max_failed_trials": 1},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1"},
    }
    return Experiment.parse(data | changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def opened(store: Store) -> Any:
    """A step's view of an experiment, freshly read, as each pod reads it."""
    key = f"{RUN}-{time.monotonic_ns()}"

    def make(segment: int = 0, **changes: Any) -> Context:
        return Context(store, store.create(experiment(**changes), key=key), segment)

    return make


def end(context: Context, trial_id: str, score: float = 1, state: State = State.SUCCEEDED) -> None:
    trial = context.store.trial(context.record, trial_id)
    assert trial is not None
    context.store.write(
        context.record, [Change(replace(trial, state=state, observations={"score": score}, ended=time.time()))]
    )


def trials(context: Context) -> dict[str, Trial]:
    return {trial.id: trial for trial in context.store.history(context.record)}


def test_an_iteration_asked_again_after_its_trials_ran_has_the_same_trials(opened: Any) -> None:
    first = suggest_iteration(opened(), 1)
    assignments = {trial.id: trial.assignment for trial in trials(opened()).values()}
    for each in first:
        end(opened(), each)
    assert suggest_iteration(opened(), 1) == first == ["t00000", "t00001"]
    assert {trial.id: trial.assignment for trial in trials(opened()).values()} == assignments


def test_an_iteration_that_was_half_recorded_is_completed(opened: Any, store: Store) -> None:
    context = opened()
    suggested = suggest_iteration(context, 1)
    whole = trials(context)
    other = Context(store, store.create(experiment(), key=f"{RUN}-half-{time.monotonic_ns()}"), 0)
    store.write(other.record, [Change(replace(whole["t00000"], run_id=""))])
    assert suggest_iteration(other, 1) == suggested
    assert [trial.assignment for trial in trials(other).values()] == [trial.assignment for trial in whole.values()]


def test_the_goal_ends_the_experiment(opened: Any) -> None:
    for each, score in zip(suggest_iteration(opened(), 1), (5, 1), strict=True):
        end(opened(), each, score)
    assert collect_metrics(opened()) is False
    assert (opened().record.status, opened().record.reason) == (
        Status.SUCCEEDED,
        "trial t00000 reached the goal with score 5",
    )
    assert suggest_iteration(opened(), 2) == []


def test_an_experiment_that_has_ended_keeps_its_report(opened: Any, store: Store) -> None:
    pytest.importorskip("plotly", reason="a report needs Plotly, an extra")
    (first, second), run_id = suggest_iteration(opened(), 1), opened().record.run_id
    end(opened(), first, 2)
    end(opened(), second, 3)
    assert collect_metrics(opened()) is True
    with pytest.raises(NotFound):
        store.read_artifact(run_id, "report.html")
    end(opened(), suggest_iteration(opened(), 2)[0], 5)
    assert finish(opened(), "Succeeded", "[]") is Status.SUCCEEDED
    assert "with score 5" in store.read_artifact(run_id, "report.html").read_text(encoding="utf-8")


def test_a_step_that_died_of_its_report_does_without_it_when_it_is_tried_again(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any) -> None:
        raise MemoryError  # in a pod: the end of it

    monkeypatch.setattr("katib_flow.argo.steps.collect.keep_report", too_large)
    end(opened(), suggest_iteration(opened(), 1)[0], 5)
    with pytest.raises(MemoryError):
        collect_metrics(opened())
    assert collect_metrics(opened()) is False
    assert opened().record.status is Status.SUCCEEDED


def test_a_trial_whose_pod_died_is_a_failure_that_says_so(opened: Any) -> None:
    first, second = suggest_iteration(opened(), 1)
    end(opened(), first)
    assert collect_metrics(opened()) is True
    died = trials(opened())[second]
    assert died.state is State.FAILED
    assert died.message == f"its pod ended without a result, and the reason could not be read: {NO_CLUSTER}"


def test_a_used_up_space_ends_the_experiment(opened: Any) -> None:
    changes = {
        "parameters": {"x": {"type": "int", "min": 1, "max": 3}},
        "algorithm": "grid",
        "limits": {"parallel_trials": 2},
    }
    ran = []
    for k in itertools.count(1):
        for each in suggest_iteration(opened(**changes), k):
            ran.append(each)
            end(opened(**changes), each)
        if not collect_metrics(opened(**changes)):
            break
    assert ran == ["t00000", "t00001", "t00002"]
    assert opened(**changes).record.reason.startswith("the algorithm has nothing more")


def test_pause_starts_nothing_and_resuming_goes_on(opened: Any) -> None:
    for each in suggest_iteration(opened(), 1):
        end(opened(), each)
    opened().store.set_control(opened().record, pause=True)
    assert suggest_iteration(opened(), 2) == []
    assert collect_metrics(opened()) is False
    assert finish(opened(), "Succeeded", '"null"') is Status.PAUSED
    opened().store.set_control(opened().record, pause=False)
    assert suggest_iteration(opened(1), 1) == ["t00002", "t00003"]
    assert opened().record.status is Status.RUNNING


def test_what_argo_stopped_is_killed_and_the_next_segment_starts_it_again_first(opened: Any) -> None:
    first, second = suggest_iteration(opened(), 1)
    end(opened(), first)
    before = trials(opened())[second]
    failures = json.dumps(json.dumps([{"displayName": "trial", "message": f"workflow {STOPPED_BY_ARGO}: Stop"}]))
    assert finish(opened(), "Failed", failures) is Status.STOPPED
    assert finish(opened(), "Failed", failures) is Status.STOPPED
    assert trials(opened())[second].state is State.KILLED
    assert suggest_iteration(opened(1), 1) == [second, "t00002"]
    assert suggest_iteration(opened(1), 1) == [second, "t00002"]
    again = trials(opened())[second]
    assert (again.state, again.assignment, again.run_id) == (State.PENDING, before.assignment, before.run_id)


def test_a_users_stop_closes_what_runs_as_killed(opened: Any) -> None:
    suggest_iteration(opened(), 1)
    opened().store.set_control(opened().record, stop=True)
    assert collect_metrics(opened()) is False
    assert {trial.state for trial in trials(opened()).values()} == {State.KILLED}
    assert opened().record.status is Status.STOPPED


def test_a_workflow_that_broke_is_a_failed_experiment_with_the_node_that_broke(opened: Any) -> None:
    suggest_iteration(opened(), 1)
    nodes = [
        {
            "displayName": "trial(0:t00000)",
            "templateName": "trial",
            "message": "exit code 42",
            "finishedAt": "2026-01-01",
        },
        {
            "displayName": "collect-metrics",
            "templateName": "collect-metrics",
            "message": "exit code 2",
            "finishedAt": "2026-01-02",
        },
    ]
    assert finish(opened(), "Failed", json.dumps(json.dumps(nodes))) is Status.FAILED
    assert opened().record.reason == "the workflow failed: collect-metrics: exit code 2"


def test_an_older_segment_leaves_everything_to_the_newer(opened: Any) -> None:
    first = suggest_iteration(opened(0), 1)
    for each in first:
        end(opened(0), each)
    newer = suggest_iteration(opened(1), 1)
    assert newer == ["t00002", "t00003"]
    assert suggest_iteration(opened(0), 2) == []
    assert collect_metrics(opened(0)) is False
    assert finish(opened(0), "Failed", "") is None
    assert {trials(opened())[each].state for each in newer} == {State.PENDING}
    assert opened().record.status is Status.RUNNING


def test_an_algorithm_that_cannot_go_on_fails_the_experiment_with_its_reason(opened: Any, monkeypatch: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("katib_flow.loop.answer", broken)
    with pytest.raises(KatibFlowError, match="algorithm random: ZeroDivisionError: by zero"):
        suggest_iteration(opened(), 1)
    assert finish(opened(), "Failed", "") is Status.FAILED
    assert opened().record.reason == "algorithm random: ZeroDivisionError: by zero"


def test_a_lane_closes_the_trial_that_its_last_pod_left_open(opened: Any) -> None:
    lane = {"lane": 1, "lanes": 2, "last": 40}
    assert suggest_lane(opened(), 1, **lane) == Turn("t00001")
    assert suggest_lane(opened(), 1, **{**lane, "lane": 0}) == Turn("t00000")
    assert suggest_lane(opened(), 2, **lane) == Turn("t00003")
    assert {each.id: each.state for each in trials(opened()).values()} == {
        "t00000": State.PENDING,
        "t00001": State.FAILED,
        "t00003": State.PENDING,
    }


def test_a_lane_that_died_before_it_had_counted_the_others_counts_them_when_it_is_tried_again(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: Any) -> None:
        raise KeyboardInterrupt

    limits = {"limits": {"max_trials": 1, "parallel_trials": 2}}
    lanes = {"lanes": 2, "last": 40, "sleep": died}
    both = [opened(**limits), opened(**limits)]
    with monkeypatch.context() as dying:
        dying.setattr("katib_flow.argo.steps.suggest._LaneTurn._admitted", died)
        for lane, context in enumerate(both):  # lane 1 has looked before lane 0 recorded anything, say
            dying.setattr(context.store, "history", lambda *_: History())
            with pytest.raises(KeyboardInterrupt):
                suggest_lane(context, 1, lane=lane, **lanes)
    assert suggest_lane(opened(**limits), 1, lane=1, **lanes) == Turn()
    assert suggest_lane(opened(**limits), 1, lane=0, **lanes) == Turn("t00000")
    assert trials(opened())["t00001"].message == "not started: other lanes started the last trials"


def test_a_lane_waits_for_one_that_wants_the_last_trial_too_and_was_later(opened: Any) -> None:
    limits = {"limits": {"max_trials": 1, "parallel_trials": 2}}
    for lane in (0, 1):
        trial = Trial(Suggestion(lane, {"x": 1}), position=Position(0, 1, lane, registered=float(lane)))
        opened(**limits).store.write(opened().record, [Change(trial)])
    asked: list[float] = []

    def other_lane_looks(seconds: float) -> None:
        asked.append(seconds)
        assert suggest_lane(opened(**limits), 1, lane=1, lanes=2, last=40) == Turn()

    assert suggest_lane(opened(**limits), 1, lane=0, lanes=2, last=40, sleep=other_lane_looks) == Turn("t00000")
    assert len(asked) == 1


def test_a_lane_does_not_wait_for_ever(opened: Any) -> None:
    limits = {"limits": {"max_trials": 1, "parallel_trials": 2}}
    for lane in (0, 1):
        trial = Trial(Suggestion(lane, {"x": 1}), position=Position(0, 1, lane, registered=float(lane)))
        opened(**limits).store.write(opened().record, [Change(trial)])
    slept: list[float] = []
    assert suggest_lane(opened(**limits), 1, lane=0, lanes=2, last=40, sleep=slept.append) == Turn()
    assert sum(slept) == 60


def test_the_first_lane_in_its_last_turn_hands_over_and_the_others_go_on_to_theirs(opened: Any) -> None:
    changes = {"argo": {"image": "user:1", "mode": "lanes"}, "limits": {"max_trials": 9, "parallel_trials": 2}}

    def turn(segment: int, iteration: int, lane: int) -> Turn:
        found = suggest_lane(opened(segment, **changes), iteration, lane, lanes=2, last=2)
        if found.trial:
            end(opened(segment, **changes), found.trial)
        return found

    assert turn(0, 1, 0) == Turn("t00000")
    assert turn(0, 2, 0) == Turn("t00002", hand_over=True)
    assert turn(0, 2, 0) == Turn("t00002", hand_over=True)  # asked again before the segment is there
    opened(0, **changes).take_over(1)
    assert turn(0, 2, 0) == Turn("t00002")
    assert turn(1, 1, 0) == Turn("t00004")
    assert turn(0, 2, 0) == Turn()  # a late retry: the lane is in the next segment already
    assert [turn(0, k, 1) for k in (1, 2)] == [Turn("t00001"), Turn("t00003")]
    assert turn(1, 1, 1) == Turn("t00005")


def test_of_lanes_in_their_last_turn_at_once_the_first_hands_over_and_is_told_so_again(opened: Any) -> None:
    def turn(iteration: int, lane: int) -> Turn:
        return suggest_lane(opened(), iteration, lane, lanes=2, last=2)

    for lane in (0, 1):
        end(opened(), str(turn(1, lane).trial))
    assert turn(2, 1) == Turn("t00003", hand_over=True)
    assert turn(2, 0) == Turn("t00002")
    assert turn(2, 1) == Turn("t00003", hand_over=True)  # its pod was killed before it could say so
    end(opened(), "t00003", state=State.KILLED)  # as one trial more than there may be
    assert turn(2, 0) == Turn("t00002", hand_over=True)


def cluster_with(*workflows: Manifest) -> FakeCluster:
    cluster = FakeCluster()
    for each in workflows:
        cluster.create(each)
    return cluster


def submitted(**spec: Any) -> Manifest:
    """A Workflow as the cluster has it."""
    workflow = compile_experiment(experiment()).to_dict()
    workflow["metadata"]["name"] = RUN
    workflow["metadata"]["labels"] |= {"workflows.argoproj.io/phase": "Running"}
    workflow["spec"] |= spec
    return workflow


def test_handover_creates_the_next_segment_once() -> None:
    cluster = cluster_with(submitted(suspend=False, shutdown="Stop"))
    for _ in range(2):
        assert hand_over(cluster, workflow=RUN, run=RUN, segment=0) == f"{RUN}-s1"
    assert cluster.names(WORKFLOW) == [RUN, f"{RUN}-s1"]
    following = cluster.object(WORKFLOW, f"{RUN}-s1")
    assert following["metadata"]["labels"] == {"katib-flow/experiment": "in-process"}
    assert "ownerReferences" not in following["metadata"]
    assert {"suspend", "shutdown"}.isdisjoint(following["spec"])
    parameters = {each["name"]: each["value"] for each in following["spec"]["arguments"]["parameters"]}
    assert (parameters["run"], parameters["segment"], parameters["k"]) == (RUN, "1", "1")
    assert hand_over(cluster, workflow=f"{RUN}-s1", run=RUN, segment=1) == f"{RUN}-s2"


def test_handover_takes_no_name_that_belongs_to_another_run() -> None:
    foreign = next_segment(submitted(), "another-run", 0)
    foreign["metadata"]["name"] = f"{RUN}-s1"
    with pytest.raises(KatibFlowError, match=f"workflow {RUN}-s1: found one of another run"):
        hand_over(cluster_with(submitted(), foreign), workflow=RUN, run=RUN, segment=0)


def test_the_next_segment_has_what_is_left_of_the_deadline() -> None:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1000))
    workflow = submitted(activeDeadlineSeconds=9000) | {"status": {"startedAt": started}}
    assert next_segment(workflow, RUN, 0)["spec"]["activeDeadlineSeconds"] in range(7990, 8001)
    workflow = submitted(activeDeadlineSeconds=500) | {"status": {"startedAt": started}}
    assert next_segment(workflow, RUN, 0)["spec"]["activeDeadlineSeconds"] == 60


@pytest.mark.parametrize("program", sorted(path.stem for path in (Path(__file__).parents[2] / "steps").glob("*.py")))
def test_every_program_says_by_help_how_it_is_called(program: str, capsys: Any, monkeypatch: Any) -> None:
    import runpy

    monkeypatch.setattr("sys.argv", [program, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).parents[2] / "steps" / f"{program}.py"), run_name="__main__")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"  {program}.py " in shown
