"""Evolution of motifs within motifs: the best of a tournament is mutated in one entry, at any level; nobody dies.

Paper: Liu et al., "Hierarchical Representations for Efficient Architecture Search", ICLR 2018: section 2 (a genotype is
a matrix of operations for each motif; the entries of a level are the motifs of the level below), section 3.1 (mutation
and initialisation), section 3.2 and Algorithm 1 (tournament selection with 5 % of the population, asynchronous). There
200 genotypes begin, and 7,000 are evaluated.
Departs from it: no network is tried twice, so the operation that a mutation puts in is another one than before. The
fitness is one training, not the mean of four. Parameters beside the architecture are a level of their own.
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
"""level -> motif -> vertex -> the slots of the edges that lead to it from earlier vertices."""


class HierarchicalSettings(SystemSettings):
    paper: ClassVar = {"population": 200}
    population: Annotated[int, Field(ge=1)] = 20
    """Genotypes that begin, each an identity that was mutated."""
    mutations: Annotated[int, Field(ge=1)] = 1000
    """Of the identity, for a genotype that begins."""
    tournament: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of all that were evaluated, drawn without replacement, of which the best is mutated."""


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
    """Fewer than asked for where the space is used up."""
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
    """The motifs of a space by level, from 2: one of level l has entries of level l - 1, operations being level 1.

    Only vertices with an entry, and motifs with a vertex, are listed.
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
    """All slots."""
    return [slot for slots in _vertices(genotype) for slot in slots]


def _vertices(genotype: Levels) -> Iterator[Sequence[str]]:
    """The slots of each vertex of each motif."""
    return (slots for motifs in genotype.values() for vertices in motifs.values() for slots in vertices.values())


def mutated_entry(genotype: Levels, rng: np.random.Generator) -> str:
    """The slot of a mutation: a level, a motif of it, a vertex, and an edge that leads to it, each drawn evenly."""
    motifs = one_of(list(genotype.values()), rng)
    vertices = one_of(list(motifs.values()), rng)
    return one_of(one_of(list(vertices.values()), rng), rng)


def identity_of(space: Space, genotype: Levels) -> dict[str, Value]:
    """The genotype of the identity: every motif a chain of identities, the last edge to a vertex; all else none."""
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
