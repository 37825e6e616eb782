"""Measure the worth of NASBOT's distance: Bayesian optimisation on the table of NB-digits, with and without it.

Called by ``benchmarks.nas_claims``. The surrogate and the acquisition function are those of ``nasbot``. Since all
networks of the table are known, the acquisition is maximised over all of them, so that nothing depends on how networks
are proposed. The control has the same distances with the networks renamed: an equally valid kernel without information.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from benchmarks.nas_table import Floats, Table, codes, space
from katib_flow.algorithms.gp import standardised, winsorised
from katib_flow.nas.distances.otmann import distances, network_of, shares
from katib_flow.nas.surrogate import Distances, fitted
from katib_flow.nas.systems.nasbot import NasbotSettings

FIRST, QUERIES = 6, (30, 60)
Positions = NDArray[np.intp]


def kernel(seeds: int) -> None:
    """Print the search regret with the distances as they are, with the networks renamed, and of random search."""
    table = Table.load()
    apart = table_distances(table)
    regrets = np.empty((2, seeds, len(QUERIES)))
    for seed in range(seeds):
        names = np.random.default_rng((seed, 1)).permutation(len(table.hashes))
        for control, order in enumerate((np.arange(len(names)), names)):
            queried = search(table, [group[:, order][:, :, order] for group in apart], seed)
            regrets[control, seed] = [min(map(table.regret, queried[:count])) for count in QUERIES]
    for at, count in enumerate(QUERIES):
        ours, renamed = regrets[:, :, at]
        chance = float(wilcoxon(ours, renamed, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]
        print(
            f"kernel: after {count} queries, search regret {ours.mean():.4f} by OTMANN, {renamed.mean():.4f} with the "
            f"networks renamed (lower in {int((ours < renamed).sum())} of {seeds} seeds, p {chance:.1g}); random "
            f"search {table.random_search(count):.4f}",
            flush=True,
        )


def table_distances(table: Table) -> Distances:
    """Both distances of ``nasbot`` between all networks of the table: by mass, and by the share of it, squared."""
    first_codes = {int(number): code for code, number in reversed([*zip(codes(), table.class_of_code, strict=True)])}
    space_ = space()
    networks = [network_of(space_.topology(space_.decode(first_codes[number]))) for number in range(len(table.hashes))]
    plain = distances(networks, networks, NasbotSettings().structure)
    return [plain, shares(plain, networks, networks) ** 2]


def search(table: Table, apart: Distances, seed: int) -> list[int]:
    """The queried networks in order: some drawn uniformly, then those with the highest acquisition."""
    drawn = np.random.default_rng(seed).permutation(len(table.hashes))
    queried = [int(number) for number in drawn[:FIRST]]
    while len(queried) < max(QUERIES):
        queried.append(most_promising(apart, queried, table.valid_loss[queried, 0]))
    return queried


def most_promising(apart: Distances, queried: list[int], losses: Floats) -> int:
    """The network with the highest expected improvement that was not queried yet."""
    costs = standardised(winsorised(losses))
    surrogate = fitted([group[:, queried][:, :, queried] for group in apart], costs)
    improvement = surrogate.expected_improvement([group[:, queried] for group in apart], float(costs.min()))
    improvement[queried] = -np.inf
    return int(improvement.argmax())
