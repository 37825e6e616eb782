"""Compare each system that searches architectures with itself, given noise in place of results.

    python -m benchmarks.nas_search                            all systems, 20 seeds; continues
    python -m benchmarks.nas_search --systems nasbot tpe --seeds 5 --results mine.jsonl
    python -m benchmarks.nas_search --show --figure nas-search.svg    print the recorded results, and draw a figure

Each row of the table is a system. Its columns are the cost, in trainings of a network of the table; the measure of the
choice (the network that looked best) and of the best network met, as means over the seeds with 95 % intervals; the
same with noise in place of results; and p of Wilcoxon's paired test, with the hypothesis that the system is no better
than with noise. ``nas_worlds`` defines the measures. A recorded result counts only for the settings that produced it;
after a change of settings the search runs again.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from benchmarks.nas_worlds import Feedback, World, random_networks, rules, worlds

RESULTS = Path(__file__).parent / "results" / "nas_search.jsonl"
HEAD = (
    "| | seeds | cost | choice | with noise | p | best met | with noise | p |",
    "|---|---|---|---|---|---|---|---|---|",
)
Floats = NDArray[np.float64]
Rows = Sequence[Sequence[float]]
"""The trainings of a search, each as [seen loss, true loss, cost]."""


@dataclass(frozen=True)
class Task:
    """One search: a system in a world, with a seed, the kind of feedback, and the digest of its settings."""

    world: str
    system: str
    seed: int
    feedback: Feedback
    digest: str

    def key(self) -> str:
        """The fields as a JSON list, in an order that recorded results depend on."""
        return json.dumps([self.world, self.system, self.seed, self.feedback, self.digest])


def main() -> None:
    """Run the missing searches, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", help="the systems to run; all by default")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of results, which is continued")
    parser.add_argument("--show", action="store_true", help="run no searches, only print the recorded results")
    parser.add_argument("--figure", type=Path, help="an SVG file: the measure of the choice by the number of trainings")
    args = parser.parse_args()
    if not args.show:
        run(missing(args.results, args.systems, args.seeds), args.results, args.workers)
    results = read(args.results)
    print(report(results))
    if args.figure:
        draw(results, args.figure)


