"""Settings of a system with two sets of values: those that suit two cores, and its paper's."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from katib_flow.plugins import Settings


class SystemSettings(Settings):
    """What the settings of a system have in common.

    Attributes:
        paper: the paper's values, where they are others than the defaults.
    """

    paper: ClassVar[Mapping[str, Any]] = {}
    preset: Literal["small", "paper"] = "small"
    """Where the values come from that are not given: small suits two cores, paper has those of the paper."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("preset") == "paper":
            return {**cls.paper, **given}
        return given
