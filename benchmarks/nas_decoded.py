"""Is a network that NAO decodes better than the one it started from, more often than by chance?

Called by ``benchmarks.nas_claims``, on the table of NB-digits. The control is exact: it is the share of better networks
among all those of the table that differ from the seed in as many decisions and were not tried before. Networks are
compared by their true loss, the mean of three trainings; the search has seen one of them.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from benchmarks.nas_table import Table, codes, space
from benchmarks.nas_worlds import search_trials, worlds
from katib_flow.history import Kind, Suggestion
from katib_flow.spec import Experiment

TRIALS = 100
Tokens = NDArray[np.intp]


def decoded(seeds: int) -> None:
    """Print how often decoded networks are better than their seeds, and others as far away."""
    table, experiment = Table.load(), worlds()["table"].systems["nao"]
    shares = np.array([shares_of_search(table, experiment, seed) for seed in range(seeds)])
    ours, chance = shares.T
    p = float(wilcoxon(ours, chance, alternative="greater").pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    print(
        f"decoded: {ours.mean():.1%} of the decoded networks are better than their seed, and {chance.mean():.1%} of "
        f"the networks at the same distance; the first share is higher in {int((ours > chance).sum())} of {seeds} "
        f"searches, p {p:.1g}",
        flush=True,
    )


def shares_of_search(table: Table, experiment: Experiment, seed: int) -> tuple[float, float]:
    """Run one search; return the share of decoded networks that are better than their seed, and that of the control."""
    algorithm = experiment.algorithm.model_copy(update={"seed": seed})
    trials = itertools.islice(
        search_trials(
            experiment.model_copy(update={"algorithm": algorithm}),
            lambda suggestion, _: {"loss": table.query(suggestion.assignment)},
            "results",
        ),
        TRIALS,
    )
    suggestions: list[Suggestion] = []
    pairs: list[tuple[bool, float]] = []
    for trial in trials:
        suggestion = trial.suggestion
        if suggestion.origin.kind is Kind.MODIFY:
            parent = suggestions[suggestion.origin.parents[0]]
            tried = {table.position(earlier.assignment) for earlier in suggestions}
            pairs.append(compared(table, tokens_of(parent), tokens_of(suggestion), tried))
        suggestions.append(suggestion)
    better, chance = np.array(pairs, dtype=float).mean(axis=0)
    return float(better), float(chance)


def tokens_of(suggestion: Suggestion) -> tuple[int, ...]:
    """The decisions of a suggestion as tokens (``Space.encode``)."""
    return tuple(map(int, space().encode(suggestion.assignment)))


def compared(
    table: Table, seed: Sequence[int], child: Sequence[int], tried: set[int] | frozenset[int]
) -> tuple[bool, float]:
    """Whether a child is better than its seed, and the share of untried networks at the same distance that are."""
    every: Tokens = np.array(list(codes()), dtype=np.intp)
    distance = (every != np.array(seed)).sum(axis=1)
    networks = table.class_of_code[distance == (np.array(child) != np.array(seed)).sum()]
    fresh = networks[~np.isin(networks, list(tried))]
    loss, bound = table.mean_valid_loss, table.mean_valid_loss[table.class_of(seed)]
    return bool(loss[table.class_of(child)] < bound), float((loss[fresh] < bound).mean())
