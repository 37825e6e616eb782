"""Functions for user code inside a trial. Outside a trial, ``report`` prints, so that a program also runs by hand."""

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from katib_flow.trial.protocol import REPORT_FILE, TRIAL_FILE

if TYPE_CHECKING:
    from katib_flow.models.build import Network
    from katib_flow.models.topology import Topology

_stop = threading.Event()
_listening = False


def report(metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
    """Report metrics, at a step: ``report(accuracy=0.9, step=3)`` or ``report({"val/accuracy": 0.9}, step=3)``.

    Args:
        metrics, named: numbers, or vectors (lists, tuples, arrays) such as feature statistics.
        step: a whole number; by default one more than that of the last report of the metric, from 0.

    Raises:
        TypeError: a value is neither a number nor a vector of numbers.
    """
    values = {name: _named(name, value) for name, value in {**(metrics or {}), **named}.items()}
    if not _append({"metrics": values, "step": step}):
        print(
            *(f"{name}={value}" for name, value in values.items()),
            *([f"step={step}"] if step is not None else []),
            flush=True,
        )


def remark(**facts: Any) -> None:
    """Report facts about a trial that are not metrics; outside a trial, do nothing."""
    _append(facts)


def _append(content: Mapping[str, Any]) -> bool:
    """Append a line to the report file; False outside a trial, which has no such file."""
    path = os.environ.get(REPORT_FILE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(content, allow_nan=True) + "\n")
    return bool(path)


def _named(name: str, value: Any) -> float | list[float]:
    try:
        return plain(value)
    except TypeError:
        raise TypeError(f"metric {name!r}: found {value!r}, need a number or a vector of numbers") from None


def plain(value: Any) -> float | list[float]:
    """Convert a number or a vector of any library; an array with one number, however nested, is a vector of length one.

    Raises:
        TypeError: the value is neither a number nor a vector of numbers.
    """
    try:
        if hasattr(value, "tolist"):  # NumPy, torch, pandas: scalars and arrays alike
            value = value.tolist()
        elif hasattr(value, "__array__"):  # data frames, tensors of other libraries
            value = value.__array__().tolist()
        while isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple):  # pyright: ignore[reportUnknownArgumentType]
            value = value[0]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, list | tuple):
            return [_number(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return _number(value)
    except Exception as error:  # objects of other libraries may raise anything
        raise TypeError(f"found {type(value).__name__}, need a number or a vector of numbers") from error  # pyright: ignore[reportUnknownArgumentType]


def _number(value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(value)
    return float(value)


def should_stop() -> bool:
    """True if the trial was asked to end early (SIGTERM); the metrics it has reported count."""
    if not _listening:
        listen_for_stop()
    return _stop.is_set()


def listen_for_stop() -> None:
    """From now on SIGTERM sets ``should_stop`` instead of ending this process, and replaces any earlier handler."""
    global _listening
    if threading.current_thread() is not threading.main_thread():
        return
    if not _listening:
        _stop.clear()
    signal.signal(signal.SIGTERM, lambda *_: _stop.set())
    _listening = True


def trial_file() -> dict[str, Any]:
    """The content of the trial file; empty outside a trial."""
    path = os.environ.get(TRIAL_FILE)
    return json.loads(Path(path).read_text()) if path else {}


def parameters() -> dict[str, Any]:
    """The parameters of this trial, for a program that does not take them as arguments; empty outside a trial."""
    return trial_file().get("parameters", {})


def arguments() -> dict[str, Any]:
    """The constants in ``trial.arguments``; empty outside a trial."""
    return trial_file().get("arguments", {})


def checkpoint_dir() -> Path:
    """The directory for checkpoints of this trial, which a retry finds again; ``checkpoint/`` outside a trial."""
    path = Path(trial_file().get("checkpoint_dir", "checkpoint"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def parent_checkpoint_dir() -> Path | None:
    """The checkpoints of the trial that this one continues or inherits from; None if it has no such parent."""
    path = trial_file().get("parent_checkpoint_dir")
    return Path(path) if path and Path(path).is_dir() else None


def model_dir() -> Path:
    """The directory of this trial's model: its topology, and inherited weights if any; ``model/`` outside a trial."""
    return Path(trial_file().get("model_dir") or "model")


def topology() -> "Topology":
    """The topology that this trial evaluates.

    Raises:
        KatibFlowError: the trial has no topology, because the experiment does not search an architecture.
    """
    from katib_flow.models.manager import TOPOLOGY, load_topology

    return load_topology(model_dir() / TOPOLOGY)


def load_model(*, seed: int | None = None) -> "Network":
    """The network that this trial evaluates, a ``torch.nn.Module``, with the weights inherited from its parent.

    Args:
        seed: the seed for weights that are not inherited.

    Raises:
        KatibFlowError: the trial has no network, or its files are incomplete or inconsistent.
    """
    from katib_flow.models.build import load_network

    return load_network(model_dir(), seed=seed)


def save_model(model: "Network") -> None:
    """Save the weights of the trial's network, as an artifact and for trials that inherit from this one."""

    from katib_flow.models.build import save_network

    save_network(model, model_dir())
