"""What an algorithm has learnt goes from pod to pod through the store, in one process, on a real store."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from katib_flow.algorithms.registry import find_algorithm
from katib_flow.argo.steps.collect import collect_metrics
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import suggest_iteration, suggest_lane
from katib_flow.history import Learnt, State, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Record, Store
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.learnt import Learnings

pytest.importorskip("torch", reason="needs torch (the extra nas)")


def experiment(algorithm: str = "nas-rl", **changes: Any) -> Experiment:
    data = {
        "name": "learning",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {name: {"type": "int", "min": 1, "max": 4} for name in "abc"},
        "algorithm": {"name": algorithm, "seed": 3},
        "limits": {"max_trials": 40, "parallel_trials": 4},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1"},
    }
    return Experiment.parse(data | changes)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the lessons that nas-rl learns from now on."""
    algorithm = find_algorithm("nas-rl")
    assert algorithm is not None
    learner, numbers = algorithm.learner, list[int]()
    assert learner is not None
    learn = learner.learn

    def counted(ask: Any, known: Any, lesson: Any, number: int) -> Any:
        numbers.append(number)
        return learn(ask, known, lesson, number)

    monkeypatch.setattr(learner, "learn", counted)
    return numbers


class Pods:
    """Steps of one experiment, each with a store of its own, as a pod has."""

    def __init__(self, uri: str, made: Experiment) -> None:
        self.uri, self.made, self.key = uri, made, f"learning-{time.monotonic_ns()}"

    def context(self) -> Context:
        store = Store(self.uri)
        return Context(store, store.create(self.made, key=self.key), 0)

    def iteration(self, number: int) -> list[dict[str, Any]]:
        """The assignments of an iteration, all of whose trials end well."""
        context = self.context()
        ids = suggest_iteration(context, number)
        trials = [context.store.trial(context.record, each) for each in ids]
        ended = [_ended(trial) for trial in trials if trial is not None]
        context.store.write(context.record, [Change(trial) for trial in ended])
        return [dict(trial.assignment) for trial in ended]


def _ended(trial: Trial) -> Trial:
    score = float(sum(int(str(value)) for value in trial.assignment.values()))
    return replace(trial, state=State.SUCCEEDED, observations={"score": score}, ended=time.time())


def kept(context: Context) -> list[Learnt]:
    return list(context.store.learnings.find(context.record))


def test_each_pod_goes_on_from_what_the_one_before_has_learnt(uri: str, lessons: list[int]) -> None:
    pods, anew = Pods(uri, experiment()), Pods(uri, experiment())
    straight = []
    for number in range(1, 5):
        lessons.clear()
        straight.append(pods.iteration(number))
        assert lessons == [number - 2] * (number > 1)
    assert [each.lessons for each in kept(pods.context())] == [3, 2]
    for number in range(1, 5):  # of the other, nothing is ever found
        context = anew.context()
        for other in kept(context):
            _delete(context, other)
        lessons.clear()
        assert anew.iteration(number) == straight[number - 1]
        assert lessons == list(range(number - 1))


def _delete(context: Context, learnt: Learnt) -> None:
    artifacts: Artifacts = context.store._artifacts
    for name in artifacts.names(context.record.artifact_uri, "katib_flow/learnt"):
        if learnt.digest in name:
            artifacts.delete(context.record.artifact_uri, name)


def test_collect_metrics_learns_for_the_pod_that_suggests_after_it(uri: str, lessons: list[int]) -> None:
    pods = Pods(uri, experiment())
    pods.iteration(1)
    lessons.clear()
    assert collect_metrics(pods.context())
    assert lessons == [0]
    lessons.clear()
    pods.iteration(2)
    assert lessons == []


def test_a_damaged_copy_is_told_and_learnt_anew_to_the_same(
    uri: str, lessons: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    pods, sound = Pods(uri, experiment()), Pods(uri, experiment())
    for each in (pods, sound):
        for number in (1, 2, 3):
            each.iteration(number)
    context = pods.context()
    artifacts: Artifacts = context.store._artifacts
    for name in artifacts.names(context.record.artifact_uri, "katib_flow/learnt"):
        artifacts.write(context.record.artifact_uri, name, "damaged")
    lessons.clear()
    capsys.readouterr()
    assert pods.iteration(4) == sound.iteration(4)
    assert lessons == [0, 1, 2, 2]  # of the sound one, the last alone
    assert capsys.readouterr().err.count("damaged (its SHA-256") == 2
    assert pods.iteration(5) == sound.iteration(5)
    assert "damaged" not in capsys.readouterr().err


def test_a_pod_that_dies_before_old_copies_are_deleted_leaves_what_the_next_can_use(
    uri: str, lessons: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = Pods(uri, experiment())
    pods.iteration(1)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("katib_flow.tracking.learnt.outdated", dies)
        with pytest.raises(KeyboardInterrupt):
            pods.iteration(2)
    lessons.clear()
    assert len(pods.iteration(2)) == 4
    assert lessons == []
    assert [each.lessons for each in kept(pods.context())] == [1]


def test_lanes_that_ask_at_once_learn_and_keep_the_same(uri: str, lessons: list[int]) -> None:
    pods = Pods(uri, experiment(argo={"image": "user:1", "mode": "lanes"}))
    for turn in range(1, 4):
        contexts = [pods.context() for _ in range(4)]
        ids = [suggest_lane(context, turn, lane, 4, 9).trial for lane, context in enumerate(contexts)]
        assert None not in ids
        for each in ids:
            trial = contexts[0].store.trial(contexts[0].record, str(each))
            assert trial is not None
            contexts[0].store.write(contexts[0].record, [Change(_ended(trial))])
    assert sorted(lessons) == [0, 1]  # whichever lane came first
    assert [each.lessons for each in kept(pods.context())] == [2, 1]


def test_an_algorithm_that_learns_nothing_costs_no_call(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pods = Pods(uri, experiment("tpe"))
    pods.iteration(1)
    for name in ("names", "get", "write", "delete"):
        monkeypatch.setattr(Artifacts, name, None)  # whoever calls it fails
    assert len(pods.iteration(2)) == 4
    assert collect_metrics(pods.context())


def test_the_local_scheduler_keeps_it_too_and_a_resumed_one_goes_on_from_it(
    tmp_path: Path, lessons: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from katib_flow.local import resume_experiment, run_experiment

    (tmp_path / "learns_locally.py").write_text("def train(a, b, c):\n    return {'score': a + b + c}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    changes: dict[str, Any] = {"trial": {"function": "learns_locally:train"}}
    limits = {"max_trials": 12, "parallel_trials": 2}
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    reads: list[Record] = []
    find = Learnings.find

    def watched(self: Learnings, record: Record) -> Any:
        reads.append(record)
        yield from find(self, record)

    monkeypatch.setattr(Learnings, "find", watched)
    first = run_experiment(experiment(limits=limits, **changes), store=store, barrier=True)
    assert lessons == [0, 1]  # each batch of 4 once; the third teaches nobody
    assert len(reads) == 1  # before anything was learnt; what this process has learnt it has at hand
    assert [each.lessons for each in find(store.learnings, store.get(first.run_id))] == [2, 1]
    lessons.clear()
    resume_experiment(store, "learning", max_trials=20, barrier=True)
    assert lessons == [2, 3]
    straight = run_experiment(
        experiment(limits=limits | {"max_trials": 20}, **changes), store=Store(store.uri, "straight"), barrier=True
    )
    assert [t.assignment for t in store.history(store.get(first.run_id))] == [t.assignment for t in straight.trials]
