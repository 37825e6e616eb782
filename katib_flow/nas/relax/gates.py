"""Gates that switch the paths of a supernet on or off: how they are sampled, and how they learn.

Paper: Cai et al., "ProxylessNAS", ICLR 2019, sections 3.2 and 3.3.2; sampling by Gumbel top-k (Kool et al., ICML 2019).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def sampled(logits: Tensor, count: int, rng: np.random.Generator) -> list[int]:
    """Sample ``count`` different positions without replacement (Gumbel top-k).

    Args:
        logits: shape (path,).
    """
    noisy = logits.detach().double().cpu().numpy() + rng.gumbel(size=len(logits))
    return np.argsort(-noisy, kind="stable")[:count].tolist()


def chances_among(alpha: Tensor, paths: Sequence[int]) -> Tensor:
    """The probabilities of some paths, normalised among them, and zero for all others; shape (path,)."""
    others = [path for path in range(len(alpha)) if path not in paths]
    return alpha.index_fill(0, torch.tensor(others, dtype=torch.long, device=alpha.device), -torch.inf).softmax(dim=0)


def binary(chances: Tensor, paths: Sequence[int], on: int) -> list[Tensor]:
    """Binary gates of all paths: 1 for the path that is on, 0 for the others.

    The gates of ``paths`` pass their gradient to the probabilities, so that
    dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i) (equation 4).
    """
    through = chances - chances.detach()
    return [
        through[path] + float(path == on) if path in paths else through.new_zeros(()) for path in range(len(chances))
    ]


def rescale(alpha: Tensor, before: Tensor, paths: Sequence[int]) -> None:
    """Shift the architecture weights of some paths so that the probabilities of all other paths are as before."""
    with torch.no_grad():
        some = torch.tensor(paths, device=alpha.device)
        alpha[some] += before[some].logsumexp(dim=0) - alpha[some].logsumexp(dim=0)


def policy_loss(log_chances: Tensor, rewards: Sequence[float]) -> Tensor:
    """A loss whose gradient is an unbiased estimate of minus the gradient of the expected reward (equation 9).

    Args:
        log_chances: log probability of each sampled network, shape (network,).
        rewards: the reward of each network; its baseline is the mean reward of the others.
    """
    reward = log_chances.new_tensor(rewards)
    others = (reward.sum() - reward) / (len(rewards) - 1)
    return -((reward - others) * log_chances).mean()
