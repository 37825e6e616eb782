"""GJSON paths: those of its own documentation, and those of Katib's examples."""

from typing import Any

import pytest

from katib_flow.argo.gjson import MISSING, BadPath, check, find, met

# The document and the answers of https://github.com/tidwall/gjson/blob/master/SYNTAX.md
DOCUMENT = {
    "name": {"first": "Tom", "last": "Anderson"},
    "age": 37,
    "children": ["Sara", "Alex", "Jack"],
    "fav.movie": "Deer Hunter",
    "friends": [
        {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"]},
        {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
        {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
    ],
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name.last", "Anderson"),
        ("name.first", "Tom"),
        ("age", 37),
        ("children", ["Sara", "Alex", "Jack"]),
        ("children.0", "Sara"),
        ("children.1", "Alex"),
        ("friends.1", DOCUMENT["friends"][1]),  # type: ignore[index]
        ("friends.1.first", "Roger"),
        ("child*.2", "Jack"),
        ("c?ildren.0", "Sara"),
        (r"fav\.movie", "Deer Hunter"),
        ("friends.#", 3),
        ("friends.#.age", [44, 68, 47]),
        ('friends.#(last=="Murphy").first', "Dale"),
        ('friends.#(last=="Murphy")#.first', ["Dale", "Jane"]),
        ("friends.#(age>45)#.last", ["Craig", "Murphy"]),
        ('friends.#(first%"D*").last', "Murphy"),
        ('friends.#(first!%"D*").last', "Craig"),
        ('friends.#(nets.#(=="fb"))#.first', ["Dale", "Roger"]),
        ("friends.0.first", "Dale"),
        ("friends|0.first", "Dale"),
        ("friends.0|first", "Dale"),
        ("friends|#", 3),
        ("friends.#(last=\"Murphy\")#|0.first", "Dale"),
        ("friends.#(last=\"Murphy\")#.0", []),
        ("name.middle", MISSING),
        ("children.9", MISSING),
        ("age.x", MISSING),
    ],
)  # fmt: skip
def test_a_path_finds_what_the_documentation_says(path: str, expected: Any) -> None:
    check(path)
    assert find(DOCUMENT, path) == expected if expected is not MISSING else find(DOCUMENT, path) is MISSING


def conditions(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": type_, "status": status, "reason": "R"} for type_, status in pairs]}}


@pytest.mark.parametrize(
    ("data", "path", "is_met"),
    [
        (conditions(("Complete", "True")), 'status.conditions.#(type=="Complete")#|#(status=="True")#', True),
        (conditions(("Complete", "False")), 'status.conditions.#(type=="Complete")#|#(status=="True")#', False),
        (
            conditions(("Created", "True"), ("Succeeded", "False"), ("Succeeded", "True")),
            'status.conditions.#(type=="Succeeded")#|#(status=="True")#',
            True,
        ),
        (conditions(), 'status.conditions.#(type=="Complete")#|#(status=="True")#', False),
        ({}, 'status.conditions.#(type=="Complete")#|#(status=="True")#', False),
        ({"status": {"phase": "Succeeded"}}, 'status.[@this].#(phase=="Succeeded")#', True),
        ({"status": {"phase": "Running"}}, 'status.[@this].#(phase=="Succeeded")#', False),
        ({"status": {"succeeded": 1}}, "status.succeeded", True),
        ({"status": {"succeeded": 0}}, "status.succeeded", False),
    ],
)
def test_a_condition_is_met_where_what_it_finds_is_there(data: Any, path: str, is_met: bool) -> None:
    check(path)
    assert (met(data, path) is not None) is is_met


def test_a_condition_tells_the_object_that_met_it() -> None:
    found = met(conditions(("Failed", "True")), 'status.conditions.#(type=="Failed")#|#(status=="True")#')
    assert found == {"type": "Failed", "status": "True", "reason": "R"}


@pytest.mark.parametrize(
    "path", ["", "status.#(a==1", 'a.#(b=="c)', "{a,b}", "a|@reverse", "!true", "a.#(b==~true)#", "status.[a"]
)
def test_what_is_not_known_is_refused_before_anything_runs(path: str) -> None:
    with pytest.raises(BadPath):
        check(path)
