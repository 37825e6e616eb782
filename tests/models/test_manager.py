"""Models as files: what is stored comes back, and what is cut off or belongs elsewhere is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models import Topology
from katib_flow.models.manager import build_model, load_model
from katib_flow.models.morphisms import modify
from katib_flow.models.presets import space_of
from katib_flow.models.weights import WeightsError, load_weights, save_weights
from katib_flow.spec.sections import Architecture

SPACE = space_of(Architecture(space="chain"))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A model with trained weights."""
    pytest.importorskip("torch")
    from katib_flow.models.build import build, save_network

    build_model(SPACE, tmp_path / "parent", topology=None, decisions={})
    save_network(build(SPACE.initial, seed=0), tmp_path / "parent")
    return tmp_path / "parent"


def test_a_model_comes_back_as_it_was_stored(stored):
    from katib_flow.models.build import build, load_network, weights_of

    network = load_network(stored)
    assert network.topology == SPACE.initial
    expected = weights_of(build(SPACE.initial, seed=0))
    assert all(np.array_equal(value, expected[name]) for name, value in weights_of(network).items())
    assert load_model(stored).weights.keys() == expected.keys()


def test_a_child_starts_from_what_its_edits_make_of_the_parents_weights(stored, tmp_path):
    import torch

    from katib_flow.models.build import load_network

    edits = [{"edit": "widen", "edge": "conv1", "to": 12, "seed": 1}, {"edit": "deepen", "edge": "conv2"}]
    child = modify(SPACE.initial, edits)
    built = build_model(SPACE, tmp_path / "child", topology=child.to_dict(), decisions={}, parent=stored)
    images = torch.rand(3, 1, 8, 8)
    one, other = load_network(stored).eval(), load_network(tmp_path / "child").eval()
    torch.testing.assert_close(one(images), other(images), atol=1e-5, rtol=1e-4)
    assert built.topology.hash != SPACE.initial.hash
    picture = (tmp_path / "child" / "topology.svg").read_text()
    assert "new since the parent" in picture


def test_a_child_that_is_to_be_trained_from_scratch_inherits_nothing(stored, tmp_path):
    fresh = SPACE.initial.model_copy(update={"weights": "fresh"})
    assert not build_model(SPACE, tmp_path / "child", topology=fresh.to_dict(), decisions={}, parent=stored).weights


def test_a_model_that_is_made_again_is_the_same(stored, tmp_path):
    child = modify(SPACE.initial, [{"edit": "widen", "edge": "conv1", "to": 12, "seed": 1}]).to_dict()
    files = []
    for _ in range(2):
        build_model(SPACE, tmp_path / "child", topology=child, decisions={}, parent=stored)
        files.append({path.name: path.read_bytes() for path in (tmp_path / "child").iterdir()})
    assert files[0] == files[1]


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_weights_file_that_was_cut_off_is_refused(stored, size):
    path = stored / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=r"weights\.safetensors: not a complete safetensors file"):
        load_model(stored)


def test_weights_of_another_topology_are_refused(stored):
    other = modify(SPACE.initial, [{"edit": "deepen", "edge": "conv1"}])
    with pytest.raises(WeightsError, match=f"weights of topology {SPACE.initial.hash}, need those of {other.hash}"):
        load_weights(stored / "weights.safetensors", other)


def test_tensors_that_do_not_fit_are_refused_by_name(stored):
    from katib_flow.models.build import load_network

    save_weights(stored / "weights.safetensors", SPACE.initial, {"operations.conv1.0.weight": np.zeros((2, 2))})
    with pytest.raises(
        WeightsError, match=r"operations.conv1.0.weight has shape \(2, 2\), but the network needs shape"
    ):
        load_network(stored)


def test_a_topology_file_that_was_cut_off_is_refused(stored):
    path = stored / "topology.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(KatibFlowError, match=r"topology\.json: not a topology"):
        load_model(stored)


def test_edits_survive_in_the_file(tmp_path):
    child = modify(SPACE.initial, [{"edit": "deepen", "edge": "conv1"}])
    build_model(SPACE, tmp_path, topology=child.to_dict(), decisions={})
    written = json.loads((tmp_path / "topology.json").read_text())
    assert written["edits"] == [{"edit": "deepen", "edge": "conv1"}]
    assert Topology.parse(written).hash == child.hash
