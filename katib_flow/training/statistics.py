"""Feature statistics: the variance of each channel of an operation's output during training.

Batches are combined by the update of Chan, Golub and LeVeque (1979, equation 2.1), so only count, mean and sum of
squares are kept; the result equals that for all batches at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass
class Statistics:
    """Running statistics by edge, as tensors of shape (channel,) in double precision.

    Attributes:
        counts: number of values per channel.
        squares: sums of squared deviations from the means.
    """

    counts: dict[str, int] = field(default_factory=dict[str, int])
    means: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    squares: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @torch.no_grad()
    def add(self, edge: str, maps: Tensor) -> None:
        """Add the output of an edge for a batch, shape (batch, channel, ...)."""
        values = maps.detach().transpose(0, 1).flatten(1).double()
        count, mean = values.shape[1], values.mean(dim=1)
        squares = ((values - mean[:, None]) ** 2).sum(dim=1)
        if before := self.counts.get(edge, 0):
            delta, total = mean - self.means[edge], before + count
            squares = self.squares[edge] + squares + delta**2 * before * count / total
            mean, count = self.means[edge] + delta * count / total, total
        self.counts[edge], self.means[edge], self.squares[edge] = count, mean, squares

    def variance(self) -> dict[str, np.ndarray]:
        """The variance of each channel over all batches, shape (channel,), by edge."""
        return {edge: (squares / max(1, self.counts[edge] - 1)).cpu().numpy() for edge, squares in self.squares.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The statistics as tensors, for a checkpoint."""
        counts = {edge: torch.tensor(count) for edge, count in self.counts.items()}
        return {"counts": counts, "means": dict(self.means), "squares": dict(self.squares)}

    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Continue from an earlier ``state``; an empty mapping clears the statistics."""
        self.counts = {edge: int(count) for edge, count in state.get("counts", {}).items()}
        self.means, self.squares = dict(state.get("means", {})), dict(state.get("squares", {}))
