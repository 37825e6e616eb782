"""Small trainers of a topology, with data by name: ``classify`` for images, ``predict`` for text.

``trial: {function: "katib_flow.training:classify"}`` is all that a spec needs. torch is loaded when it is called.
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

    Each argument may be a parameter of the experiment; one of a single value sets it for all trials. It goes on from
    the checkpoint of an attempt that was cut short, starts from inherited weights where there are any, and keeps the
    trained ones.

    Args:
        data: see ``load_data``.
        steps: ends training after so many steps of the optimiser (truncated training).
        augment: names of augmentations, separated by commas.
        drop_path: the probability, at the end of training, of leaving out for an image what an edge brings to a vertex
            that others reach, too; it rises evenly from 0 (ScheduledDropPath).
        statistics: also yield, for each operation, ``variance/<edge>``, the mean of the variances of its channels, and
            ``features/<edge>``, all of them as a vector.
        latency: also yield ``latency``, the milliseconds that the network takes for one image on one thread of this
            machine, the median of 50 passes; where trials share cores it is of little worth. The path of a table
            (``models.latency``) takes the sum of what its operations take on the device of the table.
        threads: of torch; results are equal bit for bit only for equal numbers.
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

    It also yields ``loss``, the logarithm of that, and ``train_loss``. Otherwise as ``classify``: each argument may be
    a parameter of the experiment.

    Args:
        data: see ``load_text``.
        batch: sequences that are read side by side.
        length: characters over which the gradient goes back (truncated backpropagation through time).
        lr: of Adam.
        clip: the largest norm of the gradient.
    """
    from katib_flow.training.sequence import predict_trial

    settings = {"epochs": epochs, "steps": steps, "batch": batch, "length": length, "lr": lr, "lr_end": lr_end}
    settings |= {"clip": clip}
    yield from predict_trial(load_text(data, train_size), settings, seed=seed, threads=threads)


classify.katib_flow_reads = "images"  # type: ignore[attr-defined]  # what the space of a spec is checked against
predict.katib_flow_reads = "tokens"  # type: ignore[attr-defined]
