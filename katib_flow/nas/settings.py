"""Settings with two sets of defaults: values for a machine with two cores, and those of the paper."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from katib_flow.plugins import Settings


class SystemSettings(Settings):
    """Base of the settings of every system.

    Attributes:
        paper: the values of the paper that differ from the defaults.
    """

    paper: ClassVar[Mapping[str, Any]] = {}
    preset: Literal["small", "paper"] = "small"
    """Source of the defaults: small, values for a machine with two cores; paper, those of the paper."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("preset") == "paper":
            return {**cls.paper, **given}
        return given
