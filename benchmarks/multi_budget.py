"""Budgets: how little of random search's spending it takes to reach its final loss, on learning curves of real models.

    python benchmarks/multi_budget.py --seeds 20

Random search trains 64 assignments to the end: that is its spending, 1, and the median over seeds of the best loss it
has then is the target. The others start trials on four simulated workers whenever one is free; a promoted trial
continues from its parent's checkpoint and so costs the difference of their budgets. Each may spend as much as random
search. The best loss is that of any trial so far, whatever its budget, as ``katib-flow best`` has it.
The table gives, for each problem, the median spending at which the target was reached, its quartiles, and the median of
the best loss after a third of the spending, beside the target; ">1" is never.
"""

import argparse
import heapq
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import numpy as np
from curves import CURVES, Curves

from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Experiment

FULL = 64  # trainings to the end that random search has
WORKERS = 4
RESULTS = Path(__file__).resolve().parent / ".cache" / "multi_budget.json"
ALGORITHMS = ("random", "gp", "tpe", "hyperband", "asha", "bohb")
BUDGETED = ("hyperband", "asha", "bohb")


def experiment_of(curves: Curves, name: str, seed: int) -> Experiment:
    settings = {"rounds": 100} if name == "hyperband" else {}
    algorithm = {"name": name, "seed": seed, "settings": settings}
    parts: dict[str, Any] = {"algorithm": algorithm, "limits": {"max_trials": 10_000, "parallel_trials": WORKERS}}
    if name in BUDGETED:
        parts["budget"] = {"parameter": "units", "min": 1, "max": curves.units, "eta": 3}
    return Experiment.parse(curves.spec(**parts))


def course(curves: Curves, name: str, seed: int) -> list[tuple[float, float]]:
    """(spending, best loss so far) at each trial's end, on simulated workers; spending 1 is that of random search."""
    made, history = experiment_of(curves, name, seed), History()
    running: list[tuple[float, int, Suggestion, float]] = []  # when it ends, index, what, what it costs
    now, spent, done, best, found = 0.0, 0.0, 0.0, np.inf, []
    budget: dict[int, float] = {}
    while True:
        if len(running) < WORKERS and spent < FULL * curves.units:
            fresh = suggest(made, history, WORKERS - len(running))
            history = history.replaced(Trial(each, State.RUNNING) for each in fresh)
            for each in fresh:
                units = each.budget or curves.units
                cost = units - (budget[each.parent] if each.parent is not None else 0)
                budget[each.index] = units
                spent += cost
                heapq.heappush(running, (now + cost, each.index, each, cost))
        if not running:
            return found
        now, _, each, cost = heapq.heappop(running)
        loss = curves.loss(each.assignment, budget[each.index])
        best = min(best, loss)
        history = history.replaced([Trial(each, State.SUCCEEDED, {"loss": loss})])
        done += cost
        found.append((done / (FULL * curves.units), best))


def at(found: list[tuple[float, float]], spending: float) -> float:
    """The best loss by then."""
    return min((best for spent, best in found if spent <= spending + 1e-9), default=np.inf)


def reached(found: list[tuple[float, float]], target: float) -> float:
    return next((spent for spent, best in found if best <= target + 1e-9), np.inf)


def courses(seeds: int) -> dict[str, list[list[tuple[float, float]]]]:
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for curves in CURVES:
        for name in ALGORITHMS:
            for seed in range(seeds):
                key = f"{curves.name} {name} {seed}"
                if key not in known:
                    known[key] = course(curves, name, seed)
            print(f"{curves.name} {name}", file=sys.stderr, flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(known))
    return {
        f"{curves.name} {name}": [known[f"{curves.name} {name} {seed}"] for seed in range(seeds)]
        for curves in CURVES
        for name in ALGORITHMS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--again", action="store_true", help="forget what is recorded of earlier versions")
    options = parser.parse_args()
    if options.again:
        RESULTS.unlink(missing_ok=True)
    found = courses(options.seeds)
    print(f"{options.seeds} seeds, {WORKERS} workers; spending to reach random search's final loss [quartiles]; loss")
    print(f"{'':11}" + "".join(f"{curves.name:>36}" for curves in CURVES))
    for name in ALGORITHMS:
        cells = []
        for curves in CURVES:
            finals = [at(each, 1.0) for each in found[f"{curves.name} random"]]
            target = float(np.median(finals))
            mine = found[f"{curves.name} {name}"]
            low, middle, high = np.quantile([min(reached(each, target), 9.0) for each in mine], [0.25, 0.5, 0.75])
            text = " ".join(f"{value:.2f}" if value <= 1 else ">1" for value in (middle, low, high))
            middle_, low_, high_ = text.split()
            loss = np.median([at(each, 1 / 3) for each in mine])
            cells.append(f"{middle_:>6} [{low_:>4}..{high_:>4}] {loss:8.4f}/{target:.4f}")
        print(f"{name:11}" + "".join(f"{cell:>36}" for cell in cells))


if __name__ == "__main__":
    main()
