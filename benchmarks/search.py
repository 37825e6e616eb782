"""Search quality: the algorithms of katib-flow and their peers, on real and synthetic problems.

    python benchmarks/search.py --algorithms ours:gp optuna:tpe --problems tuning --seeds 10 --batch 1 4

One run has 64 evaluations, suggested in batches, with one thread. Its score rates the noiseless loss at the point that
looked best: 1 for the best known loss, 0 for the median of random search, and never below -1. Runs are recorded in
benchmarks/.cache/runs.jsonl under the version of the algorithm (for ours, a digest of its sources); only missing runs
are carried out. The table has the mean score with a 95 % bootstrap interval over seeds, the mean rank (of the mean
scores on each problem), the number of problems on which the algorithm came first, and the processor seconds per
suggestion.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import peers
from problems import PROBLEMS, select
from report import table
from versions import version

RUNS = Path(__file__).resolve().parent / ".cache" / "runs.jsonl"


class Run(NamedTuple):
    """The identity of a run: runs with equal fields have equal traces."""

    algorithm: str
    version: str
    problem: str
    digest: str
    seed: int
    batch: int
    evaluations: int


def carry_out(run: Run) -> dict[str, Any]:
    """Run an optimizer; the ``trace`` of the entry has the loss of the point that looks best after each evaluation."""
    problem = PROBLEMS[run.problem]
    begun = time.process_time()
    peer = peers.peer(run.algorithm)(problem, run.seed, run.batch, run.evaluations)
    asking = time.process_time() - begun
    trace: list[float] = []
    seen, best = float("inf"), float("nan")
    while len(trace) < run.evaluations:
        begun = time.process_time()
        assignments = peer.ask(min(run.batch, run.evaluations - len(trace)))
        asking += time.process_time() - begun
        if not assignments:
            break  # the space is exhausted
        losses = []
        for assignment in assignments:
            assert assignment in problem.space, (run, assignment)
            loss = problem.loss(assignment)
            losses.append(problem.noisy(loss, run.seed, len(trace)))
            if losses[-1] < seen:
                seen, best = losses[-1], loss
            trace.append(best)
        begun = time.process_time()
        peer.tell(losses)
        asking += time.process_time() - begun
    seconds = round((asking + peer.elsewhere_seconds) / len(trace), 5)
    return {**run._asdict(), "trace": [float(f"{loss:.6g}") for loss in trace], "cpu_seconds": seconds}


def recorded() -> dict[Run, dict[str, Any]]:
    """The entries of all recorded runs."""
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    entries = [json.loads(line) for line in lines]
    return {Run(*(entry[name] for name in Run._fields)): entry for entry in entries}


def wanted(options: argparse.Namespace) -> list[Run]:
    """The runs that the options ask for, seed by seed, so that an interrupted benchmark covers all problems evenly."""
    versions = {name: options.tag or version(name) for name in peers.names(options.algorithms)}
    return [
        Run(name, tag, problem.name, problem.digest, seed, batch, options.evaluations)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for batch in options.batch
        for name, tag in versions.items()
        for problem in select(options.problems)
    ]


def attempt(run: Run) -> dict[str, Any] | None:
    """Carry out a run; None, with a traceback on standard error, if the optimizer raises."""
    try:
        return carry_out(run)
    except Exception:  # noqa: BLE001 - a peer may raise anything
        print(f"\n{run}\n{traceback.format_exc()}", file=sys.stderr)
        return None


def carried_out(runs: list[Run], jobs: int) -> Iterator[dict[str, Any] | None]:
    """Yield the entries of runs as they are completed, in any order; None for a run that failed."""
    if jobs == 1:
        yield from map(attempt, runs)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(attempt, run) for run in runs]
        yield from (future.result() for future in as_completed(futures))


def complete(runs: list[Run], known: dict[Run, dict[str, Any]], jobs: int) -> None:
    """Carry out and record the runs that are not yet known, and add them to ``known``."""
    missing = [run for run in runs if run not in known]
    RUNS.parent.mkdir(exist_ok=True)
    begun = time.perf_counter()
    for done, entry in enumerate(carried_out(missing, jobs), start=1):
        if entry:
            with RUNS.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            known[Run(*(entry[name] for name in Run._fields))] = entry
        if sys.stderr.isatty() or done == len(missing):
            passed = time.perf_counter() - begun
            print(f"\r{done} of {len(missing)} runs, {passed:.0f} s", end="", file=sys.stderr, flush=True)
    if missing:
        print(file=sys.stderr)


def arguments(given: Iterable[str] | None = None) -> argparse.Namespace:
    """The options; those of the command line by default."""

    def comma(kind: Any) -> Any:
        return lambda text: [kind(word) for word in text.split(",")]

    def flat(lists: list[list[Any]]) -> list[Any]:
        return [item for items in lists for item in items]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--algorithms", nargs="+", type=comma(str), default=[["ours:*", "peers"]], help="ours:*, peers, or names"
    )
    parser.add_argument("--problems", default="tuning", help="tuning, heldout, all, or names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--batch", nargs="+", type=comma(int), default=[[1]])
    parser.add_argument("--evaluations", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tag", help="a version to record runs under, in place of the algorithm's own")
    parser.add_argument("--at", type=int, help="the evaluation after which runs are scored; the last by default")
    parser.add_argument("--detail", action="store_true", help="print the mean score on each problem, too")
    parser.add_argument("--report", action="store_true", help="carry out no runs, only print the recorded ones")
    options = parser.parse_args(given)
    options.algorithms, options.batch = flat(options.algorithms), flat(options.batch)
    return options


def main() -> None:
    """Carry out the missing runs, then print a table for each size of batch."""
    options = arguments()
    runs, known = wanted(options), recorded()
    if not options.report:
        complete(runs, known, options.jobs)
    for batch in options.batch:
        entries = [known[run] for run in runs if run.batch == batch and run in known]
        print(f"batch {batch}, {options.problems}, {options.evaluations} evaluations")
        absent = {run.algorithm for run in runs} - {entry["algorithm"] for entry in entries}
        if absent:
            print(f"  no runs are recorded for the current version of {', '.join(sorted(absent))}")
        print(table(entries, at=options.at or options.evaluations, detail=options.detail), flush=True)


if __name__ == "__main__":
    main()
