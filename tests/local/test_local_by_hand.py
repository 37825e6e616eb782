"""A search whose trials the program itself evaluates: it searches as any other does, and loses nothing."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.errors import InvalidSpec, KatibFlowError, NoStore, NotFound
from katib_flow.history import State, Trial
from katib_flow.local import kept, resume_experiment
from katib_flow.loop import End
from katib_flow.replay import replay
from katib_flow.tracking import Status, Store

SPACE = {"x": kf.Float(0, 1), "kind": kf.Categorical(["a", "b"])}


def search(**changes: Any) -> Any:
    described: dict[str, Any] = {"parameters": SPACE, "minimize": "loss", "algorithm": "random", "max_trials": 4}
    return kf.ask_and_tell(**(described | changes))


def loss(trial: Trial) -> float:
    x = trial.assignment["x"]
    assert isinstance(x, float)
    return (x - 0.3) ** 2


def evaluated(searching: Any) -> Any:
    for trial in searching:
        searching.tell(trial, loss(trial))
    return searching


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(kept, "CONTROL_SECONDS", 0)
    return tmp_path


def test_it_tries_what_a_run_with_the_same_seed_tries_and_is_recorded_like_it() -> None:
    @kf.experiment(parameters=SPACE, minimize="loss", algorithm="tpe", seed=3, max_trials=8, name="run")
    def train(x: float, kind: str) -> float:
        return (x - 0.3) ** 2

    ran = train.run()
    with search(algorithm="tpe", seed=3, max_trials=8, name="by-hand") as searching:
        evaluated(searching)
    assert [trial.assignment for trial in searching.trials] == [trial.assignment for trial in ran.trials]
    assert searching.best.assignment == ran.best.assignment
    store = Store()
    record = store.find("by-hand")
    assert (record.status, record.reason) == (Status.SUCCEEDED, "reached limits.max_trials (8)")
    recorded = store.history(record)
    assert [(each.id, each.state, each.observations, each.run_id) for each in recorded] == [
        (each.id, State.SUCCEEDED, each.observations, each.run_id) for each in searching.trials
    ]
    assert [each.observations for each in recorded] == [{"loss": loss(each)} for each in recorded]
    assert all(each.started and each.ended and each.started <= each.ended for each in recorded)
    assert record.lease is None


def test_what_is_recorded_can_be_replayed() -> None:
    with search(algorithm="tpe", max_trials=20) as searching:
        for trial in searching.ask(3):
            searching.tell(trial, loss(trial))
        evaluated(searching)
    store = Store()
    record = store.find("search")
    outcomes = replay(record.experiment, store.history(record))
    assert len(outcomes) == 20
    assert all(outcome.equal for outcome in outcomes)


def test_several_are_asked_at_once_and_told_in_any_order() -> None:
    with search() as searching:
        trials = searching.ask(3)
        assert [trial.id for trial in trials] == ["t00000", "t00001", "t00002"]
        assert all(trial.state is State.RUNNING and trial.run_id for trial in trials)
        recorded = Store().history(Store().find("search")).open()
        assert [(each.id, each.run_id) for each in recorded] == [(each.id, each.run_id) for each in trials]
        assert not searching.done
        assert len(searching.ask(3)) == 1  # max_trials is 4
        assert searching.done
        assert searching.ask(3) == []
        searching.tell(trials[2], 0.5)
        searching.tell("t00000", {"loss": 0.25})
        assert searching.best.id == "t00000"
        assert searching.result.status is Status.RUNNING


def test_curves_are_recorded_step_by_step_and_reduced_as_the_spec_says() -> None:
    with search(metrics={"strategy": {"loss": "min"}}, additional_metrics=["time"]) as searching:
        trial = searching.ask()
        for value in (0.5, 0.1, 0.4):
            searching.report(trial, loss=value)
        searching.report(trial, {"time": 2.0, "vector": [1.0, 2.0]}, step=7)
        told = searching.tell(trial)
        assert told.observations == {"loss": 0.1, "time": 2.0}
    store = Store()
    recorded = store.history(store.find("search"), series=True)[0]
    assert [(each.step, each.value) for each in recorded.series["loss"]] == [(0, 0.5), (1, 0.1), (2, 0.4)]
    assert [(each.step, each.value) for each in recorded.series["time"]] == [(7, 2.0)]
    assert [(each.step, each.value) for each in recorded.series["vector"]] == [(7, (1.0, 2.0))]
    assert recorded.observations == told.observations


def test_a_failure_is_recorded_and_too_many_end_the_search() -> None:
    with search(limits={"max_failed_trials": 1}) as searching:
        searching.report(trial := searching.ask(), loss=0.1)
        first = searching.tell(trial, error=ValueError("no good"))
        assert (first.state, first.message) == (State.FAILED, "ValueError: no good")
        assert searching.best is None
        assert not searching.done
        second = searching.tell(searching.ask(), error="the lamp is broken")
        assert second.message == "the lamp is broken"
        assert searching.done
        assert searching.verdict.end is End.MAX_FAILED_TRIALS
        with pytest.raises(KatibFlowError, match="the search has ended: 2 trials failed"):
            searching.ask()
    assert Store().find("search").status is Status.FAILED


def test_one_that_is_cut_off_asks_its_open_trials_again() -> None:
    lost: list[Trial] = []

    def cut_off(searching: Any) -> None:
        searching.tell(searching.ask(), 0.5)
        lost.append(searching.ask())
        searching.report(lost[0], loss=7.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), search() as searching:
        cut_off(searching)
    store = Store()
    record = store.find("search")
    assert (record.status, record.reason) == (Status.INTERRUPTED, "interrupted; kf.ask_and_tell(NAME) continues it")
    assert [trial.state for trial in store.history(record)] == [State.SUCCEEDED, State.KILLED]
    with kf.ask_and_tell("search") as searching:
        assert store.find("search").status is Status.RUNNING
        again = searching.ask()
        assert (again.id, again.assignment, again.run_id) == (lost[0].id, lost[0].assignment, lost[0].run_id)
        assert searching.tell(again, 0.25).observations == {"loss": 0.25}
        evaluated(searching)
    history = store.history(store.find("search"))
    assert [trial.state for trial in history] == [State.SUCCEEDED] * 4
    assert history[1].observations == {"loss": 0.25}
    with kf.ask_and_tell("search", max_trials=6) as searching:
        assert len(evaluated(searching).trials) == 6


def test_what_was_told_outlives_a_process_that_is_gone_at_once(here: Path) -> None:
    program = """
