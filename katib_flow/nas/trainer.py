"""The function of a trial that trains what a system suggests, on images or text, be it a segment of a search or not."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from katib_flow.algorithms.registry import find_algorithm
from katib_flow.errors import KatibFlowError
from katib_flow.history import Kind
from katib_flow.models.topology import Input
from katib_flow.training import classify, load_data, predict
from katib_flow.trial import user


def train(**arguments: Any) -> Iterator[dict[str, object]]:
    """A segment of a supernet's search, and what needs more than a ``trainer``, as the experiment's algorithm has it.

    How to search is in ``algorithm.settings``. The arguments are those of the trainer; a system that trains by itself
    takes ``data``, ``train_size``, ``seed`` and ``threads``.

    Raises:
        KatibFlowError: the suggestion is a segment, and its algorithm trains none.
    """
    trial = user.trial_file()
    name, settings = (trial.get("algorithm", {}).get(key) for key in ("name", "settings"))
    algorithm = find_algorithm(name) if name else None
    segment = trial.get("origin", {}).get("kind") == Kind.SEGMENT
    own = algorithm and (algorithm.segment if segment else algorithm.train)
    if algorithm is None or own is None:
        if segment:
            raise KatibFlowError(f"trial {trial['trial']}: is a segment of a supernet's search, and {name} trains none")
        yield from trainer(user.topology().input)(**arguments)
        return
    bound = _CLASSIFY.bind(**arguments)
    bound.apply_defaults()
    given = bound.arguments
    data = load_data(given["data"], given["train_size"])
    how = {"seed": given["seed"], "threads": given["threads"]}
    yield from own(algorithm.settings.model_validate(settings), data, **how)


def trainer(given: Input) -> Callable[..., Iterator[dict[str, object]]]:
    """What trains a network that reads images, ``classify``, or a sequence of tokens, ``predict``."""
    return classify if given.tokens is None else predict


_CLASSIFY = inspect.signature(classify)
train.__signature__ = _CLASSIFY  # type: ignore[attr-defined]  # what a spec's parameters are checked against
train.katib_flow_trainer = trainer  # type: ignore[attr-defined]  # whose signature that is where a space reads tokens
