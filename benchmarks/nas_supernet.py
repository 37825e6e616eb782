"""What systems that train a supernet come to, looked up in the table of NB-digits, and what it cost.

    python -m benchmarks.nas_supernet                    enas, and darts of both orders; 5 seeds
    python -m benchmarks.nas_supernet --systems enas --seeds 10

The place is that of the derived network among all of the table by its mean validation loss; chance comes to one half.
The cost is in images through one network there and back, of which a network of the table takes 3,000: through a blend
of four operations an image counts four times, without the way back a third.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.nas_table import TABLE, Table, best_of, space
from katib_flow.models.build import build
from katib_flow.nas.relax.shared import blend
from katib_flow.nas.systems import darts, enas
from katib_flow.training.data import load_data

SCRATCH = 3_000  # images of a training from scratch: ten epochs of 300


def with_enas(seed: int) -> tuple[dict[str, int], float]:
    """The decisions of a search as examples/enas.yaml has it, and its cost."""
    settings = enas.EnasSettings()
    network = build(space().supernet(), seed=seed, affine=False)
    search = enas.Sharing(network, load_data("digits"), settings, seed=seed)
    for _ in range(settings.epochs):
        search.train_epoch()
    rewards = (settings.epochs - settings.begins) * settings.updates * settings.children * settings.reward_batch
    return search.derived(), settings.epochs * 150 + (rewards + settings.candidates * 150) / 3


def with_darts(seed: int, order: Literal[1, 2]) -> tuple[dict[str, int], float]:
    """The decisions of a search as examples/darts.yaml has it, and its cost."""
    settings = darts.DartsSettings(epochs=24, batch=32, lr=0.1, alpha_lr=0.02, order=order)
    network = build(space().supernet(), seed=seed, affine=False)
    search = darts.Bilevel(network, load_data("digits"), settings, seed=seed)
    for _ in range(settings.epochs):
        search.train_epoch()
    shares: Any = {group: share.tolist() for group, share in blend(network).items()}
    passes = 2 if order == 1 else 5
    return darts.derived(network.topology, shares, settings.inputs), settings.epochs * passes * 150 * 4.0


def ranking(table: Table, epochs: int, cells: int = 60) -> tuple[float, float]:
    """Rank correlation of the loss with shared weights and the loss in the table: of all cells, of the better half.

    The children that train the weights are drawn evenly: the controller has no updates.
    """
    network = build(space().supernet(), seed=0, affine=False)
    search = enas.Sharing(network, load_data("digits"), enas.EnasSettings(epochs=max(1, epochs), updates=0))
    for _ in range(epochs):
        search.train_epoch()
    rng, names = np.random.default_rng(5), network.flat.groups
    children = [{slot: int(rng.integers(len(names[slot]))) for slot in names} for _ in range(cells)]
    places = [table.position({slot: names[slot][one] for slot, one in child.items()}) for child in children]
    shared, alone = np.array([search.loss(child) for child in children]), table.mean_valid_loss[places]
    better = alone < np.median(alone)
    return spearman(shared, alone), spearman(shared[better], alone[better])


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(spearmanr(one, other).statistic)  # pyright: ignore[reportAttributeAccessIssue]


SYSTEMS: dict[str, Callable[[int], tuple[dict[str, int], float]]] = {
    "enas": with_enas,
    "darts-1": lambda seed: with_darts(seed, 1),
    "darts-2": lambda seed: with_darts(seed, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table.load(args.table)
    for epochs in (0, 120):
        every, better = ranking(table, epochs)
        print(
            f"shared weights after {epochs} epochs rank 60 cells: {every:.2f}; the better half: {better:.2f}",
            flush=True,
        )
    place = np.argsort(np.argsort(table.mean_valid_loss)) / len(table.hashes)
    for name in args.systems:
        found: list[int] = []
        begun, cost = time.process_time(), 0.0
        for seed in range(args.seeds):
            choice, cost = SYSTEMS[name](seed)
            names = space().supernet().flat.groups
            found.append(table.position({slot: names[slot][position] for slot, position in choice.items()}))
        seconds = (time.process_time() - begun) / args.seeds
        regrets, tests = [table.regret(each) for each in found], [table.test_regret(each) for each in found]
        places = ", ".join(f"{each:.1%}" for each in sorted(place[found]))
        print(
            f"{name}: places {places}; mean {place[found].mean():.1%}; regret mean {np.mean(regrets):.4f}; "
            f"test regret mean {np.mean(tests):.4f}; cost of {cost / SCRATCH:.1f} trainings from scratch, "
            f"{seconds:.0f} s of processor time",
            flush=True,
        )
        queries = round(cost / SCRATCH)
        likely = best_of(len(place), queries) @ place[np.argsort(table.valid_loss[:, 0])]
        print(f"random search, {queries} trainings: place {likely:.1%}; regret {table.random_choice(queries):.4f}")


if __name__ == "__main__":
    main()
