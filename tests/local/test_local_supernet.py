"""Search by a supernet for real: processes, checkpoints on disk, and the same bits however it is cut into segments."""

from pathlib import Path

import pytest

import katib_flow as kf
from katib_flow.history import History, Kind, Origin
from katib_flow.models import Topology
from katib_flow.tracking import Store

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

SETTINGS = {
    "darts": {"epochs": 2, "batch": 16, "alpha_lr": 0.05, "retrain": 2},
    "enas": {"epochs": 2, "batch": 16, "updates": 2, "children": 2, "candidates": 4, "retrain": 2, "units": 8},
}


CELL = {"space": "cell", "settings": {"nodes": 3, "stages": 1, "channels": 4}}
SKIPS = {"space": "macro", "settings": {"layers": 3, "channels": 4, "operations": ["conv3", "avg3"]}}


def searched(name: str, segment_epochs: int, tmp_path: Path, architecture: object) -> History:
    constants = {"epochs": 1, "train_size": 64}
    spec = kf.Experiment.parse(
        {
            "name": f"{name}-{segment_epochs}",
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "architecture": architecture,
            "algorithm": {"name": name, "settings": {**SETTINGS[name], "segment_epochs": segment_epochs}},
            "limits": {"max_failed_trials": 0, "parallel_trials": 1},
            "trial": {"arguments": constants},
        }
    )
    store = Store(f"sqlite:///{tmp_path}/store.db", "supernet")
    kf.run(spec, store=store)
    return store.history(store.find(spec.name))


@pytest.mark.parametrize(("name", "space"), [("darts", CELL), ("enas", SKIPS)])
def test_a_search_in_two_segments_comes_to_what_it_comes_to_in_one(
    name: str, space: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cut, whole = searched(name, 1, tmp_path, space), searched(name, 2, tmp_path, space)
    assert [trial.suggestion.parent for trial in cut] == [None, 0, None, None]
    scratch = Origin(Kind.GENERATE, (0,))
    assert [trial.suggestion.origin for trial in whole] == [Origin(Kind.SEGMENT), scratch, scratch]
    assert [trial.observations["search/progress"] for trial in cut[:2]] == [0.5, 1.0]
    assert cut[1].observations == whole[0].observations  # every weight, choice and loss, bit for bit
    for mine, theirs in zip(list(cut)[2:], list(whole)[1:], strict=True):
        assert mine.observations == theirs.observations
        assert mine.suggestion.topology == theirs.suggestion.topology
        assert not Topology.parse(mine.suggestion.topology).flat.groups
    assert cut[2].suggestion.topology != cut[3].suggestion.topology
