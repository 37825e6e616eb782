"""The trial of an experiment that searches an architecture and names no trial: the trainer that comes along."""

from collections.abc import Mapping
from typing import Any

from katib_flow.spec.template import KINDS

TRAINER = "katib_flow.nas:train"


def with_trainer(data: Any) -> Any:
    """The data of a spec with the trainer as its trial, where it searches an architecture and names no trial.

    ``trial`` may hold what goes with a function, such as its arguments.
    """
    if not isinstance(data, Mapping) or data.get("architecture") is None:  # pyright: ignore[reportUnknownMemberType]
        return data  # pyright: ignore[reportUnknownVariableType]
    spec: dict[str, Any] = {**data}
    trial = spec.get("trial", {})
    if not isinstance(trial, Mapping) or {*KINDS, "code"} & trial.keys():
        return spec
    return {**spec, "trial": {**trial, "function": TRAINER}}
