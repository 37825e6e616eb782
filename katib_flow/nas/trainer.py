"""The trial function that trains the suggestions of a system on images or text, segments of a supernet included."""

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
    """Train a suggestion: by its algorithm, if that has a trainer of its own for it, else by ``trainer``.

    The settings of a segment's search are those in ``algorithm.settings``. The arguments are those of ``trainer``; an
    algorithm with a trainer of its own uses only ``data``, ``train_size``, ``seed`` and ``threads``.

    Raises:
        KatibFlowError: the suggestion is a segment, and its algorithm cannot train segments.
    """
    trial = user.trial_file()
    name, settings = (trial.get("algorithm", {}).get(key) for key in ("name", "settings"))
    algorithm = find_algorithm(name) if name else None
    segment = trial.get("origin", {}).get("kind") == Kind.SEGMENT
    own = algorithm and (algorithm.segment if segment else algorithm.train)
    if algorithm is None or own is None:
        if segment:
            what = f"this suggestion is a segment of a supernet's search, which {name} cannot train"
            raise KatibFlowError(f"trial {trial['trial']}: {what}")
        yield from trainer(user.topology().input)(**arguments)
        return
    bound = _CLASSIFY.bind(**arguments)
    bound.apply_defaults()
    given = bound.arguments
    data = load_data(given["data"], given["train_size"])
    how = {"seed": given["seed"], "threads": given["threads"]}
    yield from own(algorithm.settings.model_validate(settings), data, **how)


def trainer(given: Input) -> Callable[..., Iterator[dict[str, object]]]:
    """The standard trainer for an input: ``classify`` for images, ``predict`` for sequences of tokens."""
    return classify if given.tokens is None else predict


_CLASSIFY = inspect.signature(classify)
train.__signature__ = _CLASSIFY  # type: ignore[attr-defined]  # a spec's parameters are checked against it
train.katib_flow_trainer = trainer  # type: ignore[attr-defined]  # gives the signature for spaces that read tokens
