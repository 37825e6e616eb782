"""The ModelManager: creates the model of a suggestion, stores it as files, and takes over weights from its parent.

A model is a directory with ``topology.json``, ``topology.svg`` and, if it has weights, ``weights.safetensors``. The
files become artifacts of the trial's run. Nothing here needs torch: the trial builds the module (``kf.load_model``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import from_json
from katib_flow.models.drawing import svg
from katib_flow.models.morphisms import inherited
from katib_flow.models.space import Space
from katib_flow.models.topology import Topology
from katib_flow.models.weights import FILE as WEIGHTS
from katib_flow.models.weights import Weights, load_weights, save_weights

TOPOLOGY, DRAWING = "topology.json", "topology.svg"


@dataclass(frozen=True)
class Model:
    """A topology with its weights, which may be empty."""

    topology: Topology
    weights: Weights


def build_model(
    space: Space | None,
    directory: Path,
    *,
    topology: Mapping[str, object] | None,
    decisions: Mapping[str, Any],
    parent: Path | None = None,
) -> Model:
    """Create the model of a suggestion; repeating it gives the same model.

    Args:
        directory: where to store the model.
        topology: the suggestion's topology; without one, its ``decisions`` select an architecture of the space.
        parent: directory of the parent's model, from whose weights those that fit are taken over.

    Raises:
        KatibFlowError: the topology or a file of the parent is not sound; the message says why.
    """
    if topology is not None:
        child = Topology.parse(topology, "topology")
    elif space is not None:
        child = space.topology(decisions)
    else:
        raise KatibFlowError("topology: found nothing, need a topology, because the experiment has no search space")
    before = load_model(parent) if parent is not None and (parent / TOPOLOGY).exists() else None
    weights = inherited(before.topology, before.weights, child) if before else {}
    store_model(directory, Model(child, weights), parent=before.topology if before else None)
    return Model(child, weights)


def store_model(directory: Path, model: Model, *, parent: Topology | None = None) -> None:
    """Write a model's files; the drawing highlights the changes from the parent."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TOPOLOGY).write_text(json.dumps(model.topology.to_dict(), indent=1), encoding="utf-8")
    (directory / DRAWING).write_text(svg(model.topology, parent), encoding="utf-8")
    if model.weights:
        save_weights(directory / WEIGHTS, model.topology, model.weights)
    else:
        (directory / WEIGHTS).unlink(missing_ok=True)


def load_model(directory: Path) -> Model:
    """Load the model in a directory.

    Raises:
        KatibFlowError: a file is missing or truncated, or the weights belong to another topology.
    """
    topology = load_topology(directory / TOPOLOGY)
    path = directory / WEIGHTS
    return Model(topology, load_weights(path, topology) if path.exists() else {})


def load_topology(path: Path) -> Topology:
    """Load the topology in a file.

    Raises:
        KatibFlowError: the file cannot be read, or the topology is not sound.
    """
    try:
        data = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KatibFlowError(f"{path}: not a topology ({error}); need JSON of schema topology/1") from None
    return Topology.parse(data, str(path))
