"""The table of systems: what is registered fills its boxes, and what is left of the paper's is missing."""

from typing import Any

import pytest

from katib_flow.algorithms import find_algorithm
from katib_flow.algorithms.registry import Algorithm
from katib_flow.nas.table import PAPER, boxes, caption, rows
from katib_flow.plugins import Settings


def system(name: str, strategy: Any, *scope: Any, aliases: tuple[str, ...] = ()) -> Algorithm:
    return Algorithm(name, lambda ask: [], Settings, strategy=strategy, scope=scope, aliases=aliases)


def test_the_papers_table_has_22_places_of_20_systems() -> None:
    places = [name for names in PAPER.values() for name in names]
    assert (len(places), len(set(places))) == (22, 20)
    assert sorted(name for name in set(places) if places.count(name) == 2) == ["ENAS", "NAS-RL"]


def test_what_registers_is_no_longer_missing_whatever_else_stands_in_its_box() -> None:
    systems = [system("smash", "generation", "network"), system("tree-search", "generation", "network")]
    box = boxes(systems)["generation", "network"]
    assert box.here == ("smash", "tree-search")
    assert box.missing == ("NAS-RL", "ENAS", "MnasNet", "NASBOT")


def test_one_that_stands_in_two_boxes_fills_those_that_it_says() -> None:
    one = boxes([system("nas-rl", "generation", "cell")])
    assert one["generation", "cell"].here == ("nas-rl",)
    assert "NAS-RL" in one["generation", "network"].missing
    both = boxes([system("nas-rl", "generation", "network", "cell")])
    assert all("NAS-RL" not in box.missing for box in both.values())


def test_names_are_known_however_they_are_written_and_by_their_aliases() -> None:
    for name, aliases in [("large-scale-evolution", ()), ("evolution", ("largescale-evolution",))]:
        box = boxes([system(name, "modification", "network", aliases=aliases)])["modification", "network"]
        assert box.here == (name,)
        assert "Large-Scale Evolution" not in box.missing


def test_in_another_box_than_the_papers_it_is_there_and_missing_here() -> None:
    filled = boxes([system("darts", "generation", "network")])
    assert filled["generation", "network"].here == ("darts",)
    assert "DARTS" in filled["modification", "cell"].missing


def test_other_algorithms_stand_nowhere() -> None:
    assert boxes([Algorithm("enas", lambda ask: [], Settings)]) == boxes([])


def test_a_person_sees_a_line_a_system_and_how_many_there_are() -> None:
    systems = [system("enas", "generation", "network", "cell")]
    generation, modification = rows(systems)
    assert generation["whole network"].splitlines()[:2] == ["enas", "(NAS-RL: not yet)"]
    assert modification["cell"].count("not yet") == 7
    assert caption(systems) == "1 of the 20 systems in the paper's table are implemented, in 2 of its 22 places."


GENERATION, MODIFICATION = "generation", "modification"
PLACES: dict[str, tuple[str, set[str]]] = {
    "nas-rl": (GENERATION, {"network", "cell"}),
    "enas": (GENERATION, {"network", "cell"}),
    "mnasnet": (GENERATION, {"network"}),
    "nasbot": (GENERATION, {"network"}),
    "smash": (GENERATION, {"network"}),
    "nasnet": (GENERATION, {"cell"}),
    "blockqnn": (GENERATION, {"cell"}),
    "hierarchical": (GENERATION, {"cell"}),
    "network-morphism": (MODIFICATION, {"network"}),
    "proxylessnas": (MODIFICATION, {"network"}),
    "large-scale-evolution": (MODIFICATION, {"network"}),
    "nash": (MODIFICATION, {"network"}),
    "eas": (MODIFICATION, {"network"}),
    "amoebanet": (MODIFICATION, {"cell"}),
    "snas": (MODIFICATION, {"cell"}),
    "darts": (MODIFICATION, {"cell"}),
    "envelopenet": (MODIFICATION, {"cell"}),
    "nao": (MODIFICATION, {"cell"}),
    "adanet": (MODIFICATION, {"cell"}),
    "renas": (MODIFICATION, {"cell"}),
}
"""Table 1 of the paper of Katib."""
NEED_TORCH = {"nas-rl", "mnasnet", "nasnet", "eas", "nao", "renas"}
"""To suggest: a controller, or a model that others learn."""
END = {"adanet", "darts", "enas", "envelopenet", "nash", "proxylessnas", "smash", "snas"}
"""By themselves."""
ALIASES = {"amoebanet": ("regularized-evolution",), "network-morphism": ("auto-keras",)}


@pytest.mark.parametrize("name", PLACES)
def test_a_system_is_registered_where_the_paper_has_it_with_what_it_needs(name: str) -> None:
    entry = find_algorithm(name)
    assert entry is not None
    assert (entry.name, (entry.strategy, set(entry.scope))) == (name, PLACES[name])
    assert entry.extra == ("nas" if name in NEED_TORCH else None)
    assert entry.ends == (name in END)
    assert entry.several == (name == "mnasnet")  # objectives
    assert entry.aliases == ALIASES.get(name, ())
    for alias in entry.aliases:
        assert find_algorithm(alias) is entry
