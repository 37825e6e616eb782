"""Learning curves of real models: the loss of an assignment after every unit of budget.

python benchmarks/curves.py [NAME ...]        train all tabulated curves, or the named ones; 15 minutes on one core

Curves of a finite space are tabulated; those of a continuous space are trained on demand.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import numpy as np
from problems.data import log_loss, rmse, split
from problems.problem import Half, choice, ordered, real, whole
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor

from katib_flow.spaces import search_space
from katib_flow.spec import Experiment, SearchSpace

Assignment = Mapping[str, Any]
TABLES = Path(__file__).resolve().parent / "tables"


@dataclass(frozen=True)
class Curves:
    """A search space, and the loss of a model after each of ``units`` units of training.

    Attributes:
        train: ``train(assignment, units)`` yields the loss after each unit.
        half: as for search problems: algorithms are developed on ``tuning``.
    """

    name: str
    parameters: Mapping[str, Any]
    units: int
    train: Callable[[Assignment, int], Iterator[float]]
    half: Half = "tuning"

    def spec(self, **sections: Any) -> dict[str, Any]:
        """A whole spec with these parameters, and the given sections."""
        return {
            "name": self.name,
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": dict(self.parameters),
            "limits": {"max_trials": 10_000},
            "trial": {"function": "curves:never_called"},
        } | sections

    @cached_property
    def space(self) -> SearchSpace:
        """The search space of the parameters."""
        return search_space(Experiment.parse(self.spec()))

    @cached_property
    def _losses(self) -> dict[Any, Any]:
        table = np.load(TABLES / f"curves-{self.name}.npy").astype(float)
        return {self.space.key(assignment): row for assignment, row in zip(self.space.enumerate(), table, strict=True)}

    @cached_property
    def _trained(self) -> dict[Any, tuple[list[float], Iterator[float]]]:
        return {}

    def loss(self, assignment: Assignment, units: float) -> float:
        """The lowest validation loss within the first units, as with ``metrics.strategy: {loss: min}``."""
        if self.space.size is not None:
            return float(self._losses[self.space.key(assignment)][: int(units)].min())
        losses, training = self._trained.setdefault(
            self.space.key(assignment), ([], self.train(assignment, self.units))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses += islice(training, max(0, int(units) - len(losses)))
        return min(losses[: int(units)])

    def tabulate(self) -> None:
        """Train every assignment, and write the table."""
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = [list(self.train(assignment, self.units)) for assignment in self.space.enumerate()]
        np.save(TABLES / f"curves-{self.name}.npy", np.array(rows, dtype=np.float16))
        print(f"{self.name}: {len(rows)} curves of {self.units} units, {time.perf_counter() - begun:.0f} s", flush=True)


def mlp(a: Assignment, epochs: int) -> Iterator[float]:
    """Log-loss of a neural network on 300 digits; a unit is an epoch."""
    x, y, x_test, y_test = split("digits", 300, 600)
    model = MLPClassifier(
        (a["hidden"],), activation=a["activation"], alpha=a["alpha"], learning_rate_init=a["lr"],
        batch_size=a["batch"], solver=a.get("solver", "adam"), momentum=a.get("momentum", 0.9), random_state=0,
    )  # fmt: skip
    for _ in range(epochs):
        model.partial_fit(x / 16, y, classes=np.arange(10))
        yield log_loss(y_test, model.predict_proba(x_test / 16), model.classes_)


def sgd(a: Assignment, epochs: int) -> Iterator[float]:
    """Log-loss of a linear model on 300 digits; a unit is an epoch."""
    x, y, x_test, y_test = split("digits", 300, 600)
    model = SGDClassifier(
        loss="log_loss", penalty=a["penalty"], alpha=a["alpha"], learning_rate=a["schedule"], eta0=a["eta0"],
        l1_ratio=a.get("l1_ratio", 0.15), power_t=a.get("power_t", 0.5), average=a.get("average", False),
        random_state=0,
    )  # fmt: skip
    for _ in range(epochs):
        model.partial_fit(x / 16, y, classes=np.arange(10))
        yield log_loss(y_test, model.predict_proba(x_test / 16), model.classes_)


def net(a: Assignment, epochs: int) -> Iterator[float]:
    """Root mean squared error of a neural network on 200 patients; a unit is an epoch."""
    x, y, x_test, y_test = split("diabetes", 200, 200)
    mean, deviation = y.mean(), y.std()
    model = MLPRegressor(
        hidden_layer_sizes=(a["hidden"],) * a["layers"], activation=a["activation"], alpha=a["alpha"],
        learning_rate_init=a["lr"], batch_size=a["batch"], beta_1=a["beta_1"], random_state=0,
    )  # fmt: skip
    for _ in range(epochs):
        model.partial_fit(x * 21, (y - mean) / deviation)
        yield rmse(y_test, mean + deviation * model.predict(x_test * 21))


def boosting(a: Assignment, trees: int) -> Iterator[float]:
    """Root mean squared error of boosted trees on 200 patients; a unit is two trees."""
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
    Curves(
        "mlp-live",
        {
            "lr": real(1e-4, 1, "log"),
            "hidden": whole(4, 96, "log"),
            "alpha": real(1e-6, 10, "log"),
            "batch": whole(8, 128, "log"),
            "activation": choice("relu", "tanh", "logistic"),
            "solver": choice("adam", "sgd"),
            "momentum": real(0, 0.99, when={"solver": ["sgd"]}),
        },
        27,
        mlp,
    ),
    Curves(
        "sgd-live",
        {
            "eta0": real(1e-4, 10, "log"),
            "alpha": real(1e-7, 1, "log"),
            "penalty": choice("l2", "l1", "elasticnet"),
            "l1_ratio": real(0, 1, when={"penalty": ["elasticnet"]}),
            "schedule": choice("constant", "invscaling", "optimal"),
            "power_t": real(0.05, 0.95, when={"schedule": ["invscaling"]}),
            "average": choice(True, False),
        },
        27,
        sgd,
        "heldout",
    ),
    Curves(
        "net-diabetes",
        {
            "lr": real(1e-4, 1, "log"),
            "hidden": whole(2, 64, "log"),
            "layers": whole(1, 3),
            "alpha": real(1e-6, 100, "log"),
            "batch": whole(4, 128, "log"),
            "activation": choice("relu", "tanh", "logistic"),
            "beta_1": real(0.5, 0.99, "logit"),
        },
        81,
        net,
        "heldout",
    ),
]


if __name__ == "__main__":
    for curves in CURVES:
        if curves.space.size is not None and (len(sys.argv) == 1 or curves.name in sys.argv[1:]):
            curves.tabulate()
