"""Synthetic problems with known optima, each difficult in its own way."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from problems.problem import choice, ordered, problem, real, whole

Assignment = Mapping[str, Any]


@problem("branin", "tuning", {"x": real(-5, 10), "y": real(0, 15)}, best=0.397887)
def branin(a: Assignment) -> float:
    """Three equal minima of 0.398 (Dixon and Szegö, 1978)."""
    x, y = a["x"], a["y"]
    valley = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    return valley + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


_KINDS = {"relu": (0.0, 0.35), "tanh": (0.25, 0.6), "elu": (0.1, 0.8), "selu": (0.6, 0.2), "gelu": (0.02, 0.3)}


@problem(
    "mixed",
    "tuning",
    {
        "lr": real(1e-5, 1, "log"),
        "kind": choice(*_KINDS),
        "units": whole(8, 512, "log"),
        "layers": whole(1, 8),
        "batch": ordered(16, 32, 64, 128, 256),
        "dropout": real(0, 0.8, step=0.05),
        "norm": choice(True, False),
    },
)
def mixed(a: Assignment) -> float:
    """Every type of parameter; the best learning rate depends on the batch, the kind and the norm."""
    offset, depth = _KINDS[a["kind"]]
    lr = math.log10(a["lr"]) + 2.6 - 0.3 * math.log2(a["batch"] / 64) - (0.8 if a["norm"] else 0.0)
    size = math.log2(a["units"] / 190) / 3
    layers = (a["layers"] - 8 * depth) / 4
    regular = (a["dropout"] - 0.3 - 0.1 * size) ** 2
    ripple = 0.05 * math.cos(5 * lr) * math.cos(4 * size)
    return offset + lr**2 * 0.5 + size**2 * 0.6 + layers**2 + regular + (0 if a["norm"] else 0.08) - ripple


_AXES = {
    **{f"x{i}": real(0, 1) for i in range(10)},
    **{f"rate{i}": real(1e-4, 1, "log") for i in range(5)},
    **{f"count{i}": whole(1, 20) for i in range(5)},
}


@problem("sparse20", "tuning", _AXES, best=0.0)
def sparse20(a: Assignment) -> float:
    """Twenty parameters, of which four matter."""
    x, y = a["x2"] - 0.77, a["x7"] - 0.18
    rate, count = math.log10(a["rate1"]) + 1.2, (a["count3"] - 14) / 10
    return 4 * x**2 + 3 * (y + 0.5 * x) ** 2 + 0.3 * rate**2 + count**2 + 0.1 * abs(math.sin(6 * x + 3 * rate))


@problem(
    "deceptive",
    "tuning",
    {
        "branch": choice("wide", "deep", "flat"),
        "width": real(0, 1, when={"branch": ["wide"]}),
        "level": whole(1, 10, when={"branch": ["wide", "flat"]}),
        "rate": real(1e-4, 1, "log", when={"branch": ["deep"]}),
        "share": real(0, 1, when={"branch": ["deep"]}),
        "steps": whole(1, 100, "log", when={"branch": ["deep"]}),
        "shift": real(-1, 1),
    },
    best=0.0,
)
def deceptive(a: Assignment) -> float:
    """The optimum lies in the branch that is worse on average."""
    shift = 0.1 * (a["shift"] - 0.3) ** 2
    if a["branch"] == "wide":
        return 0.35 + 0.2 * (a["width"] - 0.4) ** 2 + 0.002 * (a["level"] - 6) ** 2 + shift
    if a["branch"] == "flat":
        return 0.55 + 0.01 * abs(a["level"] - 3) + shift
    rate, share = math.log10(a["rate"]) + 1.7, a["share"] - 0.65
    steps = math.log10(a["steps"] / 25)
    return 1.1 * (1 - math.exp(-(0.9 * rate**2 + 5 * share**2 + 1.5 * steps**2))) + shift


_A6 = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


@problem("hartmann6", "heldout", {f"x{i}": real(0, 1) for i in range(6)}, best=-3.32237)
def hartmann6(a: Assignment) -> float:
    """Six dimensions, with a global minimum of -3.322 and a local one nearly as good (Dixon and Szegö, 1978)."""
    x = np.array([a[f"x{i}"] for i in range(6)])
    return float(-np.array([1, 1.2, 3, 3.2]) @ np.exp(-(_A6 * (x - _P6) ** 2).sum(axis=1)))


@problem("levy-noisy", "heldout", {f"x{i}": real(-8, 10) for i in range(4)}, noise=2.0, best=0.0)
def levy_noisy(a: Assignment) -> float:
    """Levy's function in four dimensions, rugged and noisy; the minimum is 0 at (1, 1, 1, 1)."""
    w = [1 + (a[f"x{i}"] - 1) / 4 for i in range(4)]
    middle = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    return math.sin(math.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)


