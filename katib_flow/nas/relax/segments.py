"""The training of a supernet as a chain of trials, each of which continues from the checkpoint of the one before."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from katib_flow.errors import KatibFlowError
from katib_flow.models.build import Network, Provider, build
from katib_flow.models.topology import Topology
from katib_flow.nas.relax.chain import SupernetSettings
from katib_flow.training.data import Data
from katib_flow.training.trial import check_images, network_of_trial
from katib_flow.trial import user

CHECKPOINT = "search.pt"


class Search(Protocol):
    """A running search by a supernet.

    Attributes:
        network: the supernet.
        epoch: number of completed epochs.
    """

    network: Network
    epoch: int

    def train_epoch(self) -> None:
        """Train one more epoch."""
        ...

    def metrics(self, data: Data) -> dict[str, object]:
        """The metrics to report after an epoch."""
        ...

    def state(self) -> dict[str, Any]:
        """All that is needed to continue: tensors and numbers, by name."""
        ...


Begin = Callable[..., Search]
"""Begins a search, or continues one: ``begin(network, data, settings, seed=0, state=None)``."""
Make = Callable[[Topology], Provider]


def trained(
    begin: Begin, settings: SupernetSettings, data: Data, *, seed: int, threads: int, provider: Make | None = None
) -> Iterator[dict[str, object]]:
    """Train this trial's part of a search, with a checkpoint after each epoch; yields the metrics of each epoch.

    Args:
        provider: makes a provider of weights for the supernet; see ``build``.
    """
    network = supernet_of_trial(data, seed=seed, threads=threads, provider=provider)
    state, begun = restored()
    search = begin(network, data, settings, seed=seed, state=state)
    last = min(settings.epochs, begun + (settings.segment_epochs or settings.epochs))
    while search.epoch < last and not user.should_stop():
        search.train_epoch()
        yield search.metrics(data)
        save(search.state())  # after the report, so that it is not repeated when the search continues
    user.save_model(search.network)


def supernet_of_trial(data: Data, *, seed: int, threads: int, provider: Make | None = None) -> Network:
    """The supernet of this trial, normalised without scale and shift, on the GPU if there is one.

    Raises:
        KatibFlowError: the images do not fit the topology's input.
    """

    def load(seed: int) -> Network:
        return build(user.topology(), seed=seed, affine=False, provider=provider)

    return network_of_trial(lambda topology: check_images(topology, data), seed=seed, threads=threads, load=load)


def save(content: Mapping[str, Any]) -> None:
    """Save the state from which the next segment, or a retry of this one, continues."""
    path = user.checkpoint_dir() / CHECKPOINT
    part = path.with_suffix(".part")
    torch.save(dict(content), part)
    part.replace(path)


def restored() -> tuple[dict[str, Any] | None, int]:
    """The state to continue from, None at the start of a search; and the number of epochs before this segment.

    Raises:
        KatibFlowError: the segment before has no checkpoint.
    """
    parent = user.parent_checkpoint_dir()
    before = _load(parent / CHECKPOINT if parent else None)
    if before is None and (wanted := user.trial_file().get("parent_checkpoint_dir")):
        raise KatibFlowError(f"{wanted}/{CHECKPOINT}: found nothing, need the checkpoint of the previous segment")
    own = _load(user.checkpoint_dir() / CHECKPOINT)
    return own or before, before["epoch"] if before else 0


def _load(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    return torch.load(path, weights_only=True)  # tensors and numbers, no code
