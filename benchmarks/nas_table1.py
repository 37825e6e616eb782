"""Run Table 1: the systems of all boxes on the same images of digits, at the same cost.

    python -m benchmarks.nas_table1                          all boxes and controls, 20 seeds; continues
    python -m benchmarks.nas_table1 --boxes darts nash --seeds 5 --workers 1 --results mine.jsonl
    python -m benchmarks.nas_table1 --show --figure nas-table1.svg      print the recorded results, and draw a figure

Each system searches with the settings of its example until its budget is spent; ``nas_budget`` describes how the cost
is counted. A search that ends earlier starts again with another seed. Its choice is the network that looks best by its
own objective on validation images, among all that it trained (with a supernet: among those derived from it and then
trained). The benchmark measures the accuracy of the choice on test images after each training, and once more at the
end, trained from scratch with one recipe for all.

The control of a system that suggests networks is the system itself with noise in place of results: it makes the same
kinds of proposals and edits, inherits the same weights and trains in the same way, but has nothing to learn from. The
control of a system with a supernet is random search in its space, with the whole budget for trainings. The rules search
nothing: they train one plain network, with a convolution on every edge of a cell, with the recipe or for the whole
budget. p is that of Wilcoxon's test, paired by seed, with the hypothesis that a system is no better than its control.

A recorded result counts only for the settings that produced it; after a change of settings the search runs again.
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
AGAIN = 500  # the last training has the seed of the search plus this
CHANCE = 0.1  # accuracy before there is a network: a guess among ten digits
HEAD = (
    "| | seeds | trained | accuracy | control | p | from scratch | control | parameters | first after | CPU s |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)
RULES = {"once": f"{RULE}, 10 epochs", "budget": f"{RULE}, for the whole budget"}
FEWEST = 6  # pairs for a test; with five, p is never below .03
GRID = np.linspace(0, BUDGET, 241)
Result = Mapping[str, Any]
"""``trainings``: [cost so far, seen loss, test accuracy] of each network; ``again``, ``parameters``: of the choice."""


@dataclass(frozen=True)
class Task:
    """One search by the system of a box or by its control, or one training by a rule.

    Attributes:
        variant: "results", "noise" or "random" for a box; "once" or "budget" for the rule.
        digest: that of the settings.
    """

    box: str
    variant: str
    seed: int
    digest: str

    def key(self) -> str:
        """The fields as a JSON list, in an order that recorded results depend on."""
        return json.dumps([self.box, self.variant, self.seed, self.digest])


def main() -> None:
    """Run the missing searches, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", nargs="+", choices=[*EVERY, RULE], help="the boxes to run; all by default")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of results, which is continued")
    parser.add_argument("--show", action="store_true", help="run no searches, only print the recorded results")
    parser.add_argument("--figure", type=Path, help="an SVG file: test error by cost")
    args = parser.parse_args()
    if not args.show:
        run(missing(args.results, args.boxes, args.seeds), args.results, args.workers)
    results = read(args.results)
    print(report(results))
    if args.figure:
        draw(results, args.figure)


def tasks(boxes: Sequence[str] | None, seeds: int) -> Iterator[Task]:
    """All searches, seed by seed: first the rules, then all systems, then their controls."""
    wanted = {name: box for name, box in EVERY.items() if not boxes or name in boxes}
    for seed in range(seeds):
        if not boxes or RULE in boxes:
            yield from (Task(RULE, variant, seed, digest(None)) for variant in ("once", "budget"))
        yield from (Task(name, "results", seed, digest(box)) for name, box in wanted.items())
        yield from (Task(name, box.control, seed, digest(box)) for name, box in wanted.items())


def digest(box: Box | None) -> str:
    """Digest of the experiment and the budget; recorded results count only if theirs is the same."""
    settings = [box.experiment.to_dict(), box.budget] if box else [RULE, BUDGET]
    return sha256(json.dumps(settings).encode()).hexdigest()[:8]


def read(path: Path) -> dict[str, Result]:
    """The results in a file, by ``Task.key``; a last line that was cut off is ignored."""
    lines = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return {json.dumps(line.pop("task")): line for line in map(json.loads, lines)}


