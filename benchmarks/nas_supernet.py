"""Look up in the table of NB-digits the networks that systems with a supernet derive, and print the cost.

    python -m benchmarks.nas_supernet                    enas, and darts of both orders; 5 seeds; all bounds
    python -m benchmarks.nas_supernet --systems enas --seeds 20 --bounds none 9234 --keep runs.jsonl

A search derives a few networks, which are trained from scratch; it chooses the one that then looks best. Its rank is
the share of networks within the bound whose mean validation loss is lower: 0 % is the best, and a random network has
one half in the mean. The rank of the best trained network is printed, too; one training of each does not identify it.
Intervals are 95 % bootstrap intervals for the mean over seeds. p is the frequency with which as many random searches
reach a mean as low. The cost is counted in images that pass one network forwards and backwards, of which a network of
the table takes 3,000. An image that passes a blend of four operations counts four times, and one without the backward
pass counts a third.

Each system is compared with rules that search nothing (the largest networks within the bound, one operation on every
edge), and with random search with as many trainings, which draws codes uniformly or with the initial bias of the
system. The agreement of two trainings of one network is printed first; no search can exceed it.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.nas_table import OPERATIONS, TABLE, Bounded, Floats, Table, agreement, codes, space
from katib_flow.models.build import build
from katib_flow.nas.relax.chain import normalised
from katib_flow.nas.relax.choice import Bounds, Choice
from katib_flow.nas.systems import darts, enas
from katib_flow.training.data import load_data

SCRATCH = 3_000  # images per training from scratch: ten epochs of 300
HALF = 150  # images in half of the training set
BOUNDS = (None, 12_162, 9_234, 6_306)  # parameters: no bound; at most four, three, two convolutions


def with_enas(seed: int, bound: int | None) -> tuple[list[Choice], float]:
    """Search as examples/enas.yaml does; return the derived networks, the best first, and the cost."""
    settings = enas.EnasSettings(max_parameters=bound)
    network = build(space().supernet(), seed=seed, affine=False)
    search = enas.Sharing(network, load_data("digits"), settings, seed=seed)
    for _ in range(settings.epochs):
        search.train_epoch()
    rewards = (settings.epochs - settings.epochs // 3) * settings.updates * settings.children * settings.reward_batch
    return search.derived(), settings.epochs * HALF + (rewards + settings.candidates * HALF) / 3


def with_darts(seed: int, bound: int | None, order: Literal[1, 2]) -> tuple[list[Choice], float]:
    """Search as examples/darts.yaml does, but for 8 epochs; return the derived networks and the cost.

    The bound applies only to the derived networks, not to the search.
    """
    search = _darts(seed, order)
    search.bounds = Bounds(search.network.topology, bound)
    return search.derived(), search.settings.epochs * (2 if order == 1 else 5) * HALF * 4.0


@lru_cache(maxsize=1)
def _darts(seed: int, order: Literal[1, 2]) -> darts.Bilevel:
    settings = darts.DartsSettings(epochs=8, batch=32, lr=0.1, alpha_lr=0.02, order=order)
    network = build(normalised(space().supernet()), seed=seed, affine=False)
    search = darts.Bilevel(network, load_data("digits"), settings, seed=seed)
    for _ in range(settings.epochs):
        search.train_epoch()
    return search


SYSTEMS: dict[str, Callable[[int, int | None], tuple[list[Choice], float]]] = {
    "enas": with_enas,
    "darts-1": lambda seed, bound: with_darts(seed, bound, 1),
    "darts-2": lambda seed, bound: with_darts(seed, bound, 2),
}


def bias_of(name: str) -> Floats:
    """Relative probability of each code, shape (code,), that gives random search the initial bias of a system.

    With ``enas``, the share ``weighted`` of the operations has weights. With ``darts``, a node has two inputs, and its
    other edges are "none".
    """
    if name == "enas":
        weighted = enas.EnasSettings().weighted
        share = np.array([weighted if op == "conv3" else (1 - weighted) / 3 for op in OPERATIONS])
        return np.array([share[list(code)].prod() for code in codes()])
    kept = [sum(token > 0 for token in code[3:]) == 2 and all(code[:3]) for code in codes()]
    return np.array(kept, dtype=float)


def interval(values: Floats) -> str:
    """The mean, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, size=(4_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.1%} ({low:.1%} to {high:.1%})"