@problem(
    "mixed-ackley",
    "heldout",
    {
        **{f"x{i}": real(-1.7, 2.3) for i in range(4)},
        **{f"n{i}": whole(-4, 6) for i in range(3)},
        "c0": choice("a", "b", "c", "d", "e"),
        "c1": choice("left", "right"),
        "keep": real(0.5, 0.999, "logit"),
    },
    best=0.0,
)
def mixed_ackley(a: Assignment) -> float:
    """Ackley's function; some coordinates are integers, some unordered categories, and one has a logit scale."""
    x = [a[f"x{i}"] for i in range(4)] + [a[f"n{i}"] / 3 for i in range(3)]
    x.append({"a": 0.9, "b": 0.2, "c": 1.4, "d": 0.0, "e": 0.5}[a["c0"]])
    x.append(0.0 if a["c1"] == "right" else 0.4)
    x.append((math.log(a["keep"] / (1 - a["keep"])) - 3) / 3)
    square, cosine = sum(v * v for v in x) / len(x), sum(math.cos(2 * math.pi * v) for v in x) / len(x)
    return 20 - 20 * math.exp(-0.2 * math.sqrt(square)) + math.e - math.exp(cosine)


@problem(
    "nested",
    "heldout",
    {
        "model": choice("net", "trees", "linear"),
        "optimizer": choice("sgd", "adam", when={"model": ["net"]}),
        "momentum": real(0, 0.99, when={"optimizer": ["sgd"]}),
        "lr": real(1e-5, 1, "log", when={"model": ["net"]}),
        "depth": whole(1, 16, when={"model": ["trees", "net"]}),
        "trees": whole(10, 1000, "log", when={"model": ["trees"]}),
        "penalty": real(1e-6, 100, "log", when={"model": ["linear", "net"]}),
        "seed_features": ordered(4, 8, 16, 32, 64),
    },
    best=0.25,
)
def nested(a: Assignment) -> float:
    """Conditions nested two deep; parameters shared by branches have the same effect in some and not in others."""
    features = 0.05 * (math.log2(a["seed_features"]) - 4) ** 2
    if a["model"] == "linear":
        return 0.9 + 0.03 * (math.log10(a["penalty"]) + 1) ** 2 + features
    if a["model"] == "trees":
        return 0.55 + 0.01 * (a["depth"] - 11) ** 2 + 0.25 * abs(math.log10(a["trees"] / 400)) + features
    penalty, depth = 0.04 * (math.log10(a["penalty"]) + 4) ** 2, 0.03 * (a["depth"] - 4) ** 2
    if a["optimizer"] == "adam":
        lr = math.log10(a["lr"]) + 3
        return 0.4 + 0.35 * lr**2 + penalty + depth + features
    lr = math.log10(a["lr"] / (1 - a["momentum"])) + 0.5
    return 0.25 + 0.5 * lr**2 + 0.8 * (a["momentum"] - 0.9) ** 2 + penalty + depth + features
