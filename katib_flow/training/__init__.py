"""Small trainers for topologies, with built-in data sets: ``classify`` for images, ``predict`` for text.

``trial: {function: "katib_flow.training:classify"}`` is all that a spec needs. torch is imported when they are called.
"""

from collections.abc import Iterator
from typing import Any

from katib_flow.training.data import Data, Split, load_data, split
from katib_flow.training.text import Text, load_text, text_of

__all__ = ["Data", "Split", "Text", "classify", "load_data", "load_text", "predict", "split", "text_of"]


def classify(
    *,
    data: str = "digits",
    train_size: int | None = None,
    epochs: int = 10,
    steps: int | None = None,
    batch: int = 32,
    lr: float = 0.1,
    lr_end: float = 0.0,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    augment: str = "",
    clip: float | None = None,
    drop_path: float = 0.0,
    statistics: bool = False,
    latency: bool | str = False,
    seed: int = 0,
    threads: int = 1,
) -> Iterator[dict[str, object]]:
    """Train the trial's network and yield, after every epoch, ``accuracy`` and ``loss`` on the validation images.

    Each argument may be a parameter of the experiment; a parameter with a single value sets it for all trials. Training
    continues from the checkpoint of an interrupted attempt, or else starts from the inherited weights, if there are
    any. The trained weights are saved with the trial.

    Args:
        data: the name of a data set; see ``load_data``.
        train_size: number of training images to use; all by default.
        steps: end training after this many optimiser steps (truncated training).
        batch: images per step.
        lr: initial learning rate, which falls to ``lr_end`` along half a cosine.
        augment: names of augmentations, separated by commas: ``shift``, ``flip``, ``cutout``.
        clip: the largest norm of the gradient; None for no limit.
        drop_path: the probability, at the end of training, of dropping the value that an edge brings to a vertex with
            several incoming edges, independently for each image; it rises linearly from 0 (ScheduledDropPath).
        statistics: also yield, for each operation, ``features/<edge>``, the variance of each of its channels, and
            ``variance/<edge>``, the mean of these.
        latency: also yield ``latency``, the milliseconds that the network takes for one image on one thread of this
            machine, the median of 50 passes; the measurement is unreliable if trials share cores. The path of a table
            (``models.latency``) gives the sum of the table's entries for the network's operations instead.
        threads: torch's number of threads; results are reproducible bit for bit only with the same number.
    """
    from katib_flow.training.trial import classify_trial

    names = tuple(name.strip() for name in augment.split(",") if name.strip())
    settings = {"epochs": epochs, "steps": steps, "batch": batch, "lr": lr, "lr_end": lr_end, "momentum": momentum}
    settings |= {"weight_decay": weight_decay, "augment": names, "clip": clip, "drop_path": drop_path}
    how: Any = {"statistics": statistics, "latency": latency, "seed": seed, "threads": threads}
    yield from classify_trial(load_data(data, train_size), settings, **how)


def predict(
    *,
    data: str = "python-topics",
    train_size: int | None = None,
    epochs: int = 5,
    steps: int | None = None,
    batch: int = 32,
    length: int = 35,
    lr: float = 0.01,
    lr_end: float = 0.0,
    clip: float | None = 1.0,
    seed: int = 0,
    threads: int = 1,
) -> Iterator[dict[str, object]]:
    """Train the trial's recurrent network and yield, after every epoch, its ``perplexity`` on the validation text.

    It also yields ``loss``, the logarithm of the perplexity, and ``train_loss``. The rest is as in ``classify``: each
    argument may be a parameter of the experiment.

    Args:
        data: the name of a text; see ``load_text``.
        train_size: number of training tokens to use; all by default.
        batch: sequences that are read in parallel.
        length: tokens over which the gradient is propagated (truncated backpropagation through time).
        lr: initial learning rate of Adam.
        clip: the largest norm of the gradient; None for no limit.
    """
    from katib_flow.training.sequence import predict_trial

    settings = {"epochs": epochs, "steps": steps, "batch": batch, "length": length, "lr": lr, "lr_end": lr_end}
    settings |= {"clip": clip}
    yield from predict_trial(load_text(data, train_size), settings, seed=seed, threads=threads)


classify.katib_flow_reads = "images"  # type: ignore[attr-defined]  # the spec's space is checked against it
predict.katib_flow_reads = "tokens"  # type: ignore[attr-defined]