import os
import katib_flow as kf
search = kf.ask_and_tell(parameters={"x": kf.Float(0, 1)}, minimize="loss", max_trials=4, name="gone")
search.tell(search.ask(), 0.5)
search.ask()
os._exit(1)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=here).returncode == 1
    with kf.ask_and_tell("gone") as searching:
        assert next(trial.observations for trial in searching.trials) == {"loss": 0.5}
        assert searching.ask().id == "t00001"


def test_no_two_drive_one_search() -> None:
    with search() as searching:
        with pytest.raises(KatibFlowError, match="another process is running this experiment"):
            kf.ask_and_tell("search")
        searching.tell(searching.ask(), 0.5)
    kf.ask_and_tell("search").close()


def test_one_that_is_taken_over_is_left_alone() -> None:
    searching = search()
    searching.ask()
    searching._kept._lease.lost = "search: another has taken over"
    with pytest.raises(KatibFlowError, match="has taken over"):
        searching.ask()
    with pytest.raises(KatibFlowError, match="has taken over"):
        searching.close()
    assert Store().find("search").status is Status.RUNNING  # the other's to say
    assert Store().find("search").lease is not None
    assert Store().history(Store().find("search"))[0].state is State.RUNNING


def test_it_is_done_when_every_point_was_tried() -> None:
    parameters = {"x": kf.Int(1, 3)}
    with search(parameters=parameters, algorithm="grid", max_trials=None) as searching:
        tried = [trial.assignment["x"] for trial in searching if searching.tell(trial, 1.0)]
        assert tried == [1, 2, 3]
        assert searching.verdict.end is End.EXHAUSTED
    assert Store().find("search").status is Status.SUCCEEDED


def test_the_goal_ends_it() -> None:
    with search(goal=0.1) as searching:
        first, second = searching.ask(2)
        assert not searching.should_stop(second)
        searching.tell(first, 0.05)
        assert searching.done
        assert searching.should_stop(second)
        ended = searching.tell(second, 0.5)
        assert ended.state is State.EARLY_STOPPED
        assert "reached the goal" in ended.message


