"""Learning curves of real models, tabulated: the loss of every assignment of a finite space after every unit of budget.

python benchmarks/curves.py        train them all (resumes nothing; about fifteen minutes of one core)
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import numpy as np
from problems.data import log_loss, rmse, split
from problems.problem import choice, ordered
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from katib_flow.spaces import search_space
from katib_flow.spec import Experiment, SearchSpace

Assignment = Mapping[str, Any]
TABLES = Path(__file__).resolve().parent / "tables"


@dataclass(frozen=True)
class Curves:
    """A finite search space, and the loss of a model after each of ``units`` units of training."""

    name: str
    parameters: Mapping[str, Any]
    units: int
    train: Callable[[Assignment, int], Iterator[float]]

    def spec(self, **sections: Any) -> dict[str, Any]:
        return {
            "name": self.name,
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": dict(self.parameters),
            "limits": {"max_trials": 10_000},
            "trial": {"function": "curves:never_called"},
        } | sections

    @cached_property
    def space(self) -> SearchSpace:
        return search_space(Experiment.parse(self.spec()))

    @cached_property
    def _losses(self) -> dict[Any, Any]:
        table = np.load(TABLES / f"curves-{self.name}.npy").astype(float)
        return {self.space.key(each): row for each, row in zip(self.space.enumerate(), table, strict=True)}

    def loss(self, assignment: Assignment, units: float) -> float:
        """The best validation loss within the first units, as ``metrics.strategy: {loss: min}`` has it."""
        return float(self._losses[self.space.key(assignment)][: int(units)].min())

    def tabulate(self) -> None:
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = [list(self.train(assignment, self.units)) for assignment in self.space.enumerate()]
        np.save(TABLES / f"curves-{self.name}.npy", np.array(rows, dtype=np.float16))
        print(f"{self.name}: {len(rows)} curves of {self.units}, {time.perf_counter() - begun:.0f} s", flush=True)


def mlp(a: Assignment, epochs: int) -> Iterator[float]:
    """Log-loss of a neural network on 300 digits, an epoch a unit."""
    x, y, x_test, y_test = split("digits", 300, 600)
    model = MLPClassifier(
        (a["hidden"],), activation=a["activation"], alpha=a["alpha"], learning_rate_init=a["lr"],
        batch_size=a["batch"], random_state=0,
    )  # fmt: skip
    for _ in range(epochs):
        model.partial_fit(x / 16, y, classes=np.arange(10))
        yield log_loss(y_test, model.predict_proba(x_test / 16), model.classes_)


def sgd(a: Assignment, epochs: int) -> Iterator[float]:
    """Log-loss of a linear model on 300 digits, an epoch a unit."""
    x, y, x_test, y_test = split("digits", 300, 600)
    model = SGDClassifier(
        loss="log_loss", penalty=a["penalty"], alpha=a["alpha"], learning_rate=a["schedule"], eta0=a["eta0"],
        random_state=0,
    )  # fmt: skip
    for _ in range(epochs):
        model.partial_fit(x / 16, y, classes=np.arange(10))
        yield log_loss(y_test, model.predict_proba(x_test / 16), model.classes_)


def boosting(a: Assignment, trees: int) -> Iterator[float]:
    """Root mean squared error of boosted trees on 200 patients, two trees a unit."""
    x, y, x_test, y_test = split("diabetes", 200, 200)
    model = GradientBoostingRegressor(
        n_estimators=2 * trees, learning_rate=a["rate"], max_depth=a["depth"], subsample=a["subsample"],
        min_samples_leaf=a["leaf"], max_features=a["features"], random_state=0,
    )  # fmt: skip
    for number, predicted in enumerate(model.fit(x, y).staged_predict(x_test)):
        if number % 2:
            yield rmse(y_test, predicted)


RATES = [float(f"{10**-power:.3g}") for power in np.arange(0, 4.1, 0.5)]
CURVES = [
    Curves(
        "mlp-digits",
        {
            "lr": ordered(*RATES[1:]),
            "hidden": ordered(8, 16, 32, 64),
            "alpha": ordered(1e-5, 1e-3, 1e-1, 1.0),
            "batch": ordered(16, 48, 128),
            "activation": choice("relu", "tanh"),
        },
        27,
        mlp,
    ),
    Curves(
        "sgd-digits",
        {
            "eta0": ordered(*RATES),
            "alpha": ordered(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
            "penalty": choice("l2", "l1", "elasticnet"),
            "schedule": choice("constant", "invscaling", "optimal"),
        },
        27,
        sgd,
    ),
    Curves(
        "boosting-diabetes",
        {
            "rate": ordered(0.01, 0.02, 0.05, 0.1, 0.2, 0.4),
            "depth": ordered(1, 2, 3, 5),
            "subsample": ordered(0.3, 0.6, 1.0),
            "leaf": ordered(1, 5, 20),
            "features": ordered(0.2, 0.5, 1.0),
        },
        81,
        boosting,
    ),
]


if __name__ == "__main__":
    for each in CURVES:
        if len(sys.argv) == 1 or each.name in sys.argv[1:]:
            each.tabulate()
