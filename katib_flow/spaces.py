"""What an experiment searches: a space of architectures, and its parameters with the decisions about these.

The spec says no more of ``architecture`` than how it is written; what it means, ``models`` knows.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import SearchSpace

if TYPE_CHECKING:
    from katib_flow.models.space import Space


def architectures(experiment: Experiment) -> "Space | None":
    """The space of architectures; None where none is searched.

    Raises:
        InvalidSpec: ``architecture`` describes none.
    """
    if experiment.architecture is None:
        return None
    from katib_flow.models.presets import space_of  # slow to import, and most experiments search no architecture

    return space_of(experiment.architecture)


def search_space(experiment: Experiment) -> SearchSpace:
    """What is assigned: the parameters, and the decisions about an architecture after them.

    Raises:
        InvalidSpec: ``architecture`` describes no space of architectures.
    """
    space = architectures(experiment)
    return SearchSpace({**experiment.parameters, **(space.parameters if space else {})})


def check_architecture(experiment: Experiment) -> Iterator[SpecError]:
    """What is wrong with ``architecture``, and parameters that have the name of a decision about it."""
    try:
        space = architectures(experiment)
    except InvalidSpec as invalid:
        yield from invalid.problems
        return
    for name in experiment.parameters:
        if space and name in space.parameters:
            need = "another name: it is that of a decision about the architecture"
            yield SpecError(f"parameters.{name}", name, need)
