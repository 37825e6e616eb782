"""Paths of a supernet that are on or off: how they are drawn, and how what they are drawn from learns.

Paper: Cai et al., "ProxylessNAS", ICLR 2019, sections 3.2 and 3.3.2; the draw is Gumbel top-k (Kool et al., ICML 2019).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def sampled(logits: Tensor, count: int, rng: np.random.Generator) -> list[int]:
    """Different positions, one after the other, each by its probability among those that are left (Gumbel top-k)."""
    noisy = logits.detach().double().cpu().numpy() + rng.gumbel(size=len(logits))
    return np.argsort(-noisy, kind="stable")[:count].tolist()


def chances_among(alpha: Tensor, paths: Sequence[int]) -> Tensor:
    """The probabilities of some paths as if there were no others, shape (path,): zero for the others."""
    others = [place for place in range(len(alpha)) if place not in paths]
    return alpha.index_fill(0, torch.tensor(others, dtype=torch.long, device=alpha.device), -torch.inf).softmax(dim=0)


def binary(chances: Tensor, paths: Sequence[int], on: int) -> list[Tensor]:
    """Binary gates of all paths: 1 for the one that is on, else 0; those of ``paths`` have the gradient of their
    probabilities in the place of their own, dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i) (equation 4).
    """
    through = chances - chances.detach()
    return [
        through[place] + float(place == on) if place in paths else through.new_zeros(())
        for place in range(len(chances))
    ]


def rescale(alpha: Tensor, before: Tensor, paths: Sequence[int]) -> None:
    """Shift some architecture weights so that the probabilities of all others are what they were."""
    with torch.no_grad():
        some = torch.tensor(paths, device=alpha.device)
        alpha[some] += before[some].logsumexp(dim=0) - alpha[some].logsumexp(dim=0)


def policy_loss(log_chances: Tensor, rewards: Sequence[float]) -> Tensor:
    """Its slope is an unbiased estimate of less the slope of the expected reward (equation 9).

    Args:
        log_chances: of the sampled networks, shape (network,).
        rewards: of each, compared with the mean of the others'.
    """
    reward = log_chances.new_tensor(rewards)
    others = (reward.sum() - reward) / (len(rewards) - 1)
    return -((reward - others) * log_chances).mean()
