"""Small parts of scikit-learn's bundled data, and the losses that the real problems report."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split

Array = NDArray[np.float64]
_LOADERS = {
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
    "digits": load_digits,
    "iris": load_iris,
    "wine": load_wine,
}
FOLDS = 3


@cache
def split(name: str, train: int, validation: int) -> tuple[Array, Array, Array, Array]:
    """(X, y, validation X, validation y), always the same rows, stratified by class."""
    x, y = _LOADERS[name](return_X_y=True)
    strata = y if name != "diabetes" else None
    a, b, c, d = train_test_split(x, y, train_size=train, test_size=validation, random_state=0, stratify=strata)
    return a, c, b, d


@cache
def folds(name: str, rows: int) -> list[tuple[Array, Array, Array, Array]]:
    """Cross-validation folds of a subsample of the rows."""
    x, y, _, _ = split(name, rows, len(np.unique(_LOADERS[name](return_X_y=True)[1])) if name != "diabetes" else 2)
    rank = np.zeros(len(y), dtype=int)
    if name == "diabetes":
        rank = np.arange(len(y))
    else:
        for label in np.unique(y):
            rank[y == label] = np.arange((y == label).sum())  # each fold gets its share of every class
    parts = [rank % FOLDS == fold for fold in range(FOLDS)]
    return [(x[~part], y[~part], x[part], y[part]) for part in parts]


def log_loss(y: Array, probabilities: Array, classes: Array) -> float:
    """Mean negative logarithm of the probability of the right class, clipped from below at 0.001."""
    right = probabilities[np.arange(len(y)), np.searchsorted(classes, y)]
    return float(-np.log(np.clip(np.nan_to_num(right), 1e-3, 1)).mean())


def rmse(y: Array, predicted: Array, worst: float = 200.0) -> float:
    """Root mean squared error, at most ``worst``, also for a model that diverged."""
    error = float(np.sqrt(np.mean((y - np.clip(np.nan_to_num(predicted, nan=1e6), -1e6, 1e6)) ** 2)))
    return min(error, worst)