def missing(path: Path, boxes: Sequence[str] | None, seeds: int) -> list[Task]:
    """The searches that a file lacks, in the order of ``tasks``."""
    known = read(path)
    return [task for task in tasks(boxes, seeds) if task.key() not in known]


def run(waiting: Sequence[Task], path: Path, workers: int) -> None:
    """Run searches in parallel, and append each result to the file as it arrives."""
    path.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, path.open("a") as file:
        futures: dict[Future[Result], Task] = {pool.submit(searched, task): task for task in waiting}
        for count, future in enumerate(as_completed(futures), 1):
            task, result = futures[future], future.result()
            file.write(json.dumps({"task": json.loads(task.key()), **result}) + "\n")
            file.flush()
            outcome = f"{choice(result, np.inf):.3f} in {result['seconds']:.0f} s"
            print(f"{count} of {len(waiting)}: {task.box}, seed {task.seed}, {task.variant}: {outcome}", flush=True)


def searched(task: Task) -> Result:
    """Run one task in this process, with one thread."""
    import torch

    from benchmarks.nas_budget import search, trained_again
    from katib_flow.training.loop import Recipe

    torch.set_num_threads(1)
    begun = time.process_time()
    if task.box == RULE:
        network = rule_network()
        once, cost = trained_again(network, task.seed)
        epochs = int(Recipe().epochs * BUDGET / cost)
        test, cost = (
            (once, cost) if task.variant == "once" else trained_again(network, task.seed, Recipe(epochs=epochs))
        )
        return {
            "trainings": [[round(cost), 0.0, round(test, 4)]],
            "again": round(once, 4),
            "parameters": network.parameters,
            "seconds": round(time.process_time() - begun, 1),
        }
    box = EVERY[task.box]
    feedback = "noise" if task.variant == "noise" else "results"
    experiment = box.experiment if task.variant != "random" else box.random()
    trainings = list(search(experiment, box.budget, seed=task.seed, feedback=feedback))
    chosen = min(trainings, key=lambda training: training.seen).topology if trainings else None
    images = chosen is not None and chosen.input.tokens is None
    return {
        "trainings": [[round(one.cost), round(one.seen, 5), round(one.test, 4)] for one in trainings],
        "again": round(trained_again(chosen, task.seed + AGAIN)[0], 4) if chosen is not None and images else None,
        "parameters": None if chosen is None else chosen.parameters,
        "seconds": round(time.process_time() - begun, 1),
    }


def choice(result: Result, cost: float = BUDGET) -> float:
    """Test accuracy of the network that looked best when this cost was spent; ``CHANCE`` before the first network."""
    trained = [row for row in result["trainings"] if row[0] <= cost]
    return min(trained, key=lambda row: row[1])[2] if trained else CHANCE


def by_seed(results: Mapping[str, Result], name: str, variant: str) -> dict[int, Result]:
    """The results of one variant of a box, or of a rule, for the current settings, by seed."""
    settings = digest(EVERY.get(name))
    keys = {seed: Task(name, variant, seed, settings).key() for seed in range(len(results))}
    return {seed: results[key] for seed, key in keys.items() if key in results}


def report(results: Mapping[str, Result]) -> str:
    """Markdown: the table of all boxes and the rules, a line for the cells on text, and when to use each system."""
    text = [f"After {BUDGET / 1000:.0f} billion multiply-accumulates, accuracy on test images in %:", "", *HEAD]
    group: tuple[str, str] | None = None
    for name, box in BOXES.items():
        if ours := by_seed(results, name, "results"):
            if group != (box.strategy, box.scope):
                group = box.strategy, box.scope
                text.append(f"| *{box.strategy}, {box.scope}* {'| ' * (HEAD[0].count('|') - 2)}|")
            text.append(_row(f"`{name}`", ours, by_seed(results, name, box.control)))
    for variant, label in RULES.items():
        if rule := by_seed(results, RULE, variant):
            text.append(_row(label, rule, {}))
    text += ["", *_text(results), "", "| | use it for |", "|---|---|"]
    return "\n".join([*text, *(f"| `{name}` | {box.when} |" for name, box in BOXES.items())])


