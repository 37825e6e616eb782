"""The ModelManager: makes the model of a suggestion, keeps it as files, takes weights over from the parent's.

A model is a directory: ``topology.json``, ``topology.svg`` and, where there are any, ``weights.safetensors``. What lies
there becomes artifacts of the trial's run. Nothing here needs torch: the trial builds the module (``kf.load_model``).
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
    """A topology with its weights, none of which may be there yet."""

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
    """Make the model of a suggestion; done again, it comes out the same.

    Args:
        topology: of the suggestion; where it has none, what its decisions stand for in the space.
        parent: directory of the parent's model. What of its weights fits, or its edits carry over, is taken.

    Raises:
        KatibFlowError: the topology is not sound, or the parent's files are not; the message says how.
    """
    if topology is not None:
        made = Topology.parse(topology, "topology")
    elif space is not None:
        made = space.topology(decisions)
    else:
        raise KatibFlowError("topology: found nothing, need one: the experiment searches no architecture")
    before = load_model(parent) if parent is not None and (parent / TOPOLOGY).exists() else None
    weights = inherited(before.topology, before.weights, made) if before else {}
    store_model(directory, Model(made, weights), parent=before.topology if before else None)
    return Model(made, weights)


def store_model(directory: Path, model: Model, *, parent: Topology | None = None) -> None:
    """Write a model's files; the drawing marks what is not in the parent."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TOPOLOGY).write_text(json.dumps(model.topology.to_dict(), indent=1), encoding="utf-8")
    (directory / DRAWING).write_text(svg(model.topology, parent), encoding="utf-8")
    if model.weights:
        save_weights(directory / WEIGHTS, model.topology, model.weights)
    else:
        (directory / WEIGHTS).unlink(missing_ok=True)


def load_model(directory: Path) -> Model:
    """The model in a directory.

    Raises:
        KatibFlowError: a file is missing or cut off, or the weights are those of another topology.
    """
    topology = load_topology(directory / TOPOLOGY)
    path = directory / WEIGHTS
    return Model(topology, load_weights(path, topology) if path.exists() else {})


def load_topology(path: Path) -> Topology:
    """The topology in a file.

    Raises:
        KatibFlowError: it cannot be read, or is not sound.
    """
    try:
        data = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KatibFlowError(f"{path}: not a topology ({error}); need JSON with the schema topology/1") from None
    return Topology.parse(data, str(path))
