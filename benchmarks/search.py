"""Search quality: katib-flow's algorithms against their peers, on real and synthetic problems.

    python benchmarks/search.py --algorithms ours:gp optuna:tpe --problems tuning --seeds 10 --batch 1 4

One run is 64 evaluations, asked for in batches, by one thread. Its score is that of the noiseless loss at the point
that looked best: 1 at the best loss known, 0 at the median of random search, -1 at the worst. Runs are kept in
benchmarks/.cache/runs.jsonl under the algorithm's version (of ours, a digest of its sources), and only those missing
are made. The table gives the mean score with a 95 % bootstrap interval over seeds, the mean rank (of the mean scores on
each problem), on how many problems each came first, and the processor
seconds that one suggestion took.
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
    """What tells one run from another."""

    algorithm: str
    version: str
    problem: str
    digest: str
    seed: int
    batch: int
    evaluations: int


def carry_out(run: Run) -> dict[str, Any]:
    """Run an optimizer; the noiseless loss of the point that looks best, after each evaluation."""
    problem = PROBLEMS[run.problem]
    begun = time.process_time()
    peer = peers.peer(run.algorithm)(problem, run.seed, run.batch, run.evaluations)
    asking = time.process_time() - begun
    found: list[float] = []
    seen, best = float("inf"), float("nan")
    while len(found) < run.evaluations:
        begun = time.process_time()
        assignments = peer.ask(min(run.batch, run.evaluations - len(found)))
        asking += time.process_time() - begun
        if not assignments:
            break  # the space is exhausted
        losses = []
        for assignment in assignments:
            assert assignment in problem.space, (run, assignment)
            loss = problem.loss(assignment)
            losses.append(problem.noisy(loss, run.seed, len(found)))
            if losses[-1] < seen:
                seen, best = losses[-1], loss
            found.append(best)
        begun = time.process_time()
        peer.tell(losses)
        asking += time.process_time() - begun
    trace = [float(f"{loss:.6g}") for loss in found]
    return {**run._asdict(), "trace": trace, "cpu_seconds": round((asking + peer.elsewhere_seconds) / len(found), 5)}


def recorded() -> dict[Run, dict[str, Any]]:
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    entries = [json.loads(line) for line in lines]
    return {Run(*(entry[name] for name in Run._fields)): entry for entry in entries}


def wanted(options: argparse.Namespace) -> list[Run]:
    """Seed by seed, so that a search cut short is even over the problems."""
    versions = {name: options.tag or version(name) for name in peers.names(options.algorithms)}
    return [
        Run(name, tag, problem.name, problem.digest, seed, batch, options.evaluations)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for batch in options.batch
        for name, tag in versions.items()
        for problem in select(options.problems)
    ]


def attempt(run: Run) -> dict[str, Any] | None:
    """The same; a peer that breaks costs this run alone, which is not recorded."""
    try:
        return carry_out(run)
    except Exception:  # noqa: BLE001 - what breaks is not ours
        print(f"\n{run}\n{traceback.format_exc()}", file=sys.stderr)
        return None


def carried_out(runs: list[Run], jobs: int) -> Iterator[dict[str, Any] | None]:
    if jobs == 1:
        yield from map(attempt, runs)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(attempt, run) for run in runs]
        yield from (future.result() for future in as_completed(futures))


def complete(runs: list[Run], known: dict[Run, dict[str, Any]], jobs: int) -> None:
    """Carry out and record the runs that are not known."""
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
    def comma(kind: Any) -> Any:
        return lambda text: [kind(word) for word in text.split(",")]

    def flat(lists: list[list[Any]]) -> list[Any]:
        return [each for one in lists for each in one]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", type=comma(str), default=[["ours:*", "peers"]], help="ours:*, peers")
    parser.add_argument("--problems", default="tuning", help="tuning, heldout, all, or names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--batch", nargs="+", type=comma(int), default=[[1]])
    parser.add_argument("--evaluations", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tag", help="version to record under, in place of the algorithm's own")
    parser.add_argument("--at", type=int, help="score after so many evaluations; the last where it is not given")
    parser.add_argument("--detail", action="store_true", help="the mean score on each problem too")
    parser.add_argument("--report", action="store_true", help="only show what is recorded")
    options = parser.parse_args(given)
    options.algorithms, options.batch = flat(options.algorithms), flat(options.batch)
    return options


def main() -> None:
    options = arguments()
    runs, known = wanted(options), recorded()
    if not options.report:
        complete(runs, known, options.jobs)
    for batch in options.batch:
        entries = [known[run] for run in runs if run.batch == batch and run in known]
        print(f"batch {batch}, {options.problems}, {options.evaluations} evaluations")
        absent = {run.algorithm for run in runs} - {entry["algorithm"] for entry in entries}
        if absent:
            print(f"  nothing recorded of {', '.join(sorted(absent))} at its present version")
        print(table(entries, at=options.at or options.evaluations, detail=options.detail), flush=True)


if __name__ == "__main__":
    main()