def test_budgets_come_with_the_parameters() -> None:
    changes = {"algorithm": "hyperband", "budget": {"parameter": "epochs", "min": 1, "max": 9}, "max_trials": None}
    budgets: list[Any] = []
    with search(**changes) as searching:
        for trial in searching:
            parameters = searching.parameters(trial)
            assert {name: parameters[name] for name in trial.assignment} == trial.assignment
            budgets.append(parameters["epochs"])
            searching.tell(trial, loss(trial))
    assert (len(budgets), sum(budgets)) == (22, 78)  # Li et al., JMLR 2018: R = 9, eta = 3
    assert all(type(budget) is int for budget in budgets)


def test_an_algorithm_that_waits_for_results_says_for_which() -> None:
    changes = {"algorithm": "hyperband", "budget": {"parameter": "epochs", "min": 1, "max": 9}, "max_trials": None}
    with search(record=False, **changes) as searching:
        open_ = searching.ask(100)
        with pytest.raises(
            KatibFlowError, match=r"waits for the results of open trials \(t00000, .*\); tell them first"
        ):
            searching.ask()
        assert not searching.done
        assert searching.ask(5) == []
        assert len(open_) < 22


def test_the_rule_of_early_stopping_judges_what_is_reported() -> None:
    rule = {"name": "median", "settings": {"min_trials": 2, "start_step": 2}}
    with search(early_stopping=rule) as searching:
        for value in (1.0, 2.0):
            trial = searching.ask()
            for _ in range(3):
                searching.report(trial, loss=value)
                assert not searching.should_stop(trial)
            searching.tell(trial)
        trial = searching.ask()
        searching.report(trial, loss=9.0)
        assert not searching.should_stop(trial)  # start_step is 2
        searching.report(trial, loss=9.0)
        assert searching.should_stop(trial)
        assert searching.should_stop(trial)
        told = searching.tell(trial)
        assert (told.state, told.observations) == (State.EARLY_STOPPED, {"loss": 9.0})
        assert told.message.startswith("stopped early: its best loss by step 1, 9, is worse than 1.5")
    with kf.ask_and_tell("search", max_trials=5) as searching:  # the curves are known to whoever goes on
        trial = searching.ask()
        for _ in range(2):
            searching.report(trial, loss=9.0)
        assert searching.should_stop(trial)


@pytest.mark.parametrize("what", ["stop", "pause"])
def test_a_user_stops_or_pauses_it_from_elsewhere(what: str) -> None:
    store = Store()
    with search() as searching:
        trial = searching.ask()
        store.set_control(store.find("search"), **{what: True})
        assert searching.done
        assert searching.ask(2) == []
        with pytest.raises(KatibFlowError, match="stopped by the user" if what == "stop" else "is paused"):
            searching.ask()
        searching.tell(trial, 0.5)
    assert store.find("search").status is (Status.STOPPED if what == "stop" else Status.PAUSED)
    with kf.ask_and_tell("search") as searching:
        assert len(evaluated(searching).trials) == 4


def test_in_memory_nothing_is_written(here: Path) -> None:
    with search(record=False) as searching:
        evaluated(searching)
    assert len(searching.trials) == 4
    assert searching.best.observations == {"loss": min(loss(trial) for trial in searching.trials)}
    assert list(here.iterdir()) == []
    with pytest.raises(KatibFlowError, match="in memory"):
        _ = searching.result


def test_a_recorded_one_gives_a_result() -> None:
    with search() as searching:
        evaluated(searching)
    result = searching.result
    assert (result.status, result.name, result.best) == (Status.SUCCEEDED, "search", searching.best)
    assert result.trials == searching.trials


