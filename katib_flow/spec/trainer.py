"""The default trial of an experiment that searches an architecture: the built-in trainer."""

from collections.abc import Mapping
from typing import Any

from katib_flow.spec.template import KINDS

TRAINER = "katib_flow.nas:train"


def with_trainer(data: Any) -> Any:
    """The data of a spec, with the trainer as the trial's function if it searches an architecture and names no trial.

    ``trial`` may still have the other keys of a function trial, such as arguments.
    """
    if not isinstance(data, Mapping) or data.get("architecture") is None:  # pyright: ignore[reportUnknownMemberType]
        return data  # pyright: ignore[reportUnknownVariableType]
    spec: dict[str, Any] = {**data}
    trial = spec.get("trial", {})
    if not isinstance(trial, Mapping) or {*KINDS, "code"} & trial.keys():
        return spec
    return {**spec, "trial": {**trial, "function": TRAINER}}
