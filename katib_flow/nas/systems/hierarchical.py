"""Evolution of nested motifs: the best of a tournament is mutated in one entry, at any level; no trial dies.

Paper: Liu et al., "Hierarchical Representations for Efficient Architecture Search", ICLR 2018: section 2 (a genotype is
a matrix of operations for each motif; the entries of a level are the motifs of the level below), section 3.1 (mutation
and initialisation), section 3.2 and Algorithm 1 (tournament selection with 5 % of the population, asynchronous). There
are 200 initial genotypes, and 7,000 evaluations.
Departs from it: no network is tried twice, so a mutation always changes the operation. The fitness comes from one
training, not from the mean of four. Parameters outside the architecture are a level of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE, Known
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Kind, Origin, Suggestion, Trial, Value
from katib_flow.models.space import Space
from katib_flow.nas.growth import one_of
from katib_flow.nas.settings import SystemSettings
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.space import Assignment

Levels = Mapping[int, Mapping[str, Mapping[str, Sequence[str]]]]
"""The slots of the edges from earlier vertices to a vertex, by level, motif and vertex."""


class HierarchicalSettings(SystemSettings):
    """Settings of ``hierarchical``."""

    paper: ClassVar = {"population": 200}
    population: Annotated[int, Field(ge=1)] = 20
    """Number of initial genotypes, which are random mutations of the identity."""
    mutations: Annotated[int, Field(ge=1)] = 1000
    """Number of mutations of an initial genotype."""
    tournament: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of all evaluated trials, drawn without replacement, of which the best is mutated."""


def _check(experiment: Experiment, settings: HierarchicalSettings) -> Iterator[SpecError]:
    need = "a space whose slots are all operations of edges or motifs, such as hierarchical"
    if experiment.architecture is None or (space := architectures(experiment)) is None:
        yield SpecError("architecture", NOTHING, need)
        return
    slots = set(space.parameters)
    if not slots or set(entries(levels(space))) != slots:
        yield SpecError("architecture.space", experiment.architecture.space, need)


@algorithm("hierarchical", settings=HierarchicalSettings, check=_check, strategy="generation", scope="cell")
def hierarchical(ask: Ask[HierarchicalSettings]) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    space = ask.architectures
    assert space is not None
    evaluated, known, genotype = ask.history.completed(ask.objective.metric), Known.from_ask(ask), levels(space)

    def propose(index: int) -> Suggestion | None:
        rng = ask.rng(index)
        if index < ask.settings.population or not evaluated:
            identity = identity_of(space, genotype)
            begun = known.first((_begun(ask, identity, genotype, rng), None) for _ in range(PATIENCE))
            proposal = (begun[0], Origin()) if begun else None
        else:
            proposal = known.first(_mutant(ask, evaluated, genotype, rng) for _ in range(PATIENCE))
        assignment, origin = proposal or (known.drawn(rng), Origin())
        return None if assignment is None else Suggestion(index, assignment, origin=origin)

    return known.suggestions(ask.indices, propose)


def _begun(
    ask: Ask[HierarchicalSettings], identity: Assignment, genotype: Levels, rng: np.random.Generator
) -> Assignment:
    others = {name: value for name, value in ask.space.draw(rng).items() if name not in identity}
    assignment: Assignment = {**others, **identity}
    for _ in range(ask.settings.mutations):
        assignment = ask.space.mutate(assignment, rng, mutated_entry(genotype, rng))
    return assignment


def _mutant(
    ask: Ask[HierarchicalSettings], evaluated: Sequence[Trial], genotype: Levels, rng: np.random.Generator
) -> tuple[Assignment, Origin]:
    """A mutant of the best of a tournament (Algorithm 1)."""
    size = max(1, round(ask.settings.tournament * len(evaluated)))
    rivals = [evaluated[position] for position in rng.choice(len(evaluated), size, replace=False)]
    parent = min(rivals, key=ask.loss)
    others = [name for name in parent.assignment if name not in set(entries(genotype))]
    level = int(rng.integers(len(genotype) + bool(others)))
    entry = others[int(rng.integers(len(others)))] if level == len(genotype) else mutated_entry(genotype, rng)
    return ask.space.mutate(parent.assignment, rng, entry), Origin(Kind.MODIFY, (parent.index,))


def levels(space: Space) -> Levels:
    """The motifs of a space by level, from 2; the entries of level l are of level l - 1, and operations are level 1.

    Vertices without entries, and motifs without vertices, are left out.
    """
    motifs: dict[str, dict[str, list[str]]] = {}
    for name, graph in space.template["graphs"].items():
        for edge in graph.get("edges", ()):
            if isinstance(edge.get("op"), Mapping) and not edge.get("when"):
                motifs.setdefault(name, {}).setdefault(edge["dst"], []).append(edge["op"]["slot"])

    values = {
        f"@{name}": {
            str(value) for slots in vertices.values() for slot in slots for value in space.parameters[slot].values()
        }
        for name, vertices in motifs.items()
    }

    def level(value: str) -> int:
        return 1 + max(map(level, values.get(value, ())), default=0)

    by_level: dict[int, dict[str, Any]] = {}
    for name, vertices in motifs.items():
        by_level.setdefault(level(f"@{name}"), {})[name] = vertices
    return by_level


def entries(genotype: Levels) -> list[str]:
    """All slots of a genotype."""
    return [slot for slots in _vertices(genotype) for slot in slots]


def _vertices(genotype: Levels) -> Iterator[Sequence[str]]:
    """The slots of each vertex of each motif."""
    return (slots for motifs in genotype.values() for vertices in motifs.values() for slots in vertices.values())


def mutated_entry(genotype: Levels, rng: np.random.Generator) -> str:
    """A random slot to mutate: a level, a motif of it, a vertex, and an edge to it, each drawn uniformly."""
    motifs = one_of(list(genotype.values()), rng)
    vertices = one_of(list(motifs.values()), rng)
    return one_of(one_of(list(vertices.values()), rng), rng)


def identity_of(space: Space, genotype: Levels) -> dict[str, Value]:
    """The genotype of the identity: the last edge to every vertex is an identity, the others are "none"."""
    decisions: dict[str, Value] = {}
    for slots in _vertices(genotype):
        for slot in slots:
            values = list(space.parameters[slot].values())
            passes = next((value for value in values if _passes(value)), values[-1])
            nothing = next((value for value in values if _gives_nothing(value)), values[0])
            decisions[slot] = passes if slot == slots[-1] else nothing
    return decisions


def _passes(value: Value) -> bool:
    return value in ("skip", "identity") or (str(value).startswith("@") and not _gives_nothing(value))


def _gives_nothing(value: Value) -> bool:
    return str(value).removeprefix("@") in ("none", "zeros")
