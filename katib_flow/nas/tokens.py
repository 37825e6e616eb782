"""Decisions as tokens: the position of a parameter's value, or of the part of its range; -1 where it is inactive."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import Value
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.space import Assignment, SearchSpace

PARTS = 16
"""Into which a range is cut that has more values."""
IsActive = Callable[[int, int, Sequence[int]], bool]
"""Whether a slot of a sequence, both by position, is active after the tokens of the slots before it."""
Sample = Callable[[np.random.Generator, int, IsActive], NDArray[np.intp]]
"""Decides so many times on every slot; tokens of shape (sequence, slot)."""


def choices(parameter: Parameter) -> int:
    """How many values, or parts of its range, the controller chooses from."""
    size = parameter.size
    return size if size is not None and (size <= PARTS or not hasattr(parameter, "min")) else PARTS


def decided(space: SearchSpace, sample: Sample, rng: np.random.Generator, count: int) -> list[dict[str, Value]]:
    """Assignments that a controller decides on, slots that are inactive left out."""
    names, made = list(space.parameters), [dict[str, Value]() for _ in range(count)]

    def is_active(row: int, slot: int, before: Sequence[int]) -> bool:
        if slot:
            put(row, slot - 1, before[slot - 1])
        return space.is_active(names[slot], made[row])

    def put(row: int, slot: int, token: int) -> None:
        if token >= 0:
            made[row][names[slot]] = value_of(space.parameters[names[slot]], token, rng)

    for row, tokens in enumerate(sample(rng, count, is_active)):
        put(row, len(names) - 1, int(tokens[-1]))
    return made


def value_of(parameter: Parameter, token: int, rng: np.random.Generator) -> Value:
    """The value of a token; of a part of a range, any value in it."""
    count = choices(parameter)
    return parameter.nth(token) if count == parameter.size else parameter.at((token + float(rng.random())) / count)


def encoded(space: SearchSpace, assignment: Assignment) -> tuple[int, ...]:
    """The tokens of an assignment."""
    return tuple(
        -1 if name not in assignment else _token(parameter, assignment[name])
        for name, parameter in space.parameters.items()
    )


def _token(parameter: Parameter, value: Value) -> int:
    count = choices(parameter)
    return parameter.position(value) if count == parameter.size else min(int(parameter.unit(value) * count), count - 1)