def _row(name: str, ours: Mapping[int, Result], control: Mapping[int, Result]) -> str:
    """The row of one system or rule, with its control if there is one."""
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
    """Test accuracy of the choice of each seed, or of its training from scratch; ``CHANCE`` without a network."""
    return {seed: (result["again"] or CHANCE) if again else choice(result, np.inf) for seed, result in side.items()}


def percent(values: Iterable[float]) -> str:
    """The mean in %, with its 95 % bootstrap interval if there are several seeds; "" without seeds."""
    sample = 100 * np.array(list(values))
    if len(sample) < 2:
        return f"{sample[0]:.1f}" if len(sample) else ""
    means = np.random.default_rng(0).choice(sample, size=(4_000, len(sample))).mean(axis=1)
    return "{:.1f} ({:.1f} to {:.1f})".format(sample.mean(), *np.quantile(means, (0.025, 0.975)))


def _chance(ours: Mapping[int, float], control: Mapping[int, float]) -> str:
    """p of Wilcoxon's test over the seeds that both have; "" if there are fewer than ``FEWEST``."""
    seeds = sorted(ours.keys() & control.keys())
    if len(seeds) < FEWEST:
        return ""
    return f"{paired(-np.array([ours[seed] for seed in seeds]), -np.array([control[seed] for seed in seeds])):.1g}"


def _text(results: Mapping[str, Result]) -> Iterator[str]:
    """A line for the recurrent cells, measured in perplexity on the test text."""
    if ours := accuracies(by_seed(results, TEXT, "results")):
        networks = np.mean([len(result["trainings"]) for result in by_seed(results, TEXT, "results").values()])
        noise = accuracies(by_seed(results, TEXT, TEXTS.control))
        mean, control = np.mean(list(ours.values())), ""
        if noise:
            control = f" ({np.mean(list(noise.values())):.1f} with noise in place of results)"
        yield f"`{TEXT}`, seeds: {len(ours)}, cells trained: {networks:.0f}, test perplexity: {mean:.1f}{control}"


def draw(results: Mapping[str, Result], path: Path) -> None:
    """Plot, for each quarter of the table, the test error of the choice by the cost; dotted lines are the controls."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "nas-table1"
    from matplotlib import pyplot as plt

    groups = list(dict.fromkeys((box.strategy, box.scope) for box in BOXES.values()))
    figure, panels = plt.subplots(2, 2, figsize=(15, 9), sharex=True, sharey=True, layout="constrained")
    for panel, group in zip(panels.flat, groups, strict=True):
        names = [name for name, box in BOXES.items() if (box.strategy, box.scope) == group]
        for color, name in enumerate(names):
            for style, variant in (("-", "results"), (":", BOXES[name].control)):
                if side := by_seed(results, name, variant):
                    label = name if variant == "results" else None
                    panel.plot(GRID / 1000, _errors(side.values()), style, color=f"C{color}", label=label)
        for marker, (variant, rule_label) in zip("o*", RULES.items(), strict=True):
            if rule := by_seed(results, RULE, variant).values():
                cost, accuracy = np.mean([result["trainings"][0][::2] for result in rule], axis=0)
                panel.plot(cost / 1000, 1 - accuracy, marker, color="black", label=rule_label, zorder=3)
        panel.set(title=" of a ".join(group), yscale="log")
        panel.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 0.9], ["2 %", "5 %", "10 %", "20 %", "50 %", "90 %"])
        panel.minorticks_off()
        panel.legend(fontsize="small", edgecolor="none", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.supxlabel("cost: billions of multiply-accumulates")
    figure.supylabel("test error of the choice, mean over the seeds; that of a guess before the first network")
    figure.savefig(path, metadata={"Date": None})


def _errors(side: Iterable[Result]) -> Floats:
    """Test error of the choice at each cost of ``GRID``, mean over searches, shape (cost,)."""
    return 1 - np.array([[choice(result, cost) for cost in GRID] for result in side]).mean(axis=0)


if __name__ == "__main__":
    main()
