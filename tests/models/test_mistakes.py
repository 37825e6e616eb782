"""A misspelt word in any place of a space is refused, by its path, before anything runs."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from test_space import SETTINGS, TEMPLATE

from katib_flow.errors import InvalidSpec
from katib_flow.models.presets import presets, space_of
from katib_flow.spec.sections import Architecture

NESTED: dict[str, Any] = {  # a space with everything that a template may have
    "schema": "topology/1",
    "input": {"shape": [1, 8, 8]},
    "output": {"classes": 10},
    "root": "net",
    "weights": "fresh",
    "slots": {
        "op": {"among": ["conv", "sep", "wide"]},
        "k": {"among": [3, 5], "when": {"op": ["conv", "sep"]}},
        "order": {"among": ["relu-conv-bn", "conv-bn-relu"], "when": {"op": ["conv"]}},
        "merge": {"among": ["add", "mean"]},
        "source": {"among": ["a", "b"]},
        "motif": {"among": ["@cell", "@chain"]},
        "deep": {"type": "categorical", "values": ["yes", "no"]},
    },
    "operations": {"wide": {"op": "conv", "params": {"k": 7, "order": "conv-bn"}}},
    "graphs": {
        "net": {
            "vertices": {"a": "add", "b": {"slot": "merge"}, "c": "add", "d": "add", "y": "add"},
            "edges": [
                {"id": "stem", "src": "x", "dst": "a", "op": "conv", "params": {"c": 8}},
                {"id": "1", "src": "a", "dst": "b", "op": {"slot": "op"},
                 "params": {"k": {"slot": "k"}, "order": {"slot": "order"}}},
                {"id": "2", "src": "a", "dst": "b", "op": "skip", "when": {"deep": ["yes"]}},
                {"id": "3", "src": {"slot": "source"}, "dst": "c", "op": {"slot": "motif"}, "params": {"c": 4}},
                {"id": "4", "src": ["c", "b"], "dst": "d", "op": "@pair"},
                {"id": "head", "src": "d", "dst": "y", "op": "head", "params": {"classes": 10}},
            ],
        },
        "cell": {
            "inputs": ["0"], "output": "2", "vertices": {"1": "concat", "2": "add"},
            "edges": [
                {"id": "a", "src": "0", "dst": "1", "op": "conv3", "params": {"c": "$c"}},
                {"id": "b", "src": "0", "dst": "1", "op": "max3"},
                {"id": "c", "src": "1", "dst": "2", "op": "conv1", "params": {"c": "$c"}},
            ],
        },
        "chain": {
            "inputs": ["0"], "output": "1", "vertices": {"1": "add"},
            "edges": [{"id": "a", "src": "0", "dst": "1", "op": "sep3", "params": {"c": "$c"}}],
        },
        "pair": {
            "inputs": ["p", "q"], "output": "y", "loose": ["r", "s"],
            "vertices": {"r": "add", "s": "add", "y": "concat"},
            "edges": [
                {"id": "a", "src": "p", "dst": "r", "op": "conv3"},
                {"id": "b", "src": "q", "dst": "s", "op": "skip"},
            ],
        },
    },
}  # fmt: skip
FREE = ("id", "name")  # words that name nothing which is there


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a word stands: the path of a value, or that of a key with ``None`` behind it."""
    if isinstance(data, dict):
        for key, inner in data.items():
            yield (*path, key, None)
            if key not in FREE:
                yield from places(inner, (*path, key))
    elif isinstance(data, list):
        for position, inner in enumerate(data):
            yield from places(inner, (*path, position))
    elif isinstance(data, str):
        yield path


def misspelt(data: Any, path: tuple[Any, ...]) -> Any:
    made = copy.deepcopy(data)
    here = made
    *inner, last = [part for part in path if part is not None]
    for part in inner:
        here = here[part]
    if path[-1] is not None:
        here[last] = wrong(here[last])
        return made
    items = list(here.items())  # in the order in which they stood
    here.clear()
    here.update({wrong(key) if key == last else key: value for key, value in items})
    return made


def wrong(word: str) -> str:
    return f"{word}z"


def text(path: tuple[Any, ...]) -> str:
    written = ""
    for part in path:
        written += f"[{part}]" if isinstance(part, int) else f".{part}" if written else part
    return written


def refused(architecture: Any) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as told:
        space_of(Architecture.model_validate(architecture))
    return told.value


def test_the_space_of_these_tests_is_sound() -> None:
    space_of(Architecture(space=NESTED))


@pytest.mark.parametrize("template", [NESTED, TEMPLATE], ids=["nested", "own"])
def test_a_misspelt_word_in_any_place_of_a_space_is_refused_by_its_path(template: dict[str, Any]) -> None:
    checked = 0
    for path in places(template):
        if path == ("slots", "deep", "values", 1):
            continue  # a word of its own, which nothing refers to
        told = refused({"space": misspelt(template, path)})
        wheres = [problem.where for problem in told.problems]
        assert all(where.startswith("architecture.space.") for where in wheres), path
        if path == ("slots", "deep", "values", 0) or path[-2:] == ("deep", "type"):
            assert "did you mean" in str(told) or "categorical" in str(
                told
            )  # a word of its own: what refers to it is told
        elif path[-1] is not None:
            assert text(("architecture", "space", *path)) in wheres, (path, str(told))
            assert f"{wrong(value_at(template, path))!r}" in str(told)
        checked += 1
    assert checked > 40


