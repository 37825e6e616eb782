"""The search space of an experiment: its parameters, and the decisions of its space of architectures.

The spec defines only the form of ``architecture``; ``models`` defines its meaning.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import SearchSpace

if TYPE_CHECKING:
    from katib_flow.models.space import Space


def architectures(experiment: Experiment) -> "Space | None":
    """The space of architectures; None if the experiment does not search one.

    Raises:
        InvalidSpec: ``architecture`` is not a valid space.
    """
    if experiment.architecture is None:
        return None
    from katib_flow.models.presets import space_of  # slow to import, and most experiments search no architecture

    return space_of(experiment.architecture)


def search_space(experiment: Experiment) -> SearchSpace:
    """The search space: the parameters, followed by the decisions of an architecture.

    Raises:
        InvalidSpec: ``architecture`` is not a valid space.
    """
    space = architectures(experiment)
    return SearchSpace({**experiment.parameters, **(space.parameters if space else {})})


def check_architecture(experiment: Experiment) -> Iterator[SpecError]:
    """Mistakes in ``architecture``, and parameters with the name of one of its decisions."""
    try:
        space = architectures(experiment)
    except InvalidSpec as invalid:
        yield from invalid.problems
        return
    for name in experiment.parameters:
        if space and name in space.parameters:
            need = "another name, because a decision of the architecture has this one"
            yield SpecError(f"parameters.{name}", name, need)
