"""Problems that are difficult for models: branches of different sizes, growing noise, steps and plateaus."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from problems.data import split
from problems.problem import choice, ordered, problem, real, whole

Assignment = Mapping[str, Any]


def _square(a: Assignment, **centres: float) -> float:
    """Squared distance from a point; a coordinate whose name ends in ``rate`` is measured in decades."""
    return sum(
        (math.log10(a[name]) - math.log10(centre) if name.endswith("rate") else a[name] - centre) ** 2
        for name, centre in centres.items()
    )


@problem(
    "branches-three",
    "tuning",
    {
        "model": choice("small", "medium", "large"),
        "shift": real(-1, 1),
        "s_rate": real(1e-4, 1, "log", when={"model": ["small"]}),
        "m_rate": real(1e-4, 1, "log", when={"model": ["medium"]}),
        "m0": real(0, 1, when={"model": ["medium"]}),
        "m1": real(0, 1, when={"model": ["medium"]}),
        "l_rate": real(1e-5, 1, "log", when={"model": ["large"]}),
        **{f"l{i}": real(0, 1, when={"model": ["large"]}) for i in range(5)},
    },
    best=0.0,
)
def branches_three(a: Assignment) -> float:
    """Branches of one, three and six parameters; the largest has the optimum, and is the worst at a random point."""
    shift = 0.2 * (a["shift"] - 0.4) ** 2
    if a["model"] == "small":
        return 0.4 + 0.05 * _square(a, s_rate=0.03) + shift
    if a["model"] == "medium":
        return 0.3 + 0.1 * _square(a, m_rate=0.005) + 0.5 * _square(a, m0=0.2, m1=0.9) + shift
    return (
        1
        - math.exp(-0.35 * _square(a, l_rate=0.002) - 1.2 * _square(a, l0=0.7, l1=0.3, l2=0.6, l3=0.2, l4=0.8))
        + shift
    )


@problem(
    "branches-six",
    "tuning",
    {
        "kernel": choice("none", "one", "two", "three", "four", "seven"),
        "penalty_rate": real(1e-6, 10, "log"),
        "one0": real(0, 1, when={"kernel": ["one"]}),
        **{f"two{i}": real(0, 1, when={"kernel": ["two"]}) for i in range(2)},
        **{f"three{i}": whole(1, 20, when={"kernel": ["three"]}) for i in range(3)},
        **{f"four{i}": real(0, 1, when={"kernel": ["four"]}) for i in range(4)},
        **{f"seven{i}": real(0, 1, when={"kernel": ["seven"]}) for i in range(7)},
    },
    best=0.0,
)
def branches_six(a: Assignment) -> float:
    """Branches of zero to seven parameters; the optimum lies in a narrow valley of three integers."""
    penalty = 0.02 * _square(a, penalty_rate=1e-3)
    if a["kernel"] == "three":
        x = [(a[f"three{i}"] - centre) / 19 for i, centre in enumerate((15, 4, 9))]
        return 0.9 * (1 - math.exp(-6 * sum(v * v for v in x))) + penalty
    base, depth = {"none": (0.45, 0), "one": (0.4, 0.2), "two": (0.35, 0.4), "four": (0.3, 0.6), "seven": (0.32, 0.4)}[
        a["kernel"]
    ]
    own = [a[name] for name in sorted(a) if name.startswith(a["kernel"])]
    return base + depth * sum((v - 0.3 - 0.1 * i) ** 2 for i, v in enumerate(own)) + penalty


@problem(
    "branches-five",
    "heldout",
    {
        "estimator": choice("linear", "tree", "forest", "net", "kernel"),
        "features": whole(1, 30),
        "linear_rate": real(1e-6, 1e2, "log", when={"estimator": ["linear"]}),
        "leaf": whole(1, 50, "log", when={"estimator": ["tree", "forest"]}),
        "depth": whole(1, 20, when={"estimator": ["tree", "forest"]}),
        "trees": whole(5, 500, "log", when={"estimator": ["forest"]}),
        "share": real(0.05, 1, when={"estimator": ["forest"]}),
        "net_rate": real(1e-5, 1, "log", when={"estimator": ["net"]}),
        "momentum": real(0, 0.99, when={"estimator": ["net"]}),
        "units": whole(4, 512, "log", when={"estimator": ["net"]}),
        "layers": whole(1, 6, when={"estimator": ["net"]}),
        "dropout": real(0, 0.8, when={"estimator": ["net"]}),
        "decay_rate": real(1e-7, 1e-1, "log", when={"estimator": ["net"]}),
        "width": real(1e-3, 1e3, "log", when={"estimator": ["kernel"]}),
        "c": real(1e-3, 1e3, "log", when={"estimator": ["kernel"]}),
    },
    best=0.1,
)
def branches_five(a: Assignment) -> float:
    """A choice of five models, as in a pipeline; the net is the best if all of its parameters are right."""
    features = 0.1 * ((a["features"] - 21) / 30) ** 2
    if a["estimator"] == "linear":
        return 0.45 + 0.01 * _square(a, linear_rate=0.1) + features
    if a["estimator"] == "tree":
        return 0.42 + 0.03 * math.log(a["leaf"] / 6) ** 2 + 0.2 * ((a["depth"] - 7) / 20) ** 2 + features
    if a["estimator"] == "forest":
        size = 0.1 * math.exp(-a["trees"] / 60) + 0.3 * (a["share"] - 0.35) ** 2
        return 0.28 + size + 0.02 * math.log(a["leaf"]) ** 2 + 0.3 * ((a["depth"] - 15) / 20) ** 2 + features
    if a["estimator"] == "kernel":
        return (
            0.25
            + 0.4 * (1 - math.exp(-0.3 * (math.log10(a["width"]) + 1.2) ** 2))
            + 0.02 * math.log10(a["c"] / 5) ** 2
            + features
        )
    size = 0.1 * math.log2(a["units"] / 130) ** 2 / 9 + 0.2 * ((a["layers"] - 3) / 6) ** 2
    rate = 0.5 * (math.log10(a["net_rate"] / (1 - a["momentum"])) + 1.5) ** 2
    other = 0.5 * (a["dropout"] - 0.25) ** 2 + 0.01 * _square(a, decay_rate=1e-4)
    return 0.1 + 0.9 * (1 - math.exp(-(size + rate + other))) + features


@problem(
    "branches-two-deep",
    "heldout",
    {
        "family": choice("plain", "boosted", "stacked"),
        "plain_rate": real(1e-5, 10, "log", when={"family": ["plain"]}),
        "loss": choice("square", "huber", "quantile", when={"family": ["boosted"]}),
        "delta": real(0.01, 10, "log", when={"loss": ["huber"]}),
        "alpha": real(0.01, 0.99, when={"loss": ["quantile"]}),
        "boost_rate": real(1e-3, 1, "log", when={"family": ["boosted"]}),
        "rounds": whole(10, 1000, "log", when={"family": ["boosted"]}),
        "final": choice("mean", "ridge", when={"family": ["stacked"]}),
        "ridge_rate": real(1e-4, 1e3, "log", when={"final": ["ridge"]}),
        **{f"weight{i}": real(0, 1, when={"family": ["stacked"]}) for i in range(4)},
    },
    best=0.2,
)
def branches_two_deep(a: Assignment) -> float:
    """Nested branches of one to six parameters."""
    if a["family"] == "plain":
        return 0.6 + 0.02 * _square(a, plain_rate=0.01)
    if a["family"] == "stacked":
        weights = 0.5 * _square(a, weight0=0.8, weight1=0.1, weight2=0.5, weight3=0.3)
        return 0.4 + weights + (0.15 if a["final"] == "mean" else 0.03 * _square(a, ridge_rate=2.0))
    total = math.log10(a["boost_rate"] * a["rounds"])
    fit = 0.3 * (total - 1.1) ** 2 + 0.05 * (math.log10(a["boost_rate"]) + 1.8) ** 2
    kind = {"square": 0.1, "huber": 0.0, "quantile": 0.05}[a["loss"]]
    own = (
        0.1 * math.log10(a["delta"] / 0.4) ** 2
        if "delta" in a
        else 0.8 * (a["alpha"] - 0.5) ** 2
        if "alpha" in a
        else 0
    )
    return 0.2 + 0.8 * (1 - math.exp(-(fit + own))) + kind


_CUTS = np.random.default_rng(7)
_TREES = [(_CUTS.integers(6, size=3), _CUTS.random(3), _CUTS.normal(size=8)) for _ in range(60)]


@problem("steps", "tuning", {**{f"x{i}": real(0, 1) for i in range(5)}, "n": whole(1, 64, "log")})
def steps(a: Assignment) -> float:
    """The mean of sixty trees of depth three, plus a bowl: flat almost everywhere, with a jump at each cut."""
    x = np.array([*(a[f"x{i}"] for i in range(5)), math.log2(a["n"]) / 6])
    leaves = [values[int((x[axes] > cuts) @ [4, 2, 1])] for axes, cuts, values in _TREES]
    bowl = np.round(8 * ((x - [0.3, 0.6, 0.5, 0.8, 0.2, 0.7]) ** 2).sum()) / 8
    return float(np.mean(leaves) + 0.5 * bowl)


@problem(
    "steps-svc",
    "heldout",
    {
        "kernel": choice("rbf", "poly", "sigmoid"),
        "C": real(1e-3, 1e4, "log"),
        "gamma": real(1e-5, 10, "log"),
        "coef0": real(-1, 3),
        "degree": whole(1, 6),
        "cut": real(0, 12),
        "power": real(0.2, 4, "log"),
        "first": whole(0, 30),
        "last": whole(34, 64),
    },
)
def steps_svc(a: Assignment) -> float:
    """Error of a support vector machine on few pixels, measured on 300 digits: a multiple of 1/300."""
    x, y, x_test, y_test = split("digits", 80, 300)
    names = ("kernel", "C", "gamma", "coef0", "degree")

    def cleaned(images: Any) -> Any:
        values = (np.maximum(images - a["cut"], 0) / 16) ** a["power"]
        return values[:, a["first"] : a["last"]]

    model = SVC(**{name: a[name] for name in names}).fit(cleaned(x), y)
    return float(np.mean(model.predict(cleaned(x_test)) != y_test))


def _grows(loss: float) -> float:
    return 0.05 + 0.15 * loss


@problem(
    "noise-grows",
    "tuning",
    {**{f"x{i}": real(-2, 2) for i in range(3)}, "rate": real(1e-4, 1, "log")},
    best=0.0,
    noise=_grows,
)
def noise_grows(a: Assignment) -> float:
    """A curved valley; the noise is about a seventh of the loss."""
    x = [a[f"x{i}"] for i in range(3)]
    valley = sum(2 * (high - low * low) ** 2 + 0.3 * (low - 1) ** 2 for low, high in pairwise(x))
    return math.log1p(valley) + 0.3 * _square(a, rate=0.02)


def _of_forty(loss: float) -> float:
    """Standard deviation of an error rate measured on forty images."""
    return math.sqrt(max(loss * (1 - loss), 1e-4) / 40)


@problem(
    "noise-forty",
    "heldout",
    {
        "n_neighbors": whole(1, 40, "log"),
        "weights": choice("uniform", "distance"),
        "p": real(1, 4),
        "power": real(0.2, 4, "log"),
        "cut": real(0, 12),
        "border": ordered(0, 1, 2, 3),
    },
    noise=_of_forty,
)
def noise_forty(a: Assignment) -> float:
    """Error of nearest neighbours on cleaned digits, with the noise of a measurement on forty images."""

    def cleaned(images: Any) -> Any:
        values = (np.maximum(images - a["cut"], 0) / 16) ** a["power"]
        side = values.reshape(-1, 8, 8)
        return side[:, :, a["border"] : 8 - a["border"]].reshape(len(images), -1)

    x, y, x_test, y_test = split("digits", 150, 250)
    model = KNeighborsClassifier(a["n_neighbors"], weights=a["weights"], p=a["p"])
    return float(np.mean(model.fit(cleaned(x), y).predict(cleaned(x_test)) != y_test))


@problem(
    "plateau",
    "tuning",
    {**{f"x{i}": real(0, 1) for i in range(4)}, "rate": real(1e-6, 10, "log"), "kind": choice("a", "b", "c")},
    best=0.0,
)
def plateau(a: Assignment) -> float:
    """The loss of a guess over most of the space, and one slope towards the optimum."""
    centre = 0.3 * _square(a, rate=1e-2) + 3 * _square(a, x0=0.3, x1=0.6, x2=0.5, x3=0.8)
    return 2.3 * min(1.0, 1.4 * (1 - math.exp(-centre)) + {"a": 0.0, "b": 0.15, "c": 0.3}[a["kind"]])


@problem(
    "plateau-diverges",
    "heldout",
    {
        "rate": real(1e-6, 100, "log"),
        "momentum": real(0, 0.99),
        "batch": ordered(8, 16, 32, 64, 128),
        "decay_rate": real(1e-6, 1, "log"),
        "warmup": whole(0, 50),
        "clip": choice(True, False),
    },
    best=0.05,
)
def plateau_diverges(a: Assignment) -> float:
    """A training that diverges above a learning rate, learns nothing far below it, and is best just below it."""
    step = math.log10(a["rate"] / (1 - a["momentum"])) - 0.3 * math.log2(a["batch"] / 32)
    edge = 0.5 + (0.4 if a["clip"] else 0.0) + 0.01 * a["warmup"]
    if step > edge:
        return 2.3
    short = 1 - math.exp(-0.25 * (step - edge) ** 2)
    decay = 0.04 * _square(a, decay_rate=3e-4)
    return min(2.3, 0.05 + 2.6 * short + decay + 0.1 * (a["warmup"] / 50) ** 2 + (0.0 if a["clip"] else 0.05))
