"""Grid search: every combination once, with the last parameter changing fastest; then the experiment ends."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import NotBoolean
from katib_flow.spec.parameters import OrdinalParameter, Parameter
from katib_flow.spec.space import SearchSpace


class GridSettings(Settings):
    """Settings of ``grid``."""

    points: Annotated[int, Field(ge=2, le=100_000), NotBoolean] | None = None
    """Number of values of a float without a step, evenly spaced on its scale and including both bounds."""


def _check(experiment: Experiment, settings: GridSettings) -> Iterator[SpecError]:
    if settings.points is None:
        for name, parameter in search_space(experiment).parameters.items():
            if parameter.size is None:
                need = "a step, or algorithm.settings.points; the algorithms random and sobol need neither"
                yield SpecError(f"parameters.{name}", "a float without a step", need)


def _countable(parameter: Parameter, points: int | None) -> Parameter:
    if parameter.size is not None or points is None:
        return parameter
    values = dict.fromkeys(parameter.at(position / (points - 1)) for position in range(points))
    return OrdinalParameter.model_validate({"values": list(values), "when": parameter.when})


@algorithm("grid", settings=GridSettings, check=_check, ends=True, several=True)
def grid(ask: Ask[GridSettings]) -> list[Suggestion]:
    """The combinations at the requested indices; fewer at the end of the grid."""
    parameters = ask.space.parameters.items()
    space = SearchSpace({name: _countable(parameter, ask.settings.points) for name, parameter in parameters})
    assert space.size is not None
    return [Suggestion(index, space.nth(index)) for index in ask.indices if index < space.size]
