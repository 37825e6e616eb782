"""Population based training for real: processes, checkpoints on disk, lineage in the store."""

from pathlib import Path

import pytest

import katib_flow as kf
from katib_flow.tracking import Store

MODULE = '''\
import json

import katib_flow as kf


def train(lr, epochs):
    """Keeps in its checkpoint who trained it; gains as much an epoch as its rate allows."""
    before = kf.parent_checkpoint_dir()
    state = json.loads((before / "state.json").read_text()) if before else {"epochs": 0, "gain": 0.0, "rates": []}
    while state["epochs"] < epochs:
        state = {"epochs": state["epochs"] + 1, "gain": state["gain"] + lr, "rates": [*state["rates"], lr]}
    (kf.checkpoint_dir() / "state.json").write_text(json.dumps(state))
    return {"gain": state["gain"], "trained": state["epochs"]}
'''


@pytest.mark.parametrize("barrier", [False, True])
def test_a_member_continues_the_checkpoint_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, barrier: bool
) -> None:
    (tmp_path / "pbt_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    spec = kf.Experiment.parse(
        {
            "name": "pbt",
            "objective": {"metric": "gain", "direction": "maximize"},
            "additional_metrics": ["trained"],
            "parameters": {"lr": {"type": "float", "min": 0.01, "max": 1.0}},
            "algorithm": {"name": "pbt", "seed": 1, "settings": {"n_population": 4, "truncation_threshold": 0.25}},
            "budget": {"parameter": "epochs", "min": 1, "max": 4},
            "limits": {"parallel_trials": 2},
            "trial": {"function": "pbt_module:train"},
        }
    )
    store = Store(f"sqlite:///{tmp_path}/store.db", "pbt")
    result = kf.run(spec, store=store, barrier=barrier)
    record = store.find("pbt")
    trials = store.history(record)
    assert len(trials) == len(result.trials)
    by_index = {trial.index: trial for trial in trials}
    for trial in trials:
        parent = by_index[trial.suggestion.parent] if trial.suggestion.parent is not None else None
        before = parent.observations["gain"] if parent else 0.0
        rate = float(str(trial.assignment["lr"]))
        assert trial.observations["trained"] == trial.suggestion.budget
        assert trial.observations["gain"] == pytest.approx(before + rate)  # one epoch more, from that very checkpoint
    exploited = [
        trial
        for trial in trials
        if trial.suggestion.parent is not None
        and by_index[trial.suggestion.parent].suggestion.info["member"] != trial.suggestion.info["member"]
    ]
    assert exploited
