"""What the steps of a Workflow suggest is derived again from what they recorded of it."""

import time
from dataclasses import replace
from typing import Any

import pytest

from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import suggest_iteration, suggest_lane
from katib_flow.history import State
from katib_flow.replay import replay
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


def experiment(mode: str) -> Experiment:
    data: dict[str, Any] = {
        "name": f"replayed-{mode}",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": {"name": "tpe", "seed": 5, "settings": {"startup": 3}},
        "limits": {"max_trials": 30, "parallel_trials": 3},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1", "mode": mode},
    }
    return Experiment.parse(data)


def end(context: Context, trial_id: str, state: State = State.SUCCEEDED) -> None:
    trial = context.store.trial(context.record, trial_id)
    assert trial is not None
    observed = {"score": float(str(trial.assignment["x"]))} if state is State.SUCCEEDED else {}
    change = Change(replace(trial, state=state, observations=observed, started=time.time(), ended=time.time()))
    context.store.write(context.record, [change])


def check(context: Context, trials: int) -> None:
    history = context.store.history(context.record)
    assert len(history) == trials
    assert [one for one in replay(context.experiment, history) if not one.equal] == []
    first = history[0]  # and what is edited is found
    edited = replace(first, suggestion=replace(first.suggestion, assignment={"x": 0.5}))
    assert replay(context.experiment, history.replaced([edited]))[0].differences


def test_iterations_with_a_trial_that_was_cut_short_and_a_step_that_ran_twice(store: Store) -> None:
    context = Context(store, store.create(experiment("barrier"), key="replayed-barrier"), 0)
    for iteration in range(1, 5):
        ids = suggest_iteration(context, iteration)
        assert suggest_iteration(context, iteration) == ids
        for number, trial_id in enumerate(ids):
            end(context, trial_id, State.KILLED if (iteration, number) == (2, 1) else State.SUCCEEDED)
    check(context, 11)


def test_lanes_that_ask_while_others_run(store: Store) -> None:
    context = Context(store, store.create(experiment("lanes"), key="replayed-lanes"), 0)
    for turn in range(1, 4):
        asked = [suggest_lane(context, turn, lane, 3, 40).trial for lane in (2, 0, 1)]
        for trial_id in asked[:: -1 if turn % 2 else 1]:
            assert trial_id is not None
            end(context, trial_id)
    check(context, 9)
