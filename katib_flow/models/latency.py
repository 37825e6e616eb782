"""How long a network takes for one image on this machine: measured, because no count of operations tells it."""

import statistics
import time

import torch

from katib_flow.models.build import Network


@torch.no_grad()
def latency_seconds(network: Network, *, runs: int = 50, warm_up: int = 5, batch: int = 1) -> float:
    """Median time of a forward pass in evaluation mode, on one thread.

    Args:
        runs: passes that are timed, after ``warm_up`` that are not.
        batch: images at once.
    """
    images = torch.zeros(batch, *network.topology.input.shape, device=next(network.parameters(), torch.empty(0)).device)
    threads, training = torch.get_num_threads(), network.training
    torch.set_num_threads(1)
    network.eval()
    try:
        for _ in range(warm_up):
            network(images)
        return statistics.median(_timed(network, images) for _ in range(runs))
    finally:
        torch.set_num_threads(threads)
        network.train(training)


def _timed(network: Network, images: torch.Tensor) -> float:
    start = time.perf_counter()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
