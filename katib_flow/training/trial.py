"""The trainer as a trial: the trial's network in, metrics and trained weights out."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from katib_flow.errors import KatibFlowError
from katib_flow.models.build import Network
from katib_flow.models.latency import latency_seconds, load_table, tabulated
from katib_flow.models.topology import Topology
from katib_flow.training.data import Data
from katib_flow.training.loop import Epoch, Recipe, train
from katib_flow.trial import user

CHECKPOINT = "training.pt"


def classify_trial(
    data: Data, settings: Mapping[str, Any], *, statistics: bool, latency: bool | str, seed: int, threads: int
) -> Iterator[dict[str, object]]:
    """See ``classify``; ``settings`` are the fields of ``Recipe``."""
    network = network_of_trial(lambda topology: check_images(topology, data), seed=seed, threads=threads)
    checkpoint = user.checkpoint_dir() / CHECKPOINT
    recipe = Recipe(**settings)
    measured = {"latency": latency_of(network, latency)} if latency else {}
    how: Any = {"seed": seed, "statistics": statistics, "checkpoint": checkpoint, "stop": user.should_stop}
    try:
        for epoch in train(network, data, recipe, **how):
            yield _metrics(epoch) | measured
    finally:  # a trial that is ended early keeps what it has learnt
        user.save_model(network)
    checkpoint.unlink(missing_ok=True)  # what a child needs are the weights


def network_of_trial(
    check: Callable[[Topology], None],
    *,
    seed: int,
    threads: int,
    load: Callable[[int], Network] | None = None,
) -> Network:
    """The network that this trial trains, on the GPU if there is one; from here on, torch is deterministic.

    Args:
        check: raises KatibFlowError where the data is not what the topology takes.
        load: makes the network, by the seed of its first weights; without it, the trial's is loaded.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = load(seed) if load else user.load_model(seed=seed)
    check(network.topology)
    return network.to("cuda") if torch.cuda.is_available() else network


def check_images(topology: Topology, data: Data) -> None:
    """Raise KatibFlowError where the images are not those that the topology takes."""
    wanted = (topology.input.shape, topology.output.classes)
    if wanted != (data.shape, data.classes):
        found = f"images of shape {data.shape} in {data.classes} classes"
        read = f"shape {wanted[0]}" if wanted[0] else f"a text of {topology.input.tokens} tokens"
        raise KatibFlowError(f"data: found {found}, need {read} and {wanted[1]}, as the topology has it")


def latency_of(network: Network, source: bool | str) -> float:
    """Milliseconds for one image: measured here, or by the table in a file."""
    if isinstance(source, str):
        return tabulated(network.topology, load_table(Path(source)))
    return 1000 * latency_seconds(network)


def _metrics(epoch: Epoch) -> dict[str, object]:
    metrics: dict[str, object] = {
        "step": epoch.number,
        "accuracy": epoch.valid_accuracy,
        "loss": epoch.valid_loss,
        "train_loss": epoch.train_loss,
    }
    for edge, variance in epoch.statistics.items():
        metrics |= {f"variance/{edge}": float(variance.mean()), f"features/{edge}": variance}
    return metrics
