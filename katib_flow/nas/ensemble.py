"""A growing ensemble: the last subnetwork is trained while the others stay fixed, then all are weighted."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.models.build import Network
from katib_flow.models.spaces.ensemble import mixing, output_of
from katib_flow.nas.mixture import Array, mixture, objective
from katib_flow.training.data import Data, Split
from katib_flow.training.loop import Epoch, Recipe, device_of, tensors, train


@dataclass(frozen=True)
class Fit:
    """The weights of an ensemble, and its objective.

    Attributes:
        weights: the weight of each subnetwork, shape (member,).
        value: F on the training images with these weights.
    """

    weights: Array
    value: float


class Grown(nn.Module):
    """A network of which only the last subnetwork is trained; all tensors of the others are fixed, also statistics."""

    def __init__(self, network: Network, members: int) -> None:
        super().__init__()
        self.network = network
        mine = {network.operation(edge) for edge in network.flat.edges if edge.key.startswith(f"{members}.")}
        self.fixed = [module for module in network.operations.values() if module not in mine]
        for module in self.fixed:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Grown":
        """Set the mode of the last subnetwork; the others stay in evaluation mode."""
        super().train(mode)
        for module in self.fixed:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the whole ensemble, shape (image, class)."""
        return self.network(images)


def train_last(
    network: Network,
    members: int,
    data: Data,
    recipe: Recipe,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Train the last subnetwork and its weight in place; the arguments are those of ``loop.train``."""
    how: Mapping[str, Any] = {"seed": seed, "checkpoint": checkpoint, "stop": stop}
    yield from train(Grown(network, members), data, recipe, **how)


def weigh(network: Network, data: Split, penalties: Array) -> Fit:
    """Set the weights of the subnetworks to the minimum of F, which is at most F without the last one.

    Args:
        penalties: the penalty of each subnetwork, shape (member,).
    """
    scales = [_scale(network, member) for member in range(1, len(penalties) + 1)]
    outputs = outputs_of(network, data, len(penalties))
    start = np.array([*(float(scale.detach()) for scale in scales[:-1]), 0.0])  # the ensemble as it was
    weights = mixture(outputs, data.labels, penalties, start).astype(np.float32).astype(np.float64)
    with torch.no_grad():
        for scale, weight in zip(scales, weights, strict=True):
            scale.fill_(weight)
    return Fit(weights, objective(weights, outputs, data.labels, penalties))


@torch.no_grad()
def outputs_of(network: Network, data: Split, members: int) -> Array:
    """The outputs of each subnetwork in evaluation mode; shape (member, image, class)."""
    network.eval()
    values = network.values(tensors(data, device_of(network))[0])
    return np.stack([values[output_of(member)].double().cpu().numpy() for member in range(1, members + 1)])


def _scale(network: Network, member: int) -> nn.Parameter:
    edge = next(edge for edge in network.flat.edges if edge.key == mixing(member))
    (parameter,) = network.operation(edge).parameters()
    return parameter
