"""The trainer as a trial: it loads the trial's network, yields metrics and saves the trained weights."""

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
from katib_flow.wording import counted

CHECKPOINT = "training.pt"


def classify_trial(
    data: Data, settings: Mapping[str, Any], *, statistics: bool, latency: bool | str, seed: int, threads: int
) -> Iterator[dict[str, object]]:
    """Train a trial as ``classify`` does; ``settings`` are the fields of ``Recipe``."""
    network = network_of_trial(lambda topology: check_images(topology, data), seed=seed, threads=threads)
    checkpoint = user.checkpoint_dir() / CHECKPOINT
    recipe = Recipe(**settings)
    measured = {"latency": latency_of(network, latency)} if latency else {}
    how: Any = {"seed": seed, "statistics": statistics, "checkpoint": checkpoint, "stop": user.should_stop}
    try:
        for epoch in train(network, data, recipe, **how):
            yield _metrics(epoch) | measured
    finally:  # a trial that is stopped early saves its weights, too
        user.save_model(network)
    checkpoint.unlink(missing_ok=True)  # a child only needs the weights


def network_of_trial(
    check: Callable[[Topology], None],
    *,
    seed: int,
    threads: int,
    load: Callable[[int], Network] | None = None,
) -> Network:
    """Load the network that this trial trains, on the GPU if there is one, and make torch deterministic.

    Args:
        check: raises KatibFlowError if the data does not fit the topology.
        load: makes the network from the seed for its initial weights; by default, the trial's model is loaded.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = load(seed) if load else user.load_model(seed=seed)
    check(network.topology)
    return network.to("cuda") if torch.cuda.is_available() else network


def check_images(topology: Topology, data: Data) -> None:
    """Check that images fit a topology.

    Raises:
        KatibFlowError: they differ in shape or number of classes.
    """
    wanted = (topology.input.shape, topology.output.classes)
    if wanted != (data.shape, data.classes):
        given = f"images of shape {data.shape} in {counted(data.classes, 'class', 'classes')}"
        read = f"images of shape {wanted[0]}" if wanted[0] else f"a text of {topology.input.tokens} different tokens"
        classes = counted(wanted[1], "class", "classes")
        raise KatibFlowError(f"data: found {given}, but the topology reads {read} and predicts {classes}")


def latency_of(network: Network, source: bool | str) -> float:
    """Milliseconds for one image.

    Args:
        source: True to measure them on this machine, or the path of a table.
    """
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
