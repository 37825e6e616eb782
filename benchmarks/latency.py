"""Time and peak memory of one suggestion: katib-flow compared with Optuna, in one run.

    python benchmarks/latency.py [--algorithms ours:gp optuna:gp] [--trials 10 100 1000 10000]

There are ten parameters of every kind, and a history of random trials. Each time is the median of several suggestions
in a process of its own with one thread; the history grows by one trial each time. Times are processor times without
imports; the peak of memory includes them. A ratio divides the value of our algorithm by that of Optuna's algorithm of
the same kind; below 1, ours is faster or needs less memory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import numpy as np
import peers
from problems.problem import Problem, choice, ordered, real, whole

PARAMETERS = {
    "lr": real(1e-5, 1, "log"),
    "decay": real(1e-6, 1e-1, "log"),
    "momentum": real(0, 0.99),
    "dropout": real(0, 0.8),
    "layers": whole(1, 8),
    "units": whole(8, 512, "log"),
    "warmup": whole(0, 100),
    "optimizer": choice("sgd", "adam", "rmsprop"),
    "activation": choice("relu", "tanh", "gelu", "elu"),
    "batch": ordered(16, 32, 64, 128, 256),
}
AGAINST = {"gp": "optuna:gp", "tpe": "optuna:tpe"}
OPTUNA = ("optuna:tpe", "optuna:gp")


def bowl(assignment: Any) -> float:
    """The objective: a quadratic function of some of the parameters."""
    rate, units = np.log10(assignment["lr"]) + 2, np.log2(assignment["units"]) - 6
    kind = {"relu": 0.0, "tanh": 0.4, "gelu": 0.1, "elu": 0.3}[assignment["activation"]]
    return float(rate**2 + 0.1 * units**2 + (assignment["dropout"] - 0.3) ** 2 + 0.1 * assignment["layers"] + kind)


def filled(name: str, trials: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """An optimizer that has seen some trials, as (ask for one suggestion, tell its loss)."""
    problem = Problem("latency", "tuning", PARAMETERS, bowl)
    peer = peers.peer(name)(problem, 0, 1, 10**6)
    rng = np.random.default_rng(0)
    drawn = [problem.space.draw(rng) for _ in range(trials)]
    peer.extend(drawn, [bowl(assignment) for assignment in drawn])
    asked: list[Any] = []

    def ask() -> None:
        asked[:] = peer.ask(1)

    def tell() -> None:
        peer.tell([bowl(assignment) for assignment in asked])

    return ask, tell


def measure(name: str, trials: int, repeats: int, patience: float) -> dict[str, float]:
    """Median seconds of a suggestion, and the peak memory of this process in MB."""
    filled(name, 12)[0]()  # late imports are not part of the time
    ask, tell = filled(name, trials)
    seconds: list[float] = []
    for _ in range(repeats):
        begun = time.process_time()
        ask()
        seconds.append(time.process_time() - begun)
        if sum(seconds) > patience:
            break
        tell()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(seconds), "megabytes": peak}


def measured(name: str, trials: int, options: argparse.Namespace) -> dict[str, float] | None:
    """``measure`` in a new process; None if it takes too long."""
    words = ["--one", name, "--trials", str(trials), "--repeats", str(options.repeats)]
    command = [sys.executable, str(Path(__file__)), *words, "--patience", str(options.patience)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=6 * options.patience)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, trials: int, measures: dict[str, dict[str, float] | None]) -> None:
    """Print the line of an algorithm, with ratios if its rival was measured before."""
    mine = measures[name]
    if mine is None:
        print(f"  {trials:6} {name:16} took too long", flush=True)
        return
    line = f"  {trials:6} {name:16} {1000 * mine['seconds']:10.1f} ms {mine['megabytes']:7.0f} MB"
    rival = AGAINST.get(name.removeprefix("ours:"))
    other = measures.get(rival) if rival else None
    if other:
        ratios = mine["seconds"] / other["seconds"], mine["megabytes"] / other["megabytes"]
        line += f"   relative to {rival}: time {ratios[0]:.2f}, memory {ratios[1]:.2f}"
    print(line, flush=True)


def main() -> None:
    """Print a line for each length of the history and each algorithm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=[*OPTUNA, "ours:*"])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--patience", type=float, default=60.0, help="processor seconds for all suggestions of one measurement"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.trials[0], options.repeats, options.patience)))
        return
    for trials in options.trials:
        measures: dict[str, dict[str, float] | None] = {}
        for name in peers.names(options.algorithms):
            measures[name] = measured(name, trials, options)
            show(name, trials, measures)


if __name__ == "__main__":
    main()
