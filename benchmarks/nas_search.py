"""Systems that search architectures, on the table of NB-digits, against random search.

    python -m benchmarks.nas_search                              amoebanet, nas-rl; 100 seeds, 50 and 100 queries
    python -m benchmarks.nas_search --systems tpe --seeds 20

A query is a network that was not asked about before; a cell that is the same network costs nothing, and gives the same
answer. What is seen is the validation loss of one seed. Three measures, lower is better:

- search regret: of the best network asked about, its mean validation loss above the lowest there is;
- of the choice: the same of the network that looked best. Among the hundred best networks the seed moves a loss by .017
  and the network itself by .007, so this is mostly luck, and no search can do much about it;
- test: of the choice, on images that no search has seen.

Random search draws networks evenly, not cells: cells that do little are many, and stand for few networks, so that
drawing cells, which is what systems begin with, is worse. Its expected regrets are exact; pairs by seed, for Wilcoxon's
test, are with simulated ones. Networks that need no search (one operation everywhere) and what two trainings of a
network agree on, which no search can exceed, are printed first.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from benchmarks.nas_table import ARCHITECTURE, TABLE, Bounded, Table, agreement
from katib_flow.algorithms.registry import Ask, find_algorithm
from katib_flow.history import History, Learnt, State, Trial
from katib_flow.spec.experiment import Experiment

PATIENCE = 20  # suggestions a query, before a search that finds nothing new has ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["amoebanet", "nas-rl"])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--queries", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    table = Table.load(args.table)
    networks, trainings = table.valid_loss.shape
    print(f"{networks} networks, {trainings} trainings of each; {args.seeds} seeds; regret in validation loss")
    print(f"two trainings, rank correlation of all networks, of the best fifth: {agreement(table)}")
    everything = Bounded(table, None)
    rules = ", ".join(f"{rule} {table.regret(number):.4f}" for rule, number in everything.simple())
    print(f"regret without a search: {rules}")
    for queries in args.queries:
        drawn = everything.random(queries, np.ones(len(table.class_of_code)))
        print(f"random search over cells, {queries} queries: the choice is at place {drawn.mean():.1%}")
        exact = f"search {table.random_search(queries):.4f}, of the choice {table.random_choice(queries):.4f}"
        print(f"random search, {queries} queries: regret {exact}, exactly")
    simulated = [list(random_search(table, seed)) for seed in range(args.seeds)]
    for name in args.systems:
        begun = time.process_time()
        asked = [list(search(table, name, seed, max(args.queries))) for seed in range(args.seeds)]
        seconds = (time.process_time() - begun) / args.seeds
        for queries in args.queries:
            print(row(table, name, asked, simulated, queries), flush=True)
        print(f"{name}: {seconds:.2f} s of processor time a search", flush=True)


def search(table: Table, name: str, seed: int, queries: int) -> Iterator[int]:
    """The networks that a system asks about, in order, each once."""
    experiment = Experiment.parse(
        {
            "name": "nas-search",
            "objective": {"metric": "loss", "direction": "minimize"},
            "architecture": ARCHITECTURE,
            "algorithm": {"name": name, "seed": seed},
            "limits": {"max_trials": PATIENCE * queries},
            "trial": {"function": "katib_flow.training:classify"},
        }
    )
    algorithm = find_algorithm(name)
    assert algorithm is not None, name
    settings = algorithm.settings_of(experiment)
    trials: list[Trial] = []
    known: set[int] = set()
    kept: tuple[Learnt, ...] = ()
    for index in range(PATIENCE * queries):
        ask = Ask(experiment, History(tuple(trials)), range(index, index + 1), settings)
        answer = algorithm.answer(ask, kept)
        kept = (answer.learnt,) if answer.learnt else kept
        for suggestion in answer.suggestions:
            network = table.position(suggestion.assignment)
            trials.append(Trial(suggestion, State.SUCCEEDED, {"loss": table.query(suggestion.assignment)}))
            if network not in known:
                known.add(network)
                yield network
        if len(known) == queries:
            return


def random_search(table: Table, seed: int) -> Iterator[int]:
    yield from np.random.default_rng(seed).permutation(len(table.hashes)).tolist()


def row(table: Table, name: str, asked: list[list[int]], simulated: list[list[int]], queries: int) -> str:
    """What a system comes to after so many queries, as a line."""
    loss, test = table.mean_valid_loss, table.mean_test_loss
    columns: list[str] = []
    for what, losses, chooses in (
        ("search", loss, loss),
        ("choice", loss, table.valid_loss[:, 0]),
        ("test", test, table.valid_loss[:, 0]),
    ):
        ours, theirs = (
            np.array([losses[min(one[:queries], key=chooses.__getitem__)] for one in several]) - losses.min()
            for several in (asked, simulated)
        )
        columns.append(f"{what} {ours.mean():.4f} (random {theirs.mean():.4f}, p {paired(ours, theirs):.1g})")
    top = max(1, len(table.hashes) // 100)
    best = set(np.argsort(loss)[:top].tolist())
    hits = np.mean([bool(best & set(one[:queries])) for one in asked])
    return f"{name:>12} {queries:4d} queries: regret {'; '.join(columns)}; met one of the best {top}: {hits:.0%}"


def paired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Wilcoxon's p that ours are no lower, seed by seed; 1 where all are equal."""
    if np.allclose(ours, theirs):
        return 1.0
    return float(wilcoxon(ours, theirs, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    main()
