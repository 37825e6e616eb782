"""What user code may call inside a trial. Outside one, ``report`` prints, so that a program also runs by hand."""

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
        step: whole number; where it is left out, each report of a metric is one step after the last.

    Raises:
        TypeError: a value is neither a number nor a vector of numbers.
    """
    values = {name: _named(name, value) for name, value in {**(metrics or {}), **named}.items()}
    if not _told({"metrics": values, "step": step}):
        print(
            *(f"{name}={value}" for name, value in values.items()),
            *([f"step={step}"] if step is not None else []),
            flush=True,
        )


def remark(**facts: Any) -> None:
    """Tell something of a trial that is no metric; nothing outside a trial."""
    _told(facts)


def _told(content: Mapping[str, Any]) -> bool:
    """Append a line to the report file; False where there is none, outside a trial."""
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
    """A number, of any library's kind, or a vector of them; an array of one number, however deep, is a vector of one.

    Raises:
        TypeError: it is neither.
    """
    try:
        if hasattr(value, "tolist"):  # NumPy, torch, pandas: scalars and arrays alike
            value = value.tolist()
        elif hasattr(value, "__array__"):  # data frames, tensors of other libraries
            value = value.__array__().tolist()
        while isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple):  # pyright: ignore[reportUnknownArgumentType]
            value = value[0]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, list | tuple):
            return [_number(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return _number(value)
    except Exception as error:  # whatever a library's object raises
        raise TypeError(f"found {type(value).__name__}, need a number or a vector of numbers") from error  # pyright: ignore[reportUnknownArgumentType]


def _number(value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(value)
    return float(value)


def should_stop() -> bool:
    """Whether the trial was asked to end early (SIGTERM); what it reported until then counts."""
    if not _listening:
        listen_for_stop()
    return _stop.is_set()


def listen_for_stop() -> None:
    """From here on SIGTERM no longer ends this process but makes ``should_stop`` true, whoever else listened before."""
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
    """The parameters of this trial, for a program that was not given them as arguments."""
    return trial_file().get("parameters", {})


def arguments() -> dict[str, Any]:
    """The constants in ``trial.arguments``, likewise."""
    return trial_file().get("arguments", {})


def checkpoint_dir() -> Path:
    """The directory in which this trial keeps its checkpoints; it outlives a retry. ``checkpoint/`` outside a trial."""
    path = Path(trial_file().get("checkpoint_dir", "checkpoint"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def parent_checkpoint_dir() -> Path | None:
    """The checkpoints of the trial that this one continues or inherits from; None where there is none."""
    path = trial_file().get("parent_checkpoint_dir")
    return Path(path) if path and Path(path).is_dir() else None


def model_dir() -> Path:
    """The directory of this trial's model: its topology, and weights where it inherits any. ``model/`` outside one."""
    return Path(trial_file().get("model_dir") or "model")


def topology() -> "Topology":
    """The topology that this trial evaluates.

    Raises:
        KatibFlowError: it has none, because the experiment searches no architecture.
    """
    from katib_flow.models.manager import TOPOLOGY, load_topology

    return load_topology(model_dir() / TOPOLOGY)


def load_model(*, seed: int | None = None) -> "Network":
    """The network that this trial evaluates, a ``torch.nn.Module``, with the weights it inherits from its parent.

    Args:
        seed: of the weights that it does not inherit.

    Raises:
        KatibFlowError: there is none, or its files are cut off or do not belong together.
    """
    from katib_flow.models.build import load_network

    return load_network(model_dir(), seed=seed)


def save_model(model: "Network") -> None:
    """Keep the weights of the trial's network, as an artifact and for trials that inherit from this one."""
    from katib_flow.models.build import save_network

    save_network(model, model_dir())