def read(path: Path) -> dict[str, Rows]:
    """The trainings of each search in a file, by ``Task.key``."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {json.dumps(line["task"]): line["trainings"] for line in map(json.loads, lines)}


def missing(path: Path, systems: Sequence[str] | None, seeds: int) -> list[Task]:
    """The searches that a file lacks, seed by seed, so that all systems progress evenly."""
    known = read(path)
    tasks = [
        Task(world.name, system, seed, feedback, world.digest(system))
        for seed in range(seeds)
        for world in worlds().values()
        for system in world.systems
        if not systems or system in systems
        for feedback in get_args(Feedback)
    ]
    return [task for task in tasks if task.key() not in known]


def run(tasks: Sequence[Task], path: Path, workers: int) -> None:
    """Run searches in parallel, and append each result to the file as it arrives."""
    path.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, path.open("a") as file:
        futures: dict[Future[Rows], Task] = {pool.submit(searched, task): task for task in tasks}
        for count, future in enumerate(as_completed(futures), 1):
            task = futures[future]
            trainings = [[round(float(value), 5) for value in row] for row in future.result()]
            file.write(json.dumps({"task": json.loads(task.key()), "trainings": trainings}) + "\n")
            file.flush()
            print(f"{count} of {len(tasks)}: {task.system}, seed {task.seed}, feedback: {task.feedback}", flush=True)


def searched(task: Task) -> Rows:
    """Run one search."""
    world = worlds()[task.world]
    experiment = world.systems[task.system]
    experiment = experiment.model_copy(
        update={"algorithm": experiment.algorithm.model_copy(update={"seed": task.seed})}
    )
    rows: list[tuple[float, float, float]] = []
    for training in world.search(experiment, task.feedback):
        rows.append((training.seen, training.true, training.cost))
        if len(rows) == world.trainings:
            break
    return rows


def report(results: Mapping[str, Rows]) -> str:
    """A Markdown table for each world."""
    text: list[str] = []
    for world in worlds().values():
        if rows := [row for system in world.systems if (row := _row(world, system, results))]:
            text += [f"{world.measure}, after {world.trainings} trainings or the end of the search", "", *HEAD, *rows]
            text += [*_without_search(world.trainings), ""] if world.name == "table" else [""]
    return "\n".join(text)


def _row(world: World, system: str, results: Mapping[str, Rows]) -> str:
    """The row of one system, over the seeds that have searches with both kinds of feedback; "" if no seed has both."""
    pairs = _pairs(world, system, results)
    if not pairs:
        return ""
    cells = [f"`{system}`", str(len(pairs)), f"{np.mean([sum(row[2] for row in rows) for rows, _ in pairs]):.0f}"]
    for measure in (choice, best_met):
        ours, noise = (np.array([measure(rows) for rows in side]) for side in zip(*pairs, strict=True))
        cells += [interval(ours), f"{noise.mean():.4f}", f"{paired(ours, noise):.1g}"]
    return f"| {' | '.join(cells)} |"


def _pairs(world: World, system: str, results: Mapping[str, Rows]) -> list[tuple[Rows, ...]]:
    """For each seed that has both: the trainings with results as feedback, and those with noise."""
    digest, pairs = world.digest(system), list[tuple[Rows, ...]]()
    for seed in range(len(results)):
        keys = [Task(world.name, system, seed, feedback, digest).key() for feedback in get_args(Feedback)]
        if all(key in results for key in keys):
            pairs.append(tuple(results[key] for key in keys))
    return pairs


def draw(results: Mapping[str, Rows], path: Path) -> None:
    """Plot, for each world, the true measure of the choice by the number of trainings; dotted lines: with noise."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(worlds()), figsize=(15, 4.6), layout="constrained")
    for panel, world in zip(panels, worlds().values(), strict=True):
        for color, system in enumerate(world.systems):
            for number, feedback in enumerate(get_args(Feedback)):
                searches = [pair[number] for pair in _pairs(world, system, results)]
                if searches:
                    style = {"linestyle": "-" if feedback == "results" else ":", "color": f"C{color}"}
                    panel.plot(
                        _course(searches, world.trainings), label=system if feedback == "results" else None, **style
                    )
        panel.set(title=world.name, xlabel="trainings", ylabel=world.measure, yscale="log")
        panel.legend(fontsize="x-small", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _course(searches: Sequence[Rows], trainings: int) -> Floats:
    """True measure of the choice after each number of trainings, mean over searches, shape (training,)."""
    courses = [[choice(rows[: count + 1]) for count in range(len(rows))] for rows in searches]
    return np.array([course + [course[-1]] * (trainings - len(course)) for course in courses]).mean(axis=0)


def _without_search(trainings: int) -> Iterable[str]:
    searches = [[(one.seen, one.true) for one in random_networks(seed, trainings)] for seed in range(2_000)]
    means = [np.mean([measure(rows) for rows in searches]) for measure in (choice, best_met)]
    yield f"| random networks | 2,000 | {trainings} | {means[0]:.4f} | | | {means[1]:.4f} | | |"
    yield from (f"| {rule}, without a search | | 0 | {regret:.4f} | | | {regret:.4f} | | |" for rule, regret in rules())


def choice(rows: Sequence[Sequence[float]]) -> float:
    """The true measure of the network that looked best."""
    return min(rows, key=lambda row: row[0])[1]


def best_met(rows: Sequence[Sequence[float]]) -> float:
    """The true measure of the best network that was trained, whether or not it looked best."""
    return min(row[1] for row in rows)


def interval(values: Floats) -> str:
    """The mean, and its 95 % bootstrap interval over seeds."""
    means = np.random.default_rng(0).choice(values, size=(4_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def paired(ours: Floats, theirs: Floats) -> float:
    """p of Wilcoxon's test on pairs, with the hypothesis that ours are no lower; 1 if all pairs are equal."""
    if np.allclose(ours, theirs):
        return 1.0
    return float(wilcoxon(ours, theirs, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    main()
