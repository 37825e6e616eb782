"""Answers for models too slow to train at every evaluation: a table of exact losses, and what lies between its rows.

The rows are a scrambled Sobol sequence of the space. Between them the loss is a local average with a slope: of the rows
in which the same parameters are active, the nearest few fit a plane, weighted by a kernel that falls smoothly to zero
at the first row left out, and the plane's height at the point is the answer, within the range of those rows. The
distance weighs each parameter by how much it tells (chosen so that rows predict each other), and two different
categories are one apart. It is none of the models that optimizers fit: no tree, no Gaussian process, no density.
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
    """The assignments of a table."""
    points = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(0)).random(1 << (count - 1).bit_length())
    return [space.decode(point) for point in points[:count]]


def features(space: SearchSpace, assignment: Mapping[str, Any]) -> Array:
    """Quantiles of numbers, positions of categories, NaN where inactive; shape (parameter,)."""
    found = np.full(len(space), np.nan)
    for place, (name, parameter) in enumerate(space.parameters.items()):
        if name in assignment:
            categories = isinstance(parameter, CategoricalParameter)
            found[place] = (parameter.position if categories else parameter.unit)(assignment[name])
    return found


@dataclass(frozen=True)
class Table:
    """Exact losses of some assignments of a problem's space.

    Attributes:
        points: features of the rows, shape (row, parameter).
        losses: shape (row,).
        weights: what a difference in each parameter counts, shape (parameter,).
        near: how many rows an answer is made of.
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
        return FOLDER / "tables" / f"{name}.npz"

    @classmethod
    def load(cls, problem: Problem) -> "Table":
        with np.load(cls.path(problem.name)) as file:
            stored = {name: file[name].astype(float) for name in ("points", "losses", "weights")}
            return cls(problem.space, **stored, near=int(file["near"]))

    def save(self, name: str) -> None:
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("points", "losses", "weights")}
        self.path(name).parent.mkdir(exist_ok=True)
        np.savez_compressed(self.path(name), allow_pickle=False, **arrays, near=self.near)

    def loss(self, assignment: Mapping[str, Any]) -> float:
        return self.at(features(self.space, assignment))

    def at(self, point: Array, without: int = -1) -> float:
        """The answer at a point, one row left out of account where that is asked for."""
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
        for place, parameter in enumerate(self.space.parameters.values()):
            if isinstance(parameter, CategoricalParameter):
                differences[:, place] = differences[:, place] != 0
        return differences * self.weights

    @staticmethod
    def _plane(differences: Array, losses: Array, kernel: Array) -> float:
        """The height at the origin of the plane through the losses, slopes shrunk."""
        middle = float(kernel @ losses / kernel.sum())
        design = np.column_stack([np.ones(len(losses)), differences])
        weighed = design.T * kernel
        spread = float(kernel @ (differences**2).sum(axis=1)) / differences.shape[1]
        shrink = np.full(design.shape[1], RIDGE * spread + 1e-9)
        shrink[0] = 0.0
        height = np.linalg.solve(weighed @ design + np.diag(shrink), weighed @ (losses - middle))[0]
        return float(np.clip(middle + height, losses.min(), losses.max()))

    def error(self, sample: int = 300) -> float:
        """Mean squared error of the better half of the rows as predicted by the others, per variance."""
        return self._errors(sample)

    def _errors(self, sample: int) -> float:
        chosen = np.random.default_rng(1).choice(len(self.losses), min(sample, len(self.losses)), replace=False)
        ranks = np.argsort(np.argsort(self.losses)) / len(self.losses)  # robust, and the good end counts as the bad
        ranked = Table(self.space, self.points, ranks, self.weights, self.near)
        return float(np.mean([(ranked.at(self.points[row], row) - ranks[row]) ** 2 for row in chosen]) * 12)

    def fitted(self, rounds: int = 3) -> "Table":
        """The weights and the number of rows under which rows predict each other best, coordinate by coordinate."""
        best, least = self, self.error()
        for _ in range(rounds):
            for place in range(len(self.weights)):
                for factor in (0.4, 0.7, 1.4, 2.5):
                    weights = best.weights.copy()
                    weights[place] *= factor
                    best, least = best._better(least, weights, best.near)
            for near in (len(self.weights) + 2, 2 * len(self.weights), 4 * len(self.weights), 6 * len(self.weights)):
                best, least = best._better(least, best.weights, near)
        return best

    def _better(self, least: float, weights: Array, near: int) -> tuple["Table", float]:
        other = Table(self.space, self.points, self.losses, weights, near)
        error = other.error()
        return (other, error) if error < least else (self, least)
