"""Which package imports which: the graph that CONTRIBUTING.md draws is the true one, and nothing in it goes round."""

import ast
from collections.abc import Iterator
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path

HERE = Path(__file__).parents[1]
PACKAGE = HERE / "katib_flow"
EVERYWHERE = {"basis", "errors", "foreign", "history", "markup", "wording"}
Graph = dict[str, set[str]]


def layer(module: str) -> str:
    """The package of a module of ours: its first name, of nas the first two."""
    names = module.split(".")[1:]
    inner = names[0] == "nas" and names[1:2] and (PACKAGE / "nas" / names[1]).is_dir()
    return ".".join(names[: 2 if inner else 1])


def imports(node: ast.AST, at_door: bool = False) -> Iterator[tuple[str, bool]]:
    """Each of our modules that some code imports, and whether only when a function of it is called.

    What is imported for annotations alone is not; a module that ``Later`` stands for is imported at the door.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from (found for other in child.orelse for found in imports(other, at_door))
            continue
        if isinstance(child, ast.ImportFrom) and child.module and child.module.startswith("katib_flow."):
            yield child.module, at_door
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "Later":
            (name,) = child.args
            assert isinstance(name, ast.Constant)
            if str(name.value).startswith("katib_flow."):
                yield str(name.value), True
        yield from imports(child, at_door or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


@lru_cache
def true_graph() -> tuple[Graph, Graph]:
    """What each package imports when it is imported, and what at the door only."""
    begun, doors = Graph(), Graph()
    for path in PACKAGE.rglob("*.py"):
        here = layer(".".join(path.relative_to(HERE).with_suffix("").parts))
        if here.startswith("__"):
            continue
        for module, at_door in imports(ast.parse(path.read_text(encoding="utf-8"))):
            there = layer(module)
            if there not in {here, *EVERYWHERE}:
                (doors if at_door else begun).setdefault(here, set()).add(there)
    return begun, {here: there - begun.get(here, set()) for here, there in doors.items()}


def drawn_graph() -> tuple[Graph, Graph]:
    """The same as CONTRIBUTING.md has it: a line a package, in brackets what is imported at the door."""
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    begun, doors = Graph(), Graph()
    for line in text.split("```imports\n")[1].split("```")[0].splitlines():
        here, _, there = line.partition(":")
        for name in there.split():
            (doors if name.startswith("(") else begun).setdefault(here.strip(), set()).add(name.strip("()"))
    return begun, doors


def without_empty(graph: Graph) -> Graph:
    return {here: there for here, there in graph.items() if there}


def test_the_graph_that_is_drawn_is_the_true_one() -> None:
    (begun, doors), (begun_drawn, doors_drawn) = true_graph(), drawn_graph()
    assert without_empty(begun) == begun_drawn
    assert without_empty(doors) == doors_drawn


def test_no_imports_go_round() -> None:
    order = list(TopologicalSorter(true_graph()[0]).static_order())
    assert order.index("spec") < order.index("algorithms") < order.index("nas.systems")


def test_what_everything_may_import_imports_nothing_of_ours() -> None:
    for name in EVERYWHERE:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        assert not [module for module, _ in imports(tree) if layer(module) not in EVERYWHERE]


def test_an_import_is_found_wherever_it_stands() -> None:
    code = (
        "from katib_flow.loop import a\n"
        "if TYPE_CHECKING:\n    from katib_flow.cli import b\nelse:\n    c = Later('katib_flow.nas.relax.shared')\n"
        "try:\n    from katib_flow.argo.nodes import d\nexcept ImportError: ...\n"
        "class E:\n    async def f(self):\n        with g:\n            from katib_flow.local import h\n"
    )
    found = [(layer(module), at_door) for module, at_door in imports(ast.parse(code))]
    assert found == [("loop", False), ("nas.relax", True), ("argo", False), ("local", True)]


def test_the_spec_imports_no_other_package_of_ours() -> None:
    begun, doors = true_graph()
    assert not begun.get("spec")
    assert not doors.get("spec")
