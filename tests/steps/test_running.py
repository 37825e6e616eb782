"""While a trial runs in a pod: a rule may end it, and its checkpoints outlive the pod."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from katib_flow.argo.steps import any_image, checkpoints, train
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.models import build_models
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.argo.steps.watch import Watch
from katib_flow.errors import KatibFlowError
from katib_flow.history import Metric, State, Suggestion, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def context(store: Store) -> Any:
    def make(**changes: Any) -> Context:
        data = {
            "name": "running",
            "objective": {"metric": "score", "direction": "maximize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 9, "parallel_trials": 5},
            "trial": {"function": "user_code:train", "code": CODE},
        }
        return Context(store, store.create(Experiment.parse(data | changes), key=f"running-{time.monotonic_ns()}"), 0)

    return make


CODE = """\
import katib_flow as kf

def train(x):
    state = kf.checkpoint_dir() / "epochs"
    before = int(state.read_text()) if state.exists() else 0
    parent = kf.parent_checkpoint_dir()
    inherited = int((parent / "epochs").read_text()) if parent else 0
    state.write_text(str(before + inherited + 1))
    return {"score": before + inherited + 1}
"""


def series(*values: float) -> list[Metric]:
    return [Metric("score", value, step, 1000 + step) for step, value in enumerate(values)]


def test_a_running_trial_is_judged_by_the_curves_of_the_others(context: Any) -> None:
    here: Context = context(early_stopping={"name": "median", "settings": {"min_trials": 3, "start_step": 2}})
    suggest_iteration(here, 1)
    *others, last = here.store.history(here.record)
    for trial in others:
        points = series(0.8, 0.9)
        here.store.write(here.record, [Change(replace(trial, state=State.SUCCEEDED, ended=1.0), tuple(points))])
    watch = Watch(here, last, seconds=3600)
    assert watch.reason_to_stop() == ""
    watch.hear(series(0.1))
    assert watch.reason_to_stop() == ""  # it has not reported enough yet
    watch.hear(series(0.1, 0.2)[1:])
    assert "its best score by step 1, 0.2, is worse than 0.85" in watch.reason_to_stop()
    assert watch.reason_to_stop() == ""  # nothing new
    watch.end()


def test_a_good_trial_is_left_alone(context: Any) -> None:
    here: Context = context(early_stopping={"name": "median", "settings": {"min_trials": 3, "start_step": 2}})
    suggest_iteration(here, 1)
    *others, last = here.store.history(here.record)
    for trial in others:
        here.store.write(
            here.record, [Change(replace(trial, state=State.SUCCEEDED, ended=1.0), tuple(series(0.8, 0.9)))]
        )
    watch = Watch(here, last, seconds=3600)
    watch.hear(series(0.1, 0.95))
    assert watch.reason_to_stop() == ""
    watch.end()


def child_of(here: Context, parent: Trial) -> str:
    suggestion = Suggestion(7, dict(parent.assignment), parent=parent.index)
    (trial,) = here.store.write(here.record, [Change(Trial(suggestion))])
    return trial.id


@pytest.mark.parametrize("volume", [False, True])
def test_a_child_finds_its_parents_checkpoint_and_a_second_pod_its_own(
    context: Any, tmp_path: Path, volume: bool
) -> None:
    argo = {"checkpoints": {"claim": "models", "path": str(tmp_path / "volume")}} if volume else {}
    here: Context = context(argo=argo)
    first = suggest_iteration(here, 1)[0]
    assert train.run(here, first, tmp_path / "pod-1" / "trial") == 0
    parent = here.store.trial(here.record, first)
    assert parent is not None
    child = child_of(here, parent)
    assert train.run(here, child, tmp_path / "pod-2" / "trial") == 0
    trial = here.store.trial(here.record, child)
    assert trial is not None
    assert trial.observations == {"score": 2.0}
    here.store.write(here.record, [Change(replace(trial, state=State.RUNNING, ended=None))])  # its pod was lost
    assert train.run(here, child, tmp_path / "pod-3" / "trial") == 0
    again = here.store.trial(here.record, child)
    assert again is not None
    assert (again.observations, again.retries) == ({"score": 4.0}, 1)


def test_what_needs_no_checkpoint_leaves_none(context: Any, tmp_path: Path) -> None:
    here: Context = context(trial={"function": "user_code:train", "code": "def train(x): return {'score': x}"})
    first = suggest_iteration(here, 1)[0]
    assert train.run(here, first, tmp_path / "trial") == 0
    trial = here.store.trial(here.record, first)
    assert trial is not None
    assert here.store.checkpoints.find(trial.run_id) is None
    assert not checkpoints.resumed(checkpoints.prepared(here, trial, tmp_path / "other"))


def test_a_trial_whose_directory_was_not_prepared_is_refused_in_words(context: Any, tmp_path: Path) -> None:
    here: Context = context(trial={"container": {"image": "any", "command": ["train"]}}, argo={})
    first = suggest_iteration(here, 1)[0]
    with pytest.raises(KatibFlowError, match="trial: not found, need the directory that prepare creates"):
        any_image.collect(here, first, tmp_path / "trial")
    trial = here.store.trial(here.record, first)
    assert trial is not None
    assert not trial.state.over


def test_models_are_built_only_where_an_architecture_is_searched(context: Any) -> None:
    here: Context = context()
    suggest_iteration(here, 1)
    assert build_models(here, 1) == []
