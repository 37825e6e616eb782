"""A step that runs again after its pod was lost gives what it gave, whatever has ended since."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from katib_flow.argo.steps.collect import collect_metrics, finish
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import Turn, suggest_iteration, suggest_lane
from katib_flow.history import State, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.memory import MemoryStore
from katib_flow.tracking import Change, Status, Store

KILLED, SUCCEEDED = State.KILLED, State.SUCCEEDED
Opened = Callable[..., Context]
numbers = itertools.count()


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture(params=["sqlite", "memory"])
def opened(sqlite: Store, request: pytest.FixtureRequest) -> Opened:
    store: Any = sqlite if request.param == "sqlite" else MemoryStore()
    key = f"again-{next(numbers)}"

    def make(segment: int = 0, mode: str = "barrier", parallel: int = 3) -> Context:
        data: dict[str, Any] = {
            "name": "again",
            "objective": {"metric": "score", "direction": "maximize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "algorithm": {"name": "tpe", "seed": 5, "settings": {"startup": 3}},
            "limits": {"max_trials": 30, "parallel_trials": parallel},
            "trial": {"function": "user_module:train"},
            "argo": {"image": "user:1", "mode": mode},
        }
        return Context(store, store.create(Experiment.parse(data), key=key), segment)

    return make


def end(context: Context, trial_id: str | None, state: State = SUCCEEDED) -> None:
    trial = trials(context)[str(trial_id)]
    observed = {"score": float(str(trial.assignment["x"]))} if state is SUCCEEDED else {}
    change = Change(replace(trial, state=state, observations=observed, started=time.time(), ended=time.time()))
    context.store.write(context.record, [change])


def trials(context: Context) -> dict[str, Trial]:
    return {trial.id: trial for trial in context.store.history(context.record)}


def iterate(opened: Opened, iteration: int, *states: State, segment: int = 0) -> list[str]:
    ids = suggest_iteration(opened(segment), iteration)
    for trial_id, state in itertools.zip_longest(ids, states, fillvalue=SUCCEEDED):
        end(opened(segment), str(trial_id), state)  # type: ignore[arg-type]
    return ids


def test_an_iteration_whose_restarted_trial_has_ended_is_the_same(opened: Opened) -> None:
    iterate(opened, 1)
    iterate(opened, 2, SUCCEEDED, KILLED)
    ids = suggest_iteration(opened(), 3)
    assert ids == ["t00004", "t00006", "t00007"]
    end(opened(), "t00004")
    assert suggest_iteration(opened(), 3) == ids
    end(opened(), "t00007", KILLED)
    assert suggest_iteration(opened(), 3) == ids
    assert [*trials(opened())] == [f"t{index:05}" for index in range(8)]


def test_an_iteration_that_gave_nothing_gives_nothing(opened: Opened) -> None:
    opened().store.set_control(opened().record, max_trials=0)
    assert suggest_iteration(opened(), 1) == []
    opened().store.set_control(opened().record, max_trials=3)
    assert suggest_iteration(opened(), 1) == []
    assert suggest_iteration(opened(1), 1) == ["t00000", "t00001", "t00002"]


def test_an_iteration_of_restarted_trials_alone_is_the_same_though_more_wait(opened: Opened) -> None:
    """Two segments that were cut off leave more trials than one iteration starts."""
    iterate(opened, 1, KILLED, KILLED, KILLED)
    for index in range(3, 5):  # as a lane of an earlier segment would have left them
        one = replace(trials(opened())["t00000"].suggestion, index=index, basis=None)
        opened().store.write(opened().record, [Change(Trial(one, KILLED))])
    ids = suggest_iteration(opened(1), 1)
    assert ids == ["t00000", "t00001", "t00002"]
    for trial_id in ids:
        end(opened(1), trial_id)
    assert suggest_iteration(opened(1), 1) == ids
    assert suggest_iteration(opened(1), 2) == ["t00003", "t00004", "t00005"]


@pytest.mark.parametrize("recorded", range(1, 3))
def test_an_iteration_that_was_recorded_in_part_is_completed_as_it_was(opened: Opened, recorded: int) -> None:
    iterate(opened, 1)
    iterate(opened, 2, SUCCEEDED, KILLED)
    before, store = trials(opened()), opened().store
    whole = suggest_iteration(opened(), 3)
    after, twin = trials(opened()), store.create(opened().experiment, key=f"again-{next(numbers)}")
    kept = [*before.values(), *(after[trial_id] for trial_id in whole[:recorded])]
    for trial in {trial.id: trial for trial in kept}.values():
        store.write(twin, [Change(replace(trial, run_id=""))])
    assert suggest_iteration(Context(store, twin, 0), 3) == whole
    recovered = trials(Context(store, twin, 0))
    assert {name: trial.suggestion for name, trial in recovered.items()} == {
        name: trial.suggestion for name, trial in after.items()
    }


def test_a_lane_whose_restarted_trial_has_ended_has_the_same(opened: Opened) -> None:
    def turn(iteration: int) -> str | None:
        return suggest_lane(opened(mode="lanes"), iteration, 1, 3, 40).trial

    end(opened(), turn(1), KILLED)
    assert turn(2) == "t00001"
    end(opened(), "t00001")
    assert turn(2) == "t00001"
    assert turn(3) == "t00007"
    assert suggest_lane(opened(mode="lanes"), 2, 1, 3, 40) == Turn()  # the lane is past it
    assert [*trials(opened())] == ["t00001", "t00007"]


def test_collect_metrics_of_an_iteration_before_leaves_the_trials_of_a_later_one_alone(opened: Opened) -> None:
    iterate(opened, 1, SUCCEEDED, KILLED)
    assert collect_metrics(opened(), None, 1) is True
    running = suggest_iteration(opened(), 2)
    assert collect_metrics(opened(), None, 1) is True
    assert {trials(opened())[trial_id].state for trial_id in running} == {State.PENDING}
    assert opened().record.status is Status.RUNNING


def test_the_end_of_a_segment_leaves_a_trial_alone_that_the_next_one_has_started_again(opened: Opened) -> None:
    first = suggest_lane(opened(0, "lanes"), 1, 0, 3, 2)
    end(opened(), first.trial, KILLED)
    opened().take_over(1)
    assert suggest_lane(opened(1, "lanes"), 1, 0, 3, 2).trial == first.trial
    assert finish(opened(0, "lanes"), "Succeeded", "null") is None
    assert trials(opened())[str(first.trial)].state is State.PENDING
