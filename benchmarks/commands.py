"""The time of commands that read a store: katib-flow's and Optuna's, in turn, each on a SQLite store of its own.

python benchmarks/commands.py [--trials N] [--repeats K]. Both stores hold one search over ten floats. The time of a
command is that of its whole process, from its start to its end; the median of the repetitions counts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import optuna

import katib_flow as kf
from katib_flow.tracking import Store

NAMES = [f"x{number}" for number in range(10)]
PAIRS = {
    "version": ("--version", "--version"),
    "the experiments of a store": ("list", "studies"),
    "the best trial": ("best search", "best-trial --study-name search"),
    "all trials": ("trials search", "trials --study-name search"),
}


def total(**values: float) -> float:
    """The objective."""
    return sum(values.values())


def fill(folder: Path, trials: int) -> None:
    """Record the same number of random trials in a store of each library."""
    parameters = {name: kf.Float(0, 1) for name in NAMES}
    limits = {"max_trials": trials, "parallel_trials": 2}
    decorated = kf.experiment(name="search", parameters=parameters, minimize="value", algorithm="random", **limits)
    decorated(total).run(store=Store(f"sqlite:///{folder}/ours.db"))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="search", storage=f"sqlite:///{folder}/theirs.db")
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optimize(lambda trial: total(**{name: trial.suggest_float(name, 0, 1) for name in NAMES}), trials)


def seconds(command: Sequence[str], folder: Path) -> float:
    """The time of one command, which must succeed."""
    variables = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/ours.db"}
    begun = time.perf_counter()
    subprocess.run(command, env=variables, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> None:
    """Print a row per pair of commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    ours, theirs = [sys.executable, "-m", "katib_flow"], [sys.executable, "-m", "optuna.cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, options.trials)
        print("| | katib-flow | Optuna | ratio |\n|---|---|---|---|")
        for label, (mine, peer) in PAIRS.items():
            storage = [] if peer == "--version" else ["--storage", f"sqlite:///{folder}/theirs.db"]
            commands = [*ours, *mine.split()], [*theirs, *peer.split(), *storage]
            pairs = [[seconds(command, folder) for command in commands] for _ in range(options.repeats)]
            a, b = (statistics.median(times) for times in zip(*pairs, strict=True))
            row = f"{label}: `{mine}`, `{peer.partition(' ')[0]}` | {a:.2f} s | {b:.2f} s | {a / b:.2f}"
            print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