def test_threads_may_share_it() -> None:
    with search(max_trials=40) as searching:

        def work() -> None:
            while trials := searching.ask(1):
                searching.report(trials[0], loss=9.0)
                searching.tell(trials[0], loss(trials[0]))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [trial.index for trial in searching.trials] == list(range(40))
    history = Store().history(Store().find("search"))
    assert all(trial.observations == {"loss": loss(trial)} for trial in history)
    assert len(history) == 40


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (
            lambda s, t: s.tell("t00009", 1),
            "trial: found 't00009', need an open trial that ask() returned (open: t00001)",
        ),
        (lambda s, t: s.tell("t00000", 1), "trial: found t00000, which is succeeded, need an open trial"),
        (lambda s, t: s.tell(t, {"acuracy": 1}), "t00001: found ['acuracy'], need a value for 'loss', or error="),
        (lambda s, t: s.tell(t), "t00001: found [], need a value for 'loss'"),
        (lambda s, t: s.tell(t, "good"), "t00001.loss: found 'good', need a number, or a vector of numbers"),
        (lambda s, t: s.tell(t, {"loss": [1, 2]}), "need a value for 'loss'"),
        (lambda s, t: s.report(t, loss=None), "t00001.loss: found None, need a number"),
        (lambda s, t: s.report(t, loss=1, step=0.5), "t00001.step: found 0.5, need a whole number"),
        (lambda s, t: s.ask(0), "n: found 0, need a whole number of at least 1"),
        (lambda s, t: s.ask(True), "n: found True, need a whole number of at least 1"),
    ],
)
def test_a_mistake_is_told_and_the_trial_stays_open(mistake: Any, said: str) -> None:
    with search(record=False) as searching:
        searching.tell(searching.ask(), 0.5)
        trial = searching.ask()
        with pytest.raises(KatibFlowError) as raised:
            mistake(searching, trial)
        assert said in str(raised.value)
        told = searching.tell(trial, 0.25)
        assert (told.state, told.observations) == (State.SUCCEEDED, {"loss": 0.25})
    with pytest.raises(KatibFlowError, match="the search is closed"):
        searching.ask()


def test_of_several_objectives_each_needs_a_value() -> None:
    with search(minimize=["loss", "size"], record=False, algorithm="nsga2") as searching:
        trial = searching.ask()
        with pytest.raises(InvalidSpec, match="need a mapping with values for 'loss' and 'size'"):
            searching.tell(trial, 1.0)
        with pytest.raises(InvalidSpec, match="need a value for 'size'"):
            searching.tell(trial, {"loss": 1.0})
        assert searching.tell(trial, {"loss": 1.0, "size": [3]}).observations == {"loss": 1.0, "size": 3.0}


def test_nan_is_recorded_and_never_best() -> None:
    with search() as searching:
        told = searching.tell(searching.ask(), float("nan"))
        assert told.state is State.SUCCEEDED
        assert searching.best is None
        searching.tell(searching.ask(), 5.0)
        assert searching.best.id == "t00001"


def test_what_cannot_be_searched_is_refused_before_anything_is_recorded(here: Path) -> None:
    experiment = kf.Experiment.parse(
        {
            "name": "toy",
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "trial": {"command": ["train", "${x}"]},
        }
    )
    for call, said in (
        (lambda: kf.ask_and_tell(experiment), "limits: found nothing"),
        (lambda: kf.ask_and_tell(experiment, minimize="loss"), "minimize: found 'loss', need no argument"),
        (lambda: kf.ask_and_tell(7), "what: found 7, need an experiment"),
        (lambda: kf.ask_and_tell(minimize="loss"), "parameters"),
        (lambda: kf.ask_and_tell("toy", record=False), "record: found False"),
        (lambda: search(algorithm="tpee"), "did you mean 'tpe'"),
    ):
        with pytest.raises(InvalidSpec) as raised:
            call()
        assert said in str(raised.value)
    with pytest.raises(NoStore):
        kf.ask_and_tell("toy")
    assert list(here.iterdir()) == []
    with kf.ask_and_tell(experiment, max_trials=1) as searching:
        assert len(evaluated(searching).trials) == 1
    with pytest.raises(NotFound):
        kf.ask_and_tell("tooy")


def test_the_scheduler_does_not_run_what_only_the_program_can() -> None:
    search().close()
    with pytest.raises(
        KatibFlowError, match=r"whose trials a program evaluates itself; kf.ask_and_tell\(NAME\) continues it"
    ):
        resume_experiment(Store(), "search")


def test_earlier_experiments_are_learnt_from() -> None:
    with search(name="first", max_trials=12) as searching:
        evaluated(searching)
    first = [loss(trial) for trial in searching.trials]
    with search(name="second", algorithm="tpe", warm_start=["first"], max_trials=1) as searching:
        evaluated(searching)
    with search(name="third", algorithm="tpe", max_trials=1, record=False) as unknowing:
        evaluated(unknowing)
    assert first
    assert searching.trials[0].assignment != unknowing.trials[0].assignment


def test_the_search_shows_how_it_stands() -> None:
    with search(record=False) as searching:
        assert repr(searching) == "<Search search: 0 trials, no trial with a value>"
        searching.tell(searching.ask(), 0.5)
        assert repr(searching).startswith("<Search search: 1 trial, best t00000 {'x': ")
