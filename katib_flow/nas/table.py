"""The table of systems for architecture search: how a system proposes a network, and what it searches.

Paper: Zhou et al., "Katib: A Distributed General AutoML Platform on Kubernetes", OpML 2019, table 1. A system
*generates* new networks or *modifies* existing ones; it searches a whole *network* or a *cell* that is repeated. Two of
the paper's 20 systems stand in two boxes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from katib_flow.algorithms.registry import Algorithm, Scope, Strategy

PAPER: Mapping[tuple[Strategy, Scope], tuple[str, ...]] = {
    ("generation", "network"): ("NAS-RL", "ENAS", "MnasNet", "NASBOT", "SMASH"),
    ("generation", "cell"): ("NAS-RL", "ENAS", "NASNet", "BlockQNN", "Hierarchical"),
    ("modification", "network"): ("Network Morphism", "ProxylessNAS", "Large-Scale Evolution", "NASH", "EAS"),
    ("modification", "cell"): ("AmoebaNet", "SNAS", "DARTS", "EnvelopeNet", "NAO", "AdaNet", "RENAS"),
}
"""The names of the paper's systems; for a registered system the table shows its registered name."""


@dataclass(frozen=True)
class Box:
    """One of the four boxes of the table.

    Attributes:
        here: the registered systems: those of the paper in its order, then others.
        missing: the systems of the paper that are not registered.
    """

    here: tuple[str, ...]
    missing: tuple[str, ...]


def boxes(registered: Iterable[Algorithm]) -> dict[tuple[Strategy, Scope], Box]:
    """The table, filled with some algorithms by their strategy and scopes."""
    systems = [entry for entry in registered if entry.strategy is not None]
    names = {_letters(name): entry for entry in systems for name in (entry.name, *entry.aliases)}
    filled: dict[tuple[Strategy, Scope], Box] = {}
    for (strategy, scope), paper in PAPER.items():
        inside = {entry.name: entry for entry in systems if entry.strategy == strategy and scope in entry.scope}
        known = {name: names[_letters(name)].name for name in paper if _letters(name) in names}
        of_paper = [name for name in known.values() if name in inside]
        others = [name for name in inside if name not in of_paper]
        missing = tuple(name for name in paper if known.get(name) not in inside)
        filled[strategy, scope] = Box((*of_paper, *others), missing)
    return filled


def rows(registered: Iterable[Algorithm]) -> list[dict[str, str]]:
    """The table for people: one row per strategy, one column per scope, one line per system."""
    filled = boxes(registered)
    titles = {"network": "whole network", "cell": "cell"}
    return [
        {"": strategy} | {titles[scope]: _lines(filled[strategy, scope]) for scope in get_args(Scope)}
        for strategy in get_args(Strategy)
    ]


def caption(registered: Iterable[Algorithm]) -> str:
    """A sentence that says how much of the paper's table is filled."""
    missing = [name for box in boxes(registered).values() for name in box.missing]
    places = [name for names in PAPER.values() for name in names]
    systems, filled = len(set(places)), len(places) - len(missing)
    here = systems - len(set(missing))
    where = f"in {filled} of its {len(places)} places"
    return f"{here} of the {systems} systems in the paper's table are implemented, {where}."


def _lines(box: Box) -> str:
    return "\n".join([*box.here, *(f"({name}: not yet)" for name in box.missing)])


def _letters(name: str) -> str:
    """The letters and digits of a name, in lower case, to compare spellings."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
