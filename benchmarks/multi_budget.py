"""Budgets: the share of random search's cost at which its final loss is reached, on learning curves of real models.

    python benchmarks/multi_budget.py --seeds 20
    python benchmarks/multi_budget.py --seeds 10 --spend 0.34     only the first third, which is much faster

Random search trains 64 assignments to the end. This is a cost of 1, and the median over seeds of its best loss is the
target. The other algorithms start a trial whenever one of four simulated workers is free. A promoted trial continues
from the checkpoint of its parent, so that it costs the difference of their budgets. Each algorithm may spend as much as
random search. The best loss is that of any trial so far, whatever its budget, as in ``katib-flow best``.

The peers run with ``--algorithms optuna:tpe-hyperband syne-tune:asha syne-tune:bohb dehb``, in a Python that has
Optuna, Syne Tune and DEHB installed.

The table has, for each problem, the median cost at which the target was reached, its quartiles, and the median of the
best loss at a ninth and a third of the cost; "-" means that the target was not reached. The target is the first line.
"""

import argparse
import heapq
import json
import os
import sys
from collections.abc import Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import numpy as np
from budget_peers import BUDGET_PEERS, trained
from curves import CURVES, Curves

from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Experiment

FULL = 64  # trainings of random search, all to the end
WORKERS = 4
RESULTS = Path(__file__).resolve().parent / ".cache" / "multi_budget.json"
ALGORITHMS = ("random", "gp", "tpe", "hyperband", "asha", "bohb", "mobster")
BUDGETED = ("hyperband", "asha", "bohb", "mobster")


def experiment_of(curves: Curves, name: str, seed: int) -> Experiment:
    """The experiment of an algorithm, with a budget if the algorithm needs one."""
    settings = {"rounds": 100} if name == "hyperband" else {}
    algorithm = {"name": name, "seed": seed, "settings": settings}
    parts: dict[str, Any] = {"algorithm": algorithm, "limits": {"max_trials": 10_000, "parallel_trials": WORKERS}}
    if name in BUDGETED:
        parts["budget"] = {"parameter": "units", "min": 1, "max": curves.units, "eta": 3}
    return Experiment.parse(curves.spec(**parts))


def course(curves: Curves, name: str, seed: int, most: float = 1.0) -> list[tuple[float, float]]:
    """(cost, best loss so far) at the end of each trial, on simulated workers; the cost of random search is 1.

    Args:
        most: no trial starts once this cost is spent; with a peer, no unit of training does.
    """
    if name in BUDGET_PEERS:
        losses = islice(trained(curves, BUDGET_PEERS[name](curves, seed), WORKERS), round(most * FULL * curves.units))
        best = accumulate(losses, min)
        return [(units / (FULL * curves.units), loss) for units, loss in enumerate(best, start=1)]
    experiment, history = experiment_of(curves, name, seed), History()
    running: list[tuple[float, int, Suggestion, float]] = []  # (end, index, suggestion, cost)
    now, spent, done, best, points = 0.0, 0.0, 0.0, np.inf, []
    budget: dict[int, float] = {}
    while True:
        if len(running) < WORKERS and spent < most * FULL * curves.units:
            fresh = suggest(experiment, history, WORKERS - len(running))
            history = history.replaced(Trial(suggestion, State.RUNNING) for suggestion in fresh)
            for suggestion in fresh:
                units = suggestion.budget or curves.units
                cost = units - (budget[suggestion.parent] if suggestion.parent is not None else 0)
                budget[suggestion.index] = units
                spent += cost
                heapq.heappush(running, (now + cost, suggestion.index, suggestion, cost))
        if not running:
            return points
        now, _, suggestion, cost = heapq.heappop(running)
        loss = curves.loss(suggestion.assignment, budget[suggestion.index])
        best = min(best, loss)
        history = history.replaced([Trial(suggestion, State.SUCCEEDED, {"loss": loss})])
        done += cost
        points.append((done / (FULL * curves.units), best))


def at(course: list[tuple[float, float]], cost: float) -> float:
    """The best loss of a course at a cost; infinite before the first trial has ended."""
    return min((best for spent, best in course if spent <= cost + 1e-9), default=np.inf)


def reached(course: list[tuple[float, float]], target: float) -> float:
    """The cost at which a course reaches a loss; infinite if it does not."""
    return next((spent for spent, best in course if best <= target + 1e-9), np.inf)


def courses(algorithms: Sequence[str], seeds: int, spend: float) -> dict[str, list[list[tuple[float, float]]]]:
    """The courses of each problem and algorithm, one per seed; those recorded up to this cost are not run again."""
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for curves in CURVES:
        for name in algorithms:
            for seed in range(seeds):
                key = f"{curves.name} {name} {seed}"
                most = 1.0 if name == "random" else spend  # whose final loss is the target
                if key not in known or known[key][-1][0] < most:
                    known[key] = course(curves, name, seed, most)
            print(f"{curves.name} {name}", file=sys.stderr, flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(known))
    return {
        f"{curves.name} {name}": [known[f"{curves.name} {name} {seed}"] for seed in range(seeds)]
        for curves in CURVES
        for name in algorithms
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--spend", type=float, default=1.0, help="what an algorithm may spend; random search spends 1")
    parser.add_argument(
        "--again", action="store_true", help="delete the recorded results, for example those of an earlier version"
    )
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS, metavar="NAME", help=", ".join(BUDGET_PEERS))
    options = parser.parse_args()
    algorithms = list(dict.fromkeys(["random", *options.algorithms]))
    if options.again:
        RESULTS.unlink(missing_ok=True)
    known = courses(algorithms, options.seeds, options.spend)
    targets = {
        curves.name: float(np.median([at(own, 1.0) for own in known[f"{curves.name} random"]])) for curves in CURVES
    }
    print(f"{options.seeds} seeds, {WORKERS} workers; cost to reach the target [quartiles], loss at 1/9 and 1/3")
    print(f"{'':20}" + "".join(f"{name:>36}" for name in targets))
    print(f"{'target':20}" + "".join(f"{target:>36.4f}" for target in targets.values()))
    for name in algorithms:
        print(f"{name:20}" + "".join(f"{cell(known[f'{one} {name}'], target):>36}" for one, target in targets.items()))


def cell(own: list[list[tuple[float, float]]], target: float) -> str:
    """The cost at which courses reach the target, with its quartiles, and their losses at a ninth and a third."""
    costs = np.quantile([min(reached(course, target), 9.0) for course in own], [0.5, 0.25, 0.75])
    middle, low, high = (f"{cost:.2f}" if cost <= 1 else "-" for cost in costs)
    early, late = (np.median([at(course, cost) for course in own]) for cost in (1 / 9, 1 / 3))
    return f"{middle:>4} [{low:>4}..{high:>4}] {early:8.4f} {late:8.4f}"


if __name__ == "__main__":
    main()
