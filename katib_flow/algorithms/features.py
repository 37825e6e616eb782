"""Points of the unit cube as the features of a model: snapped to existing values, with categories one-hot encoded.

A row of *units* has one coordinate per parameter, NaN if it is inactive. A row of *features* has no NaN: the unit of a
number, the one-hot coordinates of a category and, for a conditional parameter, a flag for whether it is active.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from katib_flow.spec.parameters import CategoricalParameter, Parameter, same
from katib_flow.spec.space import SearchSpace

Array = NDArray[np.float64]
FINE = 4096
"""Parameters with more values than this are treated as continuous: such small steps do not matter to a model."""
SAMPLE = 1024  # random points that reveal the branches of a space; rarer branches are ignored
ABSENT = 0.5  # the coordinate of an inactive number


@dataclass(frozen=True)
class _Column:
    """One parameter: the borders and middles of its cells, None if it is continuous, and when it is active."""

    edges: Array | None
    middles: Array | None
    one_hot: int  # number of categories, 0 if its values are ordered
    parents: tuple[tuple[int, NDArray[np.bool_]], ...]  # (column, which of its values activate this one)


@dataclass
class Features:
    """The map from units to features.

    Attributes:
        group: the number of each feature's lengthscale, shape (feature,): one for the coordinates of each parameter,
            and one for the flag of each conditional parameter.
    """

    space: SearchSpace
    group: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        names = list(self.space.parameters)
        self._columns = [_column(parameter, names, self.space) for parameter in self.space.parameters.values()]
        groups: list[int] = []
        for number, column in enumerate(self._columns):
            groups += [number] * max(1, column.one_hot)
            groups += [len(names) + number] * bool(column.parents)
        _, self.group = np.unique(groups, return_inverse=True)

    @cached_property
    def _inactive(self) -> NDArray[np.bool_]:
        """Which parameters are inactive at points drawn at random, shape (point, parameter)."""
        if not any(column.parents for column in self._columns):
            return np.zeros((1, len(self.space)), dtype=bool)
        return np.isnan(self.snap(np.random.default_rng(0).random((SAMPLE, len(self.space)))))

    @cached_property
    def dimensions(self) -> float:
        """The mean number of active parameters at a random point; distances grow with it."""
        return float(np.sum(~self._inactive, axis=1).mean())

    @cached_property
    def conditional_share(self) -> float:
        """The share of conditional parameters among the active ones at random points, from 0 to 1."""
        conditional = np.array([bool(column.parents) for column in self._columns])
        return float(np.sum(~self._inactive & conditional) / np.sum(~self._inactive))

    @cached_property
    def branches(self) -> NDArray[np.bool_]:
        """Which parameters are inactive in each branch of a conditional space, shape (branch, parameter)."""
        return np.unique(self._inactive, axis=0)

    @property
    def categories(self) -> NDArray[np.int64]:
        """Number of categories of each parameter, 0 if its values are ordered; shape (parameter,)."""
        return np.array([column.one_hot for column in self._columns], dtype=np.int64)

    def snap(self, units: Array) -> Array:
        """The nearest existing points, shape (n, parameter): the middles of cells, NaN for inactive parameters."""
        snapped = np.clip(units, 0.0, 1.0)
        cells = np.zeros(units.shape, dtype=np.int64)
        for number, column in enumerate(self._columns):
            here = snapped[:, number]
            if column.edges is not None and column.middles is not None:
                cell = np.searchsorted(column.edges, np.where(np.isnan(here), 0.0, here), side="right")
                cells[:, number] = cell
                here = np.where(np.isnan(here), np.nan, column.middles[cell])
            for parent, allowed in column.parents:
                active = ~np.isnan(snapped[:, parent]) & allowed[cells[:, parent]]
                here = np.where(active, np.where(np.isnan(here), ABSENT, here), np.nan)
            snapped[:, number] = here
        return snapped

    def expand(self, units: Array) -> Array:
        """The features of snapped units, shape (n, parameter) -> (n, feature)."""
        parts: list[Array] = []
        for number, column in enumerate(self._columns):
            here = units[:, number]
            active = ~np.isnan(here)
            if column.one_hot:
                cell = np.where(active, np.nan_to_num(here) * column.one_hot, 0).astype(np.int64)
                hot = np.eye(column.one_hot)[np.minimum(cell, column.one_hot - 1)] * active[:, None]
                parts.append(hot / np.sqrt(2))  # two categories are a distance of one apart
            else:
                parts.append(np.where(active, here, ABSENT)[:, None])
            if column.parents:
                parts.append(active[:, None].astype(float))
        return np.hstack(parts)


def _column(parameter: Parameter, names: list[str], space: SearchSpace) -> _Column:
    parents = tuple(
        (
            names.index(parent),
            np.array([any(same(value, one) for one in values) for value in space.parameters[parent].values()]),
        )
        for parent, values in parameter.when.items()
    )
    size = parameter.size
    if size is None or size > FINE:
        return _Column(None, None, 0, parents)
    middles = np.array([parameter.unit(value) for value in parameter.values()])
    edges = np.zeros(size + 1)
    for cell in range(size):  # a middle lies half-way between its borders, and the first border is 0
        edges[cell + 1] = 2 * middles[cell] - edges[cell]
    return _Column(edges[1:-1], middles, size if isinstance(parameter, CategoricalParameter) else 0, parents)