def value_at(data: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


@pytest.mark.parametrize("place", ["op", "src", "dst", "merge", "output", "loose", "when", "graph"])
def test_the_nearest_word_is_named(place: str) -> None:
    net = ("graphs", "net", "edges")
    path = {
        "op": (*net, 5, "op"), "src": (*net, 1, "src"), "dst": (*net, 0, "dst"), "graph": (*net, 4, "op"),
        "merge": ("graphs", "net", "vertices", "a"), "output": ("graphs", "pair", "output"),
        "loose": ("graphs", "pair", "loose", 1), "when": (*net, 2, "when", "deep", 0),
    }[place]  # fmt: skip
    data = copy.deepcopy(NESTED)
    here = value_at(data, path[:-1])
    right = here[path[-1]]
    here[path[-1]] = f"{right}{right[-1]}" if len(right) > 1 else f"{right}{right}"
    told = str(refused({"space": data}))
    assert f"did you mean {right!r}?" in told or len(right) == 1


def strings(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield from (each for each in places(data, path) if each[-1] is not None)


@pytest.mark.parametrize("name", presets.all())
def test_a_misspelt_word_in_the_settings_of_a_preset_is_refused_by_its_path(name: str) -> None:
    found = presets.get(name, "")
    settings = found.settings.model_validate(SETTINGS.get(name, {})).model_dump(mode="json")
    if name == "katib":
        settings = SETTINGS[name]
    numbers = [path for path in strings(settings) if not value_at(settings, path).isalpha() and name == "katib"]
    for path in strings(settings):
        told = refused({"space": name, "settings": misspelt(settings, path)})
        where = text(("architecture", "settings", *path))
        assert any(problem.where == where or path in numbers for problem in told.problems), (where, str(told))
    for path in (each for each in places(settings) if each[-1] is None):
        told = refused({"space": name, "settings": misspelt(settings, path)})
        assert all(problem.where.startswith("architecture.settings") for problem in told.problems)


@pytest.mark.parametrize(("place", "value"), [(0, "flatten"), (1, "head"), (2, "none3"), (3, "flatten")])
@pytest.mark.parametrize("name", ["cell", "pairs", "dense", "macro"])
def test_an_operation_that_fits_nowhere_is_named_in_the_settings(name: str, place: int, value: str) -> None:
    operations = ["skip", "conv3", "avg3", "max3"]
    operations[place] = value
    told = refused({"space": name, "settings": {"operations": operations}})
    assert {problem.where for problem in told.problems} == {f"architecture.settings.operations[{place}]"}


def test_a_value_that_makes_no_shapes_agree_is_named_and_one_that_does_with_another_is_not() -> None:
    edges = [
        {"id": "a", "src": "x", "dst": "s", "op": "conv3", "params": {"c": {"slot": "one"}}},
        {"id": "b", "src": "x", "dst": "s", "op": "conv3", "params": {"c": {"slot": "other"}}},
        {"id": "y", "src": "s", "dst": "y", "op": "head", "params": {"classes": 10}},
    ]
    template = {
        **{key: NESTED[key] for key in ("schema", "input", "output")},
        "slots": {"one": {"among": [4, 8]}, "other": {"among": [4, 8]}},
        "graphs": {"net": {"vertices": {"s": "add", "y": "add"}, "edges": edges}},
    }
    space_of(Architecture(space=template))
    template["slots"]["one"]["among"] = [4, 8, 16]
    (problem,) = refused({"space": template}).problems
    assert (problem.where, problem.found) == ("architecture.space.slots.one.among[2]", 16)
    assert "need equal shapes" in problem.need


def test_a_value_is_looked_at_where_other_values_let_it_be() -> None:
    """Of three levels of conditions, the last holds the mistake."""
    among = {"among": ["conv3", "conv5"]}
    slots = {
        "a": {"among": [False, True]},
        "b": {"among": [1, 2, 3], "when": {"a": [True]}},
        "op": {**among, "when": {"b": [3]}},
    }
    edges = [
        {"id": "a", "src": "x", "dst": "s", "op": "conv3", "params": {"c": 4}},
        {"id": "b", "src": "x", "dst": "s", "op": {"slot": "op"}, "params": {"c": 4}},
        {"id": "y", "src": "s", "dst": "y", "op": "head", "params": {"classes": 10}},
    ]
    template = {
        **{key: NESTED[key] for key in ("schema", "input", "output")},
        "slots": slots,
        "graphs": {"net": {"vertices": {"s": "add", "y": "add"}, "edges": edges}},
    }
    space_of(Architecture(space=template))
    slots["op"]["among"] = ["conv3", "flatten"]
    told = refused({"space": template})
    assert [problem.where for problem in told.problems] == ["architecture.space.slots.op.among[1]"]
