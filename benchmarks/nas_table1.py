"""Table 1, run: the systems of all boxes on the same images of digits at the same cost.

    python -m benchmarks.nas_table1                          all boxes and controls, 20 seeds; goes on where it was
    python -m benchmarks.nas_table1 --boxes darts nash --seeds 5 --workers 1 --results mine.jsonl
    python -m benchmarks.nas_table1 --show --figure nas-table1.svg      what the file has, and a figure of it

Each system searches as its example has it until its budget is spent: ``nas_budget`` says how the cost is counted. One
that ends before begins again by another seed. What it gives is the network that looks best by its own objective on
validation images, of all that it trained; for a system with a supernet, of what it derived and then trained. Measured
is the accuracy of that network on test images, after each training, and once more at the end, trained from scratch by
one recipe for all.

The control of a system that suggests networks is itself, told noise in place of results: the same proposals, edits,
inherited weights and training, and nothing to learn from. That of a system with a supernet is random search in its
space, which has the whole budget for trainings. The rules search nothing: one plain network, a convolution on every
edge of a cell, trained by the recipe, or as long as the budget lasts. p is Wilcoxon's, paired by seed, that a system is
no better than its control.

A result counts only for the settings that it was made with; others are made anew.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nas_boxes import BOXES, BUDGET, RULE, TEXT, TEXTS, Box, rule_network
from benchmarks.nas_search import Floats, paired

RESULTS = Path(__file__).parent / "results" / "nas_table1.jsonl"
EVERY = {**BOXES, TEXT: TEXTS}
AGAIN = 500  # is added to the seed of a search for that of the last training
CHANCE = 0.1  # accuracy of who has no network yet and guesses one of ten digits
HEAD = (
    "| | seeds | trained | accuracy | control | p | from scratch | control | parameters | first after | CPU s |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)
RULES = {"once": f"{RULE}, 10 epochs", "budget": f"{RULE}, as long as the budget lasts"}
FEWEST = 6  # pairs; of five, the least p is .03
GRID = np.linspace(0, BUDGET, 241)
Result = Mapping[str, Any]
"""``trainings``: of each network its cost until then, seen loss and test; ``again``, ``parameters``: of the choice."""


@dataclass(frozen=True)
class Task:
    """One search of a box, of its control, or one training by a rule."""

    box: str
    told: str
    seed: int
    digest: str

    def key(self) -> str:
        return json.dumps([self.box, self.told, self.seed, self.digest])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", nargs="+", choices=[*EVERY, RULE], help="all of them where it is not given")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file to go on from")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--figure", type=Path, help="write the accuracy against the cost as SVG")
    args = parser.parse_args()
    if not args.show:
        run(missing(args.results, args.boxes, args.seeds), args.results, args.workers)
    results = read(args.results)
    print(report(results))
    if args.figure:
        draw(results, args.figure)


def tasks(boxes: Sequence[str] | None, seeds: int) -> Iterator[Task]:
    """All searches: of a seed the rule, all systems, then their controls."""
    wanted = {name: box for name, box in EVERY.items() if not boxes or name in boxes}
    for seed in range(seeds):
        if not boxes or RULE in boxes:
            yield from (Task(RULE, told, seed, digest(None)) for told in ("once", "budget"))
        yield from (Task(name, "results", seed, digest(box)) for name, box in wanted.items())
        yield from (Task(name, box.control, seed, digest(box)) for name, box in wanted.items())


def digest(box: Box | None) -> str:
    """Of what is searched and for how long: results of another digest are of other settings."""
    settings = [box.experiment.to_dict(), box.budget] if box else [RULE, BUDGET]
    return sha256(json.dumps(settings).encode()).hexdigest()[:8]


def read(path: Path) -> dict[str, Result]:
    """The results in a file, by ``Task.key``; a line that was cut off counts as none."""
    lines = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return {json.dumps(line.pop("task")): line for line in map(json.loads, lines)}


def missing(path: Path, boxes: Sequence[str] | None, seeds: int) -> list[Task]:
    known = read(path)
    return [task for task in tasks(boxes, seeds) if task.key() not in known]


def run(waiting: Sequence[Task], path: Path, workers: int) -> None:
    """Search, and write each result down as it comes."""
    path.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, path.open("a") as file:
        futures: dict[Future[Result], Task] = {pool.submit(searched, task): task for task in waiting}
        for count, future in enumerate(as_completed(futures), 1):
            task, result = futures[future], future.result()
            file.write(json.dumps({"task": json.loads(task.key()), **result}) + "\n")
            file.flush()
            said = (
                f"{task.box}, seed {task.seed}, {task.told}: {choice(result, np.inf):.3f} in {result['seconds']:.0f} s"
            )
            print(f"{count} of {len(waiting)}: {said}", flush=True)


def searched(task: Task) -> Result:
    import torch

    from benchmarks.nas_budget import search, trained_again
    from katib_flow.training.loop import Recipe

    torch.set_num_threads(1)
    begun = time.process_time()
    if task.box == RULE:
        network = rule_network()
        once, cost = trained_again(network, task.seed)
        epochs = int(Recipe().epochs * BUDGET / cost)
        test, cost = (once, cost) if task.told == "once" else trained_again(network, task.seed, Recipe(epochs=epochs))
        return {
            "trainings": [[round(cost), 0.0, round(test, 4)]],
            "again": round(once, 4),
            "parameters": network.parameters,
            "seconds": round(time.process_time() - begun, 1),
        }
    box = EVERY[task.box]
    told = "noise" if task.told == "noise" else "results"
    experiment = box.experiment if task.told != "random" else box.random()
    trainings = list(search(experiment, box.budget, seed=task.seed, told=told))
    chosen = min(trainings, key=lambda training: training.seen).topology if trainings else None
    images = chosen is not None and chosen.input.tokens is None
    return {
        "trainings": [[round(one.cost), round(one.seen, 5), round(one.test, 4)] for one in trainings],
        "again": round(trained_again(chosen, task.seed + AGAIN)[0], 4) if chosen is not None and images else None,
        "parameters": None if chosen is None else chosen.parameters,
        "seconds": round(time.process_time() - begun, 1),
    }


def choice(result: Result, cost: float = BUDGET) -> float:
    """What the network comes to in test that looked best after so much cost; chance where there is none yet."""
    trained = [row for row in result["trainings"] if row[0] <= cost]
    return min(trained, key=lambda row: row[1])[2] if trained else CHANCE


def by_seed(results: Mapping[str, Result], name: str, told: str) -> dict[int, Result]:
    """What there is of a box, its control or a rule, for the settings as they are now."""
    of = digest(EVERY.get(name))
    keys = {seed: Task(name, told, seed, of).key() for seed in range(len(results))}
    return {seed: results[key] for seed, key in keys.items() if key in results}


def report(results: Mapping[str, Result]) -> str:
    """A table of all boxes, in Markdown, with the rules; a line for text; when to use each."""
    text = [f"After {BUDGET / 1000:.0f} billion multiply-accumulates, accuracy on test images in %:", "", *HEAD]
    group: tuple[str, str] | None = None
    for name, box in BOXES.items():
        if ours := by_seed(results, name, "results"):
            if group != (box.strategy, box.scope):
                group = box.strategy, box.scope
                text.append(f"| *{box.strategy}, {box.scope}* {'| ' * (HEAD[0].count('|') - 2)}|")
            text.append(_row(f"`{name}`", ours, by_seed(results, name, box.control)))
    for told, said in RULES.items():
        if rule := by_seed(results, RULE, told):
            text.append(_row(said, rule, {}))
    text += ["", *_text(results), "", "| | use it for |", "|---|---|"]
    return "\n".join([*text, *(f"| `{name}` | {box.when} |" for name, box in BOXES.items())])


def _row(name: str, ours: Mapping[int, Result], control: Mapping[int, Result]) -> str:
    """What one system or rule comes to, beside its control, as far as there is one."""
    seen, theirs = accuracies(ours), accuracies(control)
    again, theirs_again = accuracies(ours, again=True), accuracies(control, again=True)
    networks = np.mean([len(result["trainings"]) for result in ours.values()])
    first = np.mean([result["trainings"][0][0] if result["trainings"] else BUDGET for result in ours.values()]) / BUDGET
    parameters = np.median([result["parameters"] or 0 for result in ours.values()])
    cells = [name, f"{len(ours)}", f"{networks:.0f}", percent(seen.values()), percent(theirs.values())]
    cells += [_chance(seen, theirs), percent(again.values()), percent(theirs_again.values())]
    cells += [f"{parameters:,.0f}", f"{first:.0%}", f"{np.mean([result['seconds'] for result in ours.values()]):.0f}"]
    return f"| {' | '.join(cells)} |"


def accuracies(side: Mapping[int, Result], *, again: bool = False) -> dict[int, float]:
    """What each seed comes to in test at the end, or trained again; chance where it came to no network."""
    return {seed: (result["again"] or CHANCE) if again else choice(result, np.inf) for seed, result in side.items()}


def percent(values: Iterable[float]) -> str:
    """The mean in %, and its 95 % interval by the bootstrap over seeds, where there are several."""
    of = 100 * np.array(list(values))
    if len(of) < 2:
        return f"{of[0]:.1f}" if len(of) else ""
    means = np.random.default_rng(0).choice(of, size=(4_000, len(of))).mean(axis=1)
    return "{:.1f} ({:.1f} to {:.1f})".format(of.mean(), *np.quantile(means, (0.025, 0.975)))


def _chance(ours: Mapping[int, float], control: Mapping[int, float]) -> str:
    """Wilcoxon's p over the seeds that both have; nothing where they are too few to tell."""
    seeds = sorted(ours.keys() & control.keys())
    if len(seeds) < FEWEST:
        return ""
    return f"{paired(-np.array([ours[seed] for seed in seeds]), -np.array([control[seed] for seed in seeds])):.1g}"


