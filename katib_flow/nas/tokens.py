"""Decisions as tokens: the position of a parameter's value, or of a part of its range; -1 if it is inactive."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import Value
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.space import Assignment, SearchSpace

PARTS = 16
"""Number of parts of the range of a parameter with more values."""
IsActive = Callable[[int, int, Sequence[int]], bool]
"""``is_active(row, slot, before)``: whether a slot of a sequence is active, given the tokens before it."""
Sample = Callable[[np.random.Generator, int, IsActive], NDArray[np.intp]]
"""``sample(rng, count, is_active)`` draws tokens of shape (count, slot)."""


def choices(parameter: Parameter) -> int:
    """The number of tokens of a parameter: its values, or the parts of its range."""
    size = parameter.size
    return size if size is not None and (size <= PARTS or not hasattr(parameter, "min")) else PARTS


def decided(space: SearchSpace, sample: Sample, rng: np.random.Generator, count: int) -> list[dict[str, Value]]:
    """``count`` sampled assignments, without inactive parameters."""
    names, assignments = list(space.parameters), [dict[str, Value]() for _ in range(count)]

    def is_active(row: int, slot: int, before: Sequence[int]) -> bool:
        if slot:
            assign(row, slot - 1, before[slot - 1])
        return space.is_active(names[slot], assignments[row])

    def assign(row: int, slot: int, token: int) -> None:
        if token >= 0:
            assignments[row][names[slot]] = value_of(space.parameters[names[slot]], token, rng)

    for row, tokens in enumerate(sample(rng, count, is_active)):
        assign(row, len(names) - 1, int(tokens[-1]))
    return assignments


def value_of(parameter: Parameter, token: int, rng: np.random.Generator) -> Value:
    """The value of a token; for a part of a range, a random value in it."""
    count = choices(parameter)
    return parameter.nth(token) if count == parameter.size else parameter.at((token + float(rng.random())) / count)


def encoded(space: SearchSpace, assignment: Assignment) -> tuple[int, ...]:
    """The tokens of an assignment, one per parameter."""
    return tuple(
        -1 if name not in assignment else _token(parameter, assignment[name])
        for name, parameter in space.parameters.items()
    )


def _token(parameter: Parameter, value: Value) -> int:
    count = choices(parameter)
    return parameter.position(value) if count == parameter.size else min(int(parameter.unit(value) * count), count - 1)
