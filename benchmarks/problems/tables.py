"""Losses of models too slow to train at every evaluation: a table of exact losses, and an interpolation of its rows.

The rows are a scrambled Sobol sequence of the space. Between them the loss is a local linear regression: a plane is
fitted to the nearest few rows in which the same parameters are active, weighted by a kernel that falls smoothly to zero
at the first row left out. The answer is the height of the plane at the point, within the range of those rows. The
distance weighs the parameters such that rows predict each other best, and two different categories are one apart.
Optimizers fit other models than this: trees, Gaussian processes, densities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from katib_flow.spec import SearchSpace
from katib_flow.spec.parameters import CategoricalParameter
from problems.problem import FOLDER, Problem

Array = NDArray[np.float64]
RIDGE = 0.03


def rows(space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """The assignments of the first ``count`` rows of a table."""
    points = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(0)).random(1 << (count - 1).bit_length())
    return [space.decode(point) for point in points[:count]]


def features(space: SearchSpace, assignment: Mapping[str, Any]) -> Array:
    """Quantiles of numbers, positions of categories, and NaN for inactive parameters, shape (parameter,)."""
    point = np.full(len(space), np.nan)
    for column, (name, parameter) in enumerate(space.parameters.items()):
        if name in assignment:
            categories = isinstance(parameter, CategoricalParameter)
            point[column] = (parameter.position if categories else parameter.unit)(assignment[name])
    return point


@dataclass(frozen=True)
class Table:
    """Exact losses of some assignments of a problem's space.

    Attributes:
        points: features of the rows, shape (row, parameter).
        losses: exact losses, shape (row,).
        weights: the factor of each parameter in the distance, shape (parameter,).
        near: the number of rows that an answer is interpolated from.
    """

    space: SearchSpace
    points: Array
    losses: Array
    weights: Array
    near: int

    @classmethod
    def of(cls, space: SearchSpace, points: Array, losses: Array) -> "Table":
        """A table whose weights are fitted to its rows."""
        start = cls(space, points, losses, np.ones(len(space)), 3 * len(space))
        return start.fitted()

    @staticmethod
    def path(name: str) -> Path:
        """The file of the table of a problem."""
        return FOLDER / "tables" / f"{name}.npz"

    @classmethod
    def load(cls, problem: Problem) -> "Table":
        """Read the table of a problem."""
        with np.load(cls.path(problem.name)) as file:
            stored = {name: file[name].astype(float) for name in ("points", "losses", "weights")}
            return cls(problem.space, **stored, near=int(file["near"]))

    def save(self, name: str) -> None:
        """Write the table of a problem, in single precision."""
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("points", "losses", "weights")}
        self.path(name).parent.mkdir(exist_ok=True)
        np.savez_compressed(self.path(name), allow_pickle=False, **arrays, near=self.near)

    def loss(self, assignment: Mapping[str, Any]) -> float:
        """The interpolated loss of an assignment."""
        return self.at(features(self.space, assignment))

    def at(self, point: Array, without: int = -1) -> float:
        """The interpolated loss at a point, if necessary without one row.

        Args:
            without: the index of a row to leave out; none if negative.
        """
        differences = self._differences(point)
        squares = (differences**2).sum(axis=1)
        squares[(np.isnan(self.points) != np.isnan(point)).any(axis=1)] = np.inf
        if without >= 0:
            squares[without] = np.inf
        nearest = np.argpartition(squares, self.near)[: self.near + 1]
        nearest = nearest[np.isfinite(squares[nearest])]
        edge = squares[nearest].max() + 1e-12
        return self._plane(differences[nearest], self.losses[nearest], (1 - squares[nearest] / edge) ** 2)

    def _differences(self, point: Array) -> Array:
        differences = np.nan_to_num(self.points - point)
        for column, parameter in enumerate(self.space.parameters.values()):
            if isinstance(parameter, CategoricalParameter):
                differences[:, column] = differences[:, column] != 0
        return differences * self.weights

    @staticmethod
    def _plane(differences: Array, losses: Array, kernel: Array) -> float:
        """The height at the origin of the plane fitted to the losses, with shrunken slopes."""
        middle = float(kernel @ losses / kernel.sum())
        design = np.column_stack([np.ones(len(losses)), differences])
        weighed = design.T * kernel
        spread = float(kernel @ (differences**2).sum(axis=1)) / differences.shape[1]
        shrink = np.full(design.shape[1], RIDGE * spread + 1e-9)
        shrink[0] = 0.0
        height = np.linalg.solve(weighed @ design + np.diag(shrink), weighed @ (losses - middle))[0]
        return float(np.clip(middle + height, losses.min(), losses.max()))

    def error(self, sample: int = 300) -> float:
        """Mean squared error of the ranks of sampled rows, as predicted by the others, relative to the variance."""
        return self._errors(sample)

    def _errors(self, sample: int) -> float:
        chosen = np.random.default_rng(1).choice(len(self.losses), min(sample, len(self.losses)), replace=False)
        ranks = np.argsort(np.argsort(self.losses)) / len(
            self.losses
        )  # ranks are robust, and weigh good and bad losses equally
        ranked = Table(self.space, self.points, ranks, self.weights, self.near)
        return float(np.mean([(ranked.at(self.points[row], row) - ranks[row]) ** 2 for row in chosen]) * 12)

    def fitted(self, rounds: int = 3) -> "Table":
        """The table with the weights and ``near`` under which rows predict each other best, by coordinate descent."""
        best, least = self, self.error()
        for _ in range(rounds):
            for column in range(len(self.weights)):
                for factor in (0.4, 0.7, 1.4, 2.5):
                    weights = best.weights.copy()
                    weights[column] *= factor
                    best, least = best._better(least, weights, best.near)
            for near in (len(self.weights) + 2, 2 * len(self.weights), 4 * len(self.weights), 6 * len(self.weights)):
                best, least = best._better(least, best.weights, near)
        return best

    def _better(self, least: float, weights: Array, near: int) -> tuple["Table", float]:
        other = Table(self.space, self.points, self.losses, weights, near)
        error = other.error()
        return (other, error) if error < least else (self, least)
