"""Write the files of benchmarks/tables/: tables of slow models, and the constants of the scores.

python benchmarks/tabulate.py tables       train the slow models at a few thousand points (resumes; about 20 minutes)
python benchmarks/tabulate.py constants    random search, and a long search for the best loss, on every problem
python benchmarks/tabulate.py check        train a few rows of each table again, and compare
python benchmarks/tabulate.py lower        take over lower losses from recorded runs as the best known ones
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import numpy as np
from problems import Problem, select
from problems.problem import CONSTANTS, FOLDER, constants
from problems.tables import Table, features, rows

ROWS = 3072
RANDOM = 12_800  # evaluations: 200 random searches of 64
LONG = 6_000


def cached(problem: Problem) -> Path:
    """The file of the losses computed so far, one per line; its folder is made if it is missing."""
    path = FOLDER / ".cache" / "tables" / f"{problem.name}-{problem.digest}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def tabulate(problem: Problem, count: int) -> None:
    """Train the rows that are not in the cache, then fit and write the table."""
    assignments, path = rows(problem.space, count), cached(problem)
    known = len(path.read_text().splitlines()) if path.exists() else 0
    begun = time.perf_counter()
    with path.open("a") as file:
        for assignment in assignments[known:]:
            file.write(f"{problem.exact(assignment)!r}\n")
            file.flush()
    losses = np.array([float(line) for line in path.read_text().splitlines()[:count]])
    points = np.array([features(problem.space, assignment) for assignment in assignments])
    table = Table.of(problem.space, points, losses)
    table.save(problem.name)
    seconds = time.perf_counter() - begun
    weights = dict(zip(problem.space.parameters, table.weights.round(2).tolist(), strict=True))
    print(
        f"{problem.name}: {seconds:.0f} s, unexplained {table.error(600):.3f}, {table.near} rows, {weights}", flush=True
    )


def check(problem: Problem, count: int = 5) -> None:
    """Train random rows of the table again.

    Raises:
        AssertionError: a loss differs from the table by .001 * (1 + loss) or more.
    """
    table = Table.load(problem)
    for row in np.random.default_rng(time.time_ns()).choice(len(table.losses), count, replace=False):
        assignment = rows(problem.space, len(table.losses))[row]
        exact, kept = problem.exact(assignment), table.losses[row]
        assert abs(exact - kept) < 1e-3 * (1 + abs(exact)), (problem.name, assignment, exact, kept)
    print(f"{problem.name}: {count} rows agree")


def calibrate(problem: Problem, draws: int, long: int) -> None:
    """Write the median of random search, and the best loss of a long search, into the constants."""
    rng, begun = np.random.default_rng(1), time.perf_counter()
    points = rng.random((draws, len(problem.space)))
    losses = np.array([problem.loss(problem.space.decode(point)) for point in points])
    deviations = np.array([problem.deviation(loss) for loss in losses])
    ends = []
    for _ in range(4000):
        chosen = rng.choice(draws, 64, replace=False)
        seen = losses[chosen] + deviations[chosen] * rng.standard_normal(64)
        ends.append(losses[chosen[seen.argmin()]])
    best = min(float(losses.min()), climb(problem, points[np.argsort(losses)[:20]], long, rng))
    best = best if problem.best is None else problem.best
    entry = {"random": float(np.median(ends)), "best": best, "median": float(np.median(losses))}
    kept = json.loads(CONSTANTS.read_text()) if CONSTANTS.exists() else {}
    if problem.name in kept and kept[problem.name].get("digest") == problem.digest:
        entry["best"] = min(entry["best"], kept[problem.name]["best"])
    kept[problem.name] = {**{name: float(f"{value:.6g}") for name, value in entry.items()}, "digest": problem.digest}
    CONSTANTS.parent.mkdir(exist_ok=True)
    CONSTANTS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    print(f"{problem.name}: {kept[problem.name]}, {time.perf_counter() - begun:.0f} s", flush=True)


def climb(problem: Problem, starts: np.ndarray, evaluations: int, rng: np.random.Generator) -> float:
    """The best loss of an evolution strategy with small and large steps, run from each start."""

    def loss(point: np.ndarray) -> float:
        return problem.loss(problem.space.decode(point))

    best = np.array([loss(point) for point in starts])
    starts, steps = starts.copy(), np.full(len(starts), 0.1)
    for _ in range(evaluations // len(starts)):
        for climber in range(len(starts)):
            moved = starts[climber] + steps[climber] * rng.standard_normal(starts.shape[1])
            moved = np.where(rng.random(len(moved)) < 0.5, np.clip(moved, 0, 1 - 1e-9), starts[climber])
            if rng.random() < 0.1:
                moved[rng.integers(len(moved))] = rng.random()
            moved_loss = loss(moved)
            better = moved_loss < best[climber]
            steps[climber] = min(steps[climber] * (1.5 if better else 0.96), 0.3) if steps[climber] > 1e-3 else 0.2
            if better:
                starts[climber], best[climber] = moved, moved_loss
    return float(best.min())


def lower(records: Path) -> None:
    """Replace the best known losses in the constants by lower ones of recorded runs."""
    kept = constants()
    for line in records.read_text().splitlines():
        entry = json.loads(line)
        own = kept.get(entry["problem"])
        if own and own["digest"] == entry["digest"] and min(entry["trace"]) < own["best"]:
            print(f"{entry['problem']}: {own['best']} -> {min(entry['trace'])} by {entry['algorithm']}")
            own["best"] = min(entry["trace"])
    CONSTANTS.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Do one kind of work for the chosen problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tables", "constants", "check", "lower"])
    parser.add_argument("--problems", default="all")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--random", type=int, default=RANDOM)
    parser.add_argument("--long", type=int, default=LONG)
    options = parser.parse_args()
    if options.what == "lower":
        lower(FOLDER / ".cache" / "runs.jsonl")
        return
    chosen = select(options.problems)
    slow = [problem for problem in chosen if problem.tabulated]
    work: dict[str, Callable[[Problem], None]] = {
        "tables": lambda problem: tabulate(problem, options.rows),
        "check": check,
        "constants": lambda problem: calibrate(problem, options.random, options.long),
    }
    for problem in chosen if options.what == "constants" else slow:
        work[options.what](problem)


if __name__ == "__main__":
    main()