def runs(
    systems: Sequence[str], bounds: Sequence[int | None], seeds: Sequence[int], keep: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield the results of each search; those in the file ``keep`` are not run again."""
    known = [json.loads(line) for line in keep.read_text().splitlines()] if keep and keep.exists() else []
    names = space().supernet().flat.groups
    for seed, name, bound in itertools.product(seeds, systems, bounds):
        result = next((run for run in known if (run["seed"], run["name"], run["bound"]) == (seed, name, bound)), None)
        if result is None:
            begun = time.process_time()
            choices, cost = SYSTEMS[name](seed, bound)
            codes_ = [[choice[slot] for slot in names] for choice in choices]
            seconds = time.process_time() - begun
            result = {"seed": seed, "name": name, "bound": bound, "codes": codes_, "cost": cost, "seconds": seconds}
            if keep:
                with keep.open("a") as file:
                    file.write(json.dumps(result) + "\n")
        yield result


def main() -> None:
    """Run the searches, then print a report for each bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed; the settings of the examples were chosen on 100 to 109"
    )
    parser.add_argument(
        "--bounds", nargs="+", type=bound_of, default=list(BOUNDS), help="the most parameters of a network, or none"
    )
    parser.add_argument("--keep", type=Path, help="a file of results, which is continued")
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table.load(args.table)
    print(f"rank correlation of two trainings, over all networks and over the best fifth: {agreement(table)}")
    seeds = range(args.first, args.first + args.seeds)
    done = list(runs(args.systems, args.bounds, seeds, args.keep))
    for bound in args.bounds:
        within = Bounded(table, bound)
        print(f"\n{f'at most {bound} parameters' if bound else 'no bound'}: {len(within.inside)} networks")
        print("no search: " + ", ".join(f"{rule} {rank:.1%}" for rule, rank in within.rules()))
        for name in args.systems:
            report(within, name, [run for run in done if (run["name"], run["bound"]) == (name, bound)])


def bound_of(text: str) -> int | None:
    """A bound as a word of the command line: a number, or "none"."""
    return None if text == "none" else int(text)


def report(within: Bounded, name: str, ours: list[dict[str, Any]]) -> None:
    """Print the ranks that the searches of a system reach within a bound, and those of random search at that cost."""
    networks = [[within.table.class_of(code) for code in run["codes"]] for run in ours]
    first, chosen = within.rank([derived[0] for derived in networks]), within.rank([*map(within.choice, networks)])
    best = within.rank([within.best(derived) for derived in networks])
    trainings = round(np.mean([run["cost"] / SCRATCH + len(run["codes"]) for run in ours]))
    regret = np.mean([within.table.mean_valid_loss[within.choice(derived)] for derived in networks])
    regret -= within.table.mean_valid_loss[within.inside].min()
    seconds = np.mean([run["seconds"] for run in ours])
    print(
        f"{name}: rank {interval(chosen)}, {chosen.min():.1%} to {chosen.max():.1%} by seed, regret {regret:.4f}; "
        f"the best trained {interval(best)}; the first derived {interval(first)}; "
        f"cost of {trainings} trainings, {seconds:.0f} s; {len(ours)} seeds"
    )
    even = np.full(len(within.table.class_of_code), 1.0)
    for bias, chances in (("drawn uniformly", even), ("with the initial bias of the system", bias_of(name))):
        print(f"  random search, {trainings} trainings, {bias}:")
        for measure, ours_, seen in (("rank", chosen, True), ("the best trained", best, False)):
            ranks = within.random(trainings, chances, seen=seen)
            difference = f"the system minus that: {interval(ours_ - ranks.mean())}, p {chance(ours_, ranks):.2g}"
            print(f"    {measure} {ranks.mean():.1%}; {difference}")


def chance(ours: Floats, ranks: Floats) -> float:
    """p: the frequency with which as many random searches reach a mean rank as low."""
    means = np.random.default_rng(0).choice(ranks, size=(20_000, len(ours))).mean(axis=1)
    return float((1 + (means <= ours.mean()).sum()) / (1 + len(means)))


if __name__ == "__main__":
    main()
