"""Segments of a supernet's search in the trials that train them: what is kept, and when."""

import json

import pytest

from katib_flow.algorithms import find_algorithm
from katib_flow.errors import KatibFlowError
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture
from katib_flow.trial.protocol import TRIAL_FILE

pytest.importorskip("torch")
from katib_flow.nas.relax.segments import restored
from katib_flow.training.data import load_data

SPACE = space_of(Architecture(space="cell", settings={"nodes": 3, "channels": 3, "stages": 1}))


@pytest.mark.parametrize("name", ["darts", "enas", "proxylessnas"])
def test_an_epoch_is_in_the_checkpoint_when_it_has_been_reported(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "topology.json").write_text(json.dumps(SPACE.supernet().to_dict()))

    algorithm = find_algorithm(name)

    def begun():
        return algorithm.segment(algorithm.settings(epochs=2), load_data("digits", 64))

    cut = begun()
    assert [next(cut)["step"], next(cut)["step"]] == [1, 2]
    cut.close()  # while the last epoch was reported: had it been in the checkpoint, nothing would be told any more
    assert [told["step"] for told in begun()] == [2]


def test_a_segment_whose_parent_left_no_checkpoint_says_so(tmp_path, monkeypatch):
    file = tmp_path / "trial.json"
    file.write_text(json.dumps({"checkpoint_dir": f"{tmp_path}/mine", "parent_checkpoint_dir": f"{tmp_path}/gone"}))
    monkeypatch.setenv(TRIAL_FILE, str(file))
    with pytest.raises(KatibFlowError, match=r"gone/search\.pt: found nothing, need the checkpoint"):
        restored()
