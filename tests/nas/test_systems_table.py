"""The table of systems: what is registered fills its boxes, and what is left of the paper's is missing."""

from typing import Any

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
    assert caption(systems) == "1 of the 20 systems of the paper are here, in 2 of its 22 places."
