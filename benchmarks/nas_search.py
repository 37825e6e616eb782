"""Systems that search architectures, each against itself told noise: the same proposals and nothing to learn from.

    python -m benchmarks.nas_search                            all systems, 20 seeds, on all cores; goes on where it was
    python -m benchmarks.nas_search --systems nasbot tpe --seeds 5 --results mine.jsonl
    python -m benchmarks.nas_search --show --figure nas-search.svg    what the file has, and a figure of it

A row of the table is a system: its cost in trainings of a network of the table; what its choice comes to, the network
that looked best, and the best network that it met, both in the mean of the seeds with an interval of 95 %; the same
where it is told noise, and p of Wilcoxon's paired test that it is no better. ``nas_worlds`` says what is measured
where. A result counts only for the settings that it was made with; others are made anew.
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

from benchmarks.nas_worlds import Told, World, random_networks, rules, worlds

RESULTS = Path(__file__).parent / "results" / "nas_search.jsonl"
HEAD = (
    "| | seeds | cost | choice | told noise | p | best met | told noise | p |",
    "|---|---|---|---|---|---|---|---|---|",
)
Floats = NDArray[np.float64]
Rows = Sequence[Sequence[float]]
"""Of each training of a search: seen and true loss, cost."""


@dataclass(frozen=True)
class Task:
    """One search."""

    world: str
    system: str
    seed: int
    told: Told
    digest: str

    def key(self) -> str:
        return json.dumps([self.world, self.system, self.seed, self.told, self.digest])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", help="all of them where it is not given")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file to go on from")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--figure", type=Path, help="write the choice against the cost as SVG")
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
    """What a file has not; the seeds of all systems go side by side."""
    known = read(path)
    tasks = [
        Task(world.name, system, seed, told, world.digest(system))
        for seed in range(seeds)
        for world in worlds().values()
        for system in world.systems
        if not systems or system in systems
        for told in get_args(Told)
    ]
    return [task for task in tasks if task.key() not in known]


def run(tasks: Sequence[Task], path: Path, workers: int) -> None:
    """Search, and write each result down as it comes."""
    path.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, path.open("a") as file:
        futures: dict[Future[Rows], Task] = {pool.submit(searched, task): task for task in tasks}
        for count, future in enumerate(as_completed(futures), 1):
            task = futures[future]
            trainings = [[round(float(value), 5) for value in row] for row in future.result()]
            file.write(json.dumps({"task": json.loads(task.key()), "trainings": trainings}) + "\n")
            file.flush()
            print(f"{count} of {len(tasks)}: {task.system}, seed {task.seed}, told {task.told}", flush=True)


def searched(task: Task) -> Rows:
    """Seen and true loss and the cost of each training."""
    world = worlds()[task.world]
    experiment = world.systems[task.system]
    experiment = experiment.model_copy(
        update={"algorithm": experiment.algorithm.model_copy(update={"seed": task.seed})}
    )
    rows: list[tuple[float, float, float]] = []
    for training in world.search(experiment, task.told):
        rows.append((training.seen, training.true, training.cost))
        if len(rows) == world.trainings:
            break
    return rows


def report(results: Mapping[str, Rows]) -> str:
    """A table for each world, in Markdown."""
    text: list[str] = []
    for world in worlds().values():
        if rows := [row for system in world.systems if (row := _row(world, system, results))]:
            text += [f"{world.measure}, after {world.trainings} trainings or the end of the search", "", *HEAD, *rows]
            text += [*_without_search(world.trainings), ""] if world.name == "table" else [""]
    return "\n".join(text)


def _row(world: World, system: str, results: Mapping[str, Rows]) -> str:
    """What one system comes to, over the seeds that have both kinds of searches; "" where there are none."""
    pairs = _pairs(world, system, results)
    if not pairs:
        return ""
    cells = [f"`{system}`", str(len(pairs)), f"{np.mean([sum(row[2] for row in rows) for rows, _ in pairs]):.0f}"]
    for measure in (choice, best_met):
        ours, noise = (np.array([measure(rows) for rows in side]) for side in zip(*pairs, strict=True))
        cells += [interval(ours), f"{noise.mean():.4f}", f"{paired(ours, noise):.1g}"]
    return f"| {' | '.join(cells)} |"


def _pairs(world: World, system: str, results: Mapping[str, Rows]) -> list[tuple[Rows, ...]]:
    """The trainings of a system told results and told noise, of each seed that has both."""
    digest, pairs = world.digest(system), list[tuple[Rows, ...]]()
    for seed in range(len(results)):
        keys = [Task(world.name, system, seed, told, digest).key() for told in get_args(Told)]
        if all(key in results for key in keys):
            pairs.append(tuple(results[key] for key in keys))
    return pairs


def draw(results: Mapping[str, Rows], path: Path) -> None:
    """A panel for each world: what is true of the choice against the trainings, told results and told noise."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(worlds()), figsize=(15, 4.6), layout="constrained")
    for panel, world in zip(panels, worlds().values(), strict=True):
        for color, system in enumerate(world.systems):
            for number, told in enumerate(get_args(Told)):
                searches = [pair[number] for pair in _pairs(world, system, results)]
                if searches:
                    style = {"linestyle": "-" if told == "results" else ":", "color": f"C{color}"}
                    panel.plot(_course(searches, world.trainings), label=system if told == "results" else None, **style)
        panel.set(title=world.name, xlabel="trainings", ylabel=world.measure, yscale="log")
        panel.legend(fontsize="x-small", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _course(searches: Sequence[Rows], trainings: int) -> Floats:
    """What is true of the choice after so many trainings, the mean of searches, shape (training,)."""
    courses = [[choice(rows[: count + 1]) for count in range(len(rows))] for rows in searches]
    return np.array([course + [course[-1]] * (trainings - len(course)) for course in courses]).mean(axis=0)


def _without_search(trainings: int) -> Iterable[str]:
    searches = [[(one.seen, one.true) for one in random_networks(seed, trainings)] for seed in range(2_000)]
    means = [np.mean([measure(rows) for rows in searches]) for measure in (choice, best_met)]
    yield f"| random networks | 2,000 | {trainings} | {means[0]:.4f} | | | {means[1]:.4f} | | |"
    yield from (f"| {rule}, without a search | | 0 | {regret:.4f} | | | {regret:.4f} | | |" for rule, regret in rules())


def choice(rows: Sequence[Sequence[float]]) -> float:
    """What is true of the network that looked best."""
    return min(rows, key=lambda row: row[0])[1]


def best_met(rows: Sequence[Sequence[float]]) -> float:
    """What is true of the best network that was trained, which the search may not have noticed."""
    return min(row[1] for row in rows)


def interval(values: Floats) -> str:
    """The mean, and its 95 % interval by the bootstrap over seeds."""
    means = np.random.default_rng(0).choice(values, size=(4_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def paired(ours: Floats, theirs: Floats) -> float:
    """Wilcoxon's p that ours are no lower, seed by seed; 1 where all are equal."""
    if np.allclose(ours, theirs):
        return 1.0
    return float(wilcoxon(ours, theirs, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    main()
