"""What systems that train a supernet come to, looked up in the table of NB-digits, and what it cost.

    python -m benchmarks.nas_supernet                    enas, and darts of both orders; 5 seeds; then under bounds
    python -m benchmarks.nas_supernet --systems enas --seeds 20 --bounds none 9234 --keep runs.jsonl

A search comes to a few networks, which are trained from scratch; it ends with the one that then looks best. The place
is that of this network among all that are within the bound by mean validation loss: 0 % is the best, chance comes to
one half. Beside it stands the place of the best of those that were trained, which one training of each does not tell.
Intervals are of 95 %, of the mean over seeds, by the bootstrap; p is how often as many random searches come to a mean
as low. The cost is in images through one network there and back, of which a network of the table takes 3,000: through a
blend of four operations an image counts four times, without the way back a third.

Beside each system stand rules that search nothing (the largest networks within the bound, one operation everywhere),
random search with as many trainings, drawing codes evenly, with the lean that the system begins with, or networks of
the kind that it derives; and what two trainings of one network agree on, which no search can exceed.
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

SCRATCH = 3_000  # images of a training from scratch: ten epochs of 300
HALF = 150  # images of a half of them
BOUNDS = (None, 12_162, 9_234, 6_306)  # parameters: any number; at most four, three, two convolutions


def with_enas(seed: int, bound: int | None) -> tuple[list[Choice], float]:
    """What a search as examples/enas.yaml has it comes to, the best first, and its cost."""
    settings = enas.EnasSettings(max_parameters=bound)
    network = build(space().supernet(), seed=seed, affine=False)
    search = enas.Sharing(network, load_data("digits"), settings, seed=seed)
    for _ in range(settings.epochs):
        search.train_epoch()
    rewards = (settings.epochs - settings.epochs // 3) * settings.updates * settings.children * settings.reward_batch
    return search.derived(), settings.epochs * HALF + (rewards + settings.candidates * HALF) / 3


def with_darts(seed: int, bound: int | None, order: Literal[1, 2]) -> tuple[list[Choice], float]:
    """What a search as examples/darts.yaml has it comes to, and its cost; the bound is of what is derived alone."""
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


def lean(name: str) -> Floats:
    """The chances of each code, shape (code,), by which random search has what the system begins with.

    Of a draw of ``enas`` the share ``weighted`` has weights. ``darts`` leaves "none" aside, but for all edges of a node
    but two.
    """
    if name == "enas":
        weighted = enas.EnasSettings().weighted
        share = np.array([weighted if op == "conv3" else (1 - weighted) / 3 for op in OPERATIONS])
        return np.array([share[list(code)].prod() for code in codes()])
    kept = [sum(token > 0 for token in code[3:]) == 2 and all(code[:3]) for code in codes()]
    return np.array(kept, dtype=float)


def interval(values: Floats) -> str:
    """The mean, and its 95 % interval by the bootstrap."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, size=(4_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.1%} ({low:.1%} to {high:.1%})"


def runs(
    systems: Sequence[str], bounds: Sequence[int | None], seeds: Sequence[int], keep: Path | None
) -> Iterator[dict[str, Any]]:
    """What each search came to; those that a file has are not run again."""
    known = [json.loads(line) for line in keep.read_text().splitlines()] if keep and keep.exists() else []
    names = space().supernet().flat.groups
    for seed, name, bound in itertools.product(seeds, systems, bounds):
        found = next((run for run in known if (run["seed"], run["name"], run["bound"]) == (seed, name, bound)), None)
        if found is None:
            begun = time.process_time()
            choices, cost = SYSTEMS[name](seed, bound)
            codes_ = [[choice[slot] for slot in names] for choice in choices]
            seconds = time.process_time() - begun
            found = {"seed": seed, "name": name, "bound": bound, "codes": codes_, "cost": cost, "seconds": seconds}
            if keep:
                with keep.open("a") as file:
                    file.write(json.dumps(found) + "\n")
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed; settings were chosen on 100 to 109")
    parser.add_argument("--bounds", nargs="+", type=bound_of, default=list(BOUNDS), help="parameters, or none")
    parser.add_argument("--keep", type=Path, help="a file of searches, to go on from")
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table.load(args.table)
    print(f"two trainings, rank correlation of all networks, of the best fifth: {agreement(table)}")
    seeds = range(args.first, args.first + args.seeds)
    done = list(runs(args.systems, args.bounds, seeds, args.keep))
    for bound in args.bounds:
        within = Bounded(table, bound)
        print(f"\nat most {bound or 'any number of'} parameters: {len(within.inside)} networks")
        print("no search: " + ", ".join(f"{rule} {place:.1%}" for rule, place in within.rules()))
        for name in args.systems:
            report(within, name, [run for run in done if (run["name"], run["bound"]) == (name, bound)])


def bound_of(text: str) -> int | None:
    return None if text == "none" else int(text)


def report(within: Bounded, name: str, ours: list[dict[str, Any]]) -> None:
    """What the searches of a system came to within a bound, and random search at that cost."""
    networks = [[within.table.class_of(code) for code in run["codes"]] for run in ours]
    first, chosen = within.place([each[0] for each in networks]), within.place([*map(within.choice, networks)])
    best = within.place([within.best(each) for each in networks])
    trainings = round(np.mean([run["cost"] / SCRATCH + len(run["codes"]) for run in ours]))
    regret = np.mean([within.table.mean_valid_loss[within.choice(each)] for each in networks])
    regret -= within.table.mean_valid_loss[within.inside].min()
    seconds = np.mean([run["seconds"] for run in ours])
    print(
        f"{name}: place {interval(chosen)}, {chosen.min():.1%} to {chosen.max():.1%} by seed, regret {regret:.4f}; "
        f"the best trained {interval(best)}; the first alone {interval(first)}; "
        f"cost of {trainings} trainings, {seconds:.0f} s; {len(ours)} seeds"
    )
    even = np.full(len(within.table.class_of_code), 1.0)
    for what, chances in (("codes", even), ("as the system begins", lean(name))):
        print(f"  random search, {trainings} trainings, {what}:")
        for of, ours_, seen in (("place", chosen, True), ("the best trained", best, False)):
            places = within.random(trainings, chances, seen=seen)
            less = f"the system less that: {interval(ours_ - places.mean())}, p {chance(ours_, places):.2g}"
            print(f"    {of} {places.mean():.1%}; {less}")


def chance(ours: Floats, places: Floats) -> float:
    """How often as many random searches come to a mean as low."""
    means = np.random.default_rng(0).choice(places, size=(20_000, len(ours))).mean(axis=1)
    return float((1 + (means <= ours.mean()).sum()) / (1 + len(means)))


if __name__ == "__main__":
    main()
