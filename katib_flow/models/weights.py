"""Weights as safetensors files, which contain no code; each names its topology. No torch needed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import KatibFlowError
from katib_flow.models.topology import Topology

Weights = dict[str, NDArray[np.generic]]
FILE = "weights.safetensors"


class WeightsError(KatibFlowError):
    """Weights that cannot be used; the message says what is wrong and what would be right."""


def save_weights(path: Path, topology: Topology, weights: Mapping[str, NDArray[np.generic]]) -> None:
    """Write weights to a file atomically, with the hash of their topology."""
    from safetensors.numpy import save_file

    part = path.with_suffix(".part")
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in weights.items()}
    save_file(tensors, part, metadata={"topology": topology.hash})
    part.replace(path)


def load_weights(path: Path, topology: Topology | None = None) -> Weights:
    """Load the tensors of a file, by name.

    Args:
        topology: the topology that they must belong to; None for any.

    Raises:
        WeightsError: the file is truncated or no weights file, or belongs to another topology.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            weights: Weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a complete safetensors file ({error}); save it again with kf.save_model"
        ) from None
    if topology is not None and metadata.get("topology") != topology.hash:
        saved_for = metadata.get("topology", "unknown")
        raise WeightsError(f"{path}: found weights of topology {saved_for}, need those of {topology.hash}")
    return weights
