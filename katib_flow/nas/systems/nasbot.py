"""Bayesian optimisation with an optimal-transport distance of networks; evolution maximises the acquisition.

Paper: Kandasamy et al., "Neural Architecture Search with Bayesian Optimisation and Optimal Transport", NeurIPS 2018:
section 3 (OTMANN), section 4 (the kernel a exp(-sum b_i d_i) + a' exp(-sum b'_i d'_i^2), d' the normalised distance;
expected improvement, maximised by an evolutionary algorithm with the modifiers; pending networks are assumed to turn
out as expected). The steps of a mutation and the parents' probabilities are those of the authors' code.
Departs from it: the search starts with one initial network and mutants of it, not with ten networks made by hand; there
is one decision layer, and there are separable convolutions instead of residual layers; the hyper-parameters are MAP
estimates; the surrogate is fitted to at most ``memory`` trials. Other parameters are random in each trial.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE
from katib_flow.algorithms.gp import standardised, winsorised
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.algorithms.threads import one_thread
from katib_flow.history import Suggestion
from katib_flow.nas.distances.otmann import Network, distances, network_of, shares
from katib_flow.nas.growth import Array, Candidate, Grown, GrowthSettings, check_start, most_telling
from katib_flow.nas.modifiers import modification
from katib_flow.nas.surrogate import Distances, fitted
from katib_flow.spec.model import Count

STEPS = (0.5, 0.25, 0.125, 0.075, 0.05)  # probabilities of one to five steps of a mutation
Acquisition = Callable[[Sequence[Candidate]], Array]


class NasbotSettings(GrowthSettings):
    """Settings of ``nasbot``."""

    paper: ClassVar = {
        "initial": 10,
        "structure": (0.1, 0.2, 0.4, 0.8),
        "candidates": 500,
        "mutants": 50,
        "max_parameters": 1 << 25,
        "memory": 10_000,
    }
    initial: Count = 6
    """Number of networks before the surrogate is used: the initial one, and mutants of it."""
    structure: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.2, 0.8)
    """nu: weights of the structural cost; each gives a distance in the kernel."""
    candidates: Count = 60
    """Number of networks whose acquisition is computed for a suggestion."""
    mutants: Count = 20
    """Number of networks in a generation of the evolution."""
    memory: Annotated[int, Field(ge=2)] = 128
    """Largest number of trials that the surrogate is fitted to: half of them the best, the others spread in rank."""


@algorithm("nasbot", settings=NasbotSettings, check=check_start, strategy="generation", scope="network", earlier=True)
def nasbot(ask: Ask[NasbotSettings]) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if no mutation gives a new network."""
    with one_thread():
        return list(_suggested(ask))


def _suggested(ask: Ask[NasbotSettings]) -> Iterator[Suggestion]:
    grown, settings = Grown.from_ask(ask), ask.settings
    for index in ask.indices:
        rng = ask.rng(index)
        if index + grown.earlier < settings.initial or not grown.evaluated:
            candidate = grown.first(rng, modification, settings.max_parameters)
        else:
            candidate = _most_promising(grown, settings, rng)
        if candidate is None:
            return
        grown.take(candidate)
        yield candidate.suggestion(index, ask.space.draw(rng), "fresh")


def _most_promising(grown: Grown, settings: NasbotSettings, rng: np.random.Generator) -> Candidate | None:
    seen = most_telling(grown.losses, settings.memory)
    evaluated = [grown.evaluated[at] for at in seen]
    costs = standardised(winsorised(grown.losses[seen]))
    improvement, values = expected_improvement(evaluated, costs, grown.pending, settings)
    return evolved(grown, evaluated, values, improvement, settings, rng)


def expected_improvement(
    evaluated: Sequence[Candidate], costs: Array, pending: Sequence[Candidate], settings: NasbotSettings
) -> tuple[Acquisition, Array]:
    """The expected improvement of networks on the best evaluated one, and its values at the evaluated networks."""
    known = [network_of(candidate.topology) for candidate in (*evaluated, *pending)]

    def apart(others: Sequence[Network]) -> Distances:
        """Distances of the known networks to others: plain ones, and squared normalised ones."""
        plain = distances(known, others, settings.structure)
        return [plain, shares(plain, known, others) ** 2]

    among, lowest = apart(known), float(costs.min())
    surrogate = fitted(among, costs)

    def improvement(candidates: Sequence[Candidate]) -> Array:
        return surrogate.expected_improvement(
            apart([network_of(candidate.topology) for candidate in candidates]), lowest
        )

    evaluated_ones = [group[:, :, : len(evaluated)] for group in among]
    return improvement, surrogate.expected_improvement(evaluated_ones, lowest)


def evolved(
    grown: Grown,
    evaluated: Sequence[Candidate],
    values: Array,
    acquisition: Acquisition,
    settings: NasbotSettings,
    rng: np.random.Generator,
) -> Candidate | None:
    """The new network with the highest acquisition in an evolution from the evaluated ones; None without a new one."""
    pool = list(evaluated)
    hashes = {candidate.topology.hash for candidate in pool}
    for _ in range(PATIENCE):
        z = 2 * (values - values.max()) / (values.std() or 1.0)
        parents = rng.choice(len(pool), settings.mutants, p=np.exp(z) / np.exp(z).sum())
        mutants = grown.new(mutant(pool[parent], settings.max_parameters, rng) for parent in parents)
        if new := [candidate for candidate in mutants if candidate.topology.hash not in hashes]:
            hashes |= {candidate.topology.hash for candidate in new}
            pool, values = [*pool, *new], np.concatenate([values, acquisition(new)])
        if len(pool) >= len(evaluated) + settings.candidates:
            break
    mutated = range(len(evaluated), len(pool))
    return pool[max(mutated, key=lambda at: values[at])] if mutated else None


def mutant(candidate: Candidate, max_parameters: int, rng: np.random.Generator) -> Candidate | None:
    """A network after one to five random modifications; None if no modification fits."""
    stepped = candidate
    for _ in range(1 + int(rng.choice(len(STEPS), p=STEPS))):
        stepped = stepped.edited(modification(stepped.topology, rng), max_parameters) or stepped
    return None if stepped is candidate else stepped