def _text(results: Mapping[str, Result]) -> Iterator[str]:
    """The recurrent cells, measured in perplexity on the test text."""
    if ours := accuracies(by_seed(results, TEXT, "results")):
        networks = np.mean([len(result["trainings"]) for result in by_seed(results, TEXT, "results").values()])
        noise = accuracies(by_seed(results, TEXT, TEXTS.control))
        told_noise = f", told noise {np.mean(list(noise.values())):.1f}" if noise else ""
        mean = np.mean(list(ours.values()))
        yield f"`{TEXT}`, seeds: {len(ours)}, cells trained: {networks:.0f}, test perplexity: {mean:.1f}{told_noise}"


def draw(results: Mapping[str, Result], path: Path) -> None:
    """A panel for each quarter of the table: test error of the choice against the cost, controls dotted."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "nas-table1"
    from matplotlib import pyplot as plt

    groups = list(dict.fromkeys((box.strategy, box.scope) for box in BOXES.values()))
    figure, panels = plt.subplots(2, 2, figsize=(13, 9), sharex=True, sharey=True, layout="constrained")
    for panel, group in zip(panels.flat, groups, strict=True):
        names = [name for name, box in BOXES.items() if (box.strategy, box.scope) == group]
        for color, name in enumerate(names):
            for style, told in (("-", "results"), (":", BOXES[name].control)):
                if side := by_seed(results, name, told):
                    label = name if told == "results" else None
                    panel.plot(GRID / 1000, _errors(side.values()), style, color=f"C{color}", label=label)
        for marker, (told, said) in zip("o*", RULES.items(), strict=True):
            if rule := by_seed(results, RULE, told).values():
                cost, accuracy = np.mean([result["trainings"][0][::2] for result in rule], axis=0)
                panel.plot(cost / 1000, 1 - accuracy, marker, color="black", label=said, zorder=3)
        panel.set(title=" of a ".join(group), yscale="log")
        panel.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 0.9], ["2 %", "5 %", "10 %", "20 %", "50 %", "90 %"])
        panel.minorticks_off()
        panel.legend(fontsize="small", framealpha=0.85, edgecolor="none")
    figure.supxlabel("cost: billions of multiply-accumulates")
    figure.supylabel("test error of the choice, mean over the seeds; a guess until there is a network")
    figure.savefig(path, metadata={"Date": None})


def _errors(side: Iterable[Result]) -> Floats:
    """Test error of the choice after each cost of ``GRID``, the mean of some searches, shape (cost,)."""
    return 1 - np.array([[choice(result, cost) for cost in GRID] for result in side]).mean(axis=0)


if __name__ == "__main__":
    main()
