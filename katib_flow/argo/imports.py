"""What a module's text says of itself without being run: the names it has, and the imports that a pod cannot follow."""

import ast
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

_INSTALLED = ("site-packages", "dist-packages")
IN_IMAGE = frozenset(
    (
        "cloudpickle",
        "cmaes",
        "grpcio",
        "hera",
        "katib-flow",
        "kubernetes",
        "mlflow",
        "mlflow-skinny",
        "numpy",
        "protobuf",
    )
) | {"pydantic", "pyyaml", "requests", "scipy", "tenacity", "threadpoolctl"}
"""Distributions that katib-flow's own image of the steps has, dockerfiles/steps-requirements.txt."""
_CATCH = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")


@dataclass(frozen=True)
class LeftBehind:
    """An import of something that is on this machine and nowhere in a pod."""

    line: int
    module: str
    what: str


def binds(code: str, name: str) -> bool:
    """Whether a module has a name at its top level, as far as its text tells; text that is no Python is not judged."""
    tree = _tree(code)
    return tree is None or any(name in _bound(node) or "*" in _bound(node) for node in _outside_functions(tree))


def left_behind(code: str, packages: Sequence[str]) -> list[LeftBehind]:
    """The imports of a module's text that lead to other files of the user's.

    Imports that the text can do without are passed over: those in a ``try`` that catches their failure, and those under
    ``if TYPE_CHECKING`` or ``if __name__ == "__main__"``.

    Args:
        packages: what pip installs into the pod, as requirements.
    """
    installed = _named(packages)
    found: dict[str, LeftBehind] = {}
    for node in _imports(code):
        for module in _imported(node):
            top = module.partition(".")[0]
            if not top:
                found.setdefault(module, LeftBehind(node.lineno, module, "a neighbour in its package"))
            elif (path := _of_the_user(top)) and not _distributions(top) & installed:
                found.setdefault(top, LeftBehind(node.lineno, top, f"which is {path} on this machine"))
    return list(found.values())


def not_in_image(code: str, packages: Sequence[str]) -> list[LeftBehind]:
    """The imports of a module's text that lead to packages which katib-flow's own image lacks.

    Args:
        packages: what pip installs into the pod, as requirements.
    """
    known = IN_IMAGE | _named(packages)
    lacking: dict[str, LeftBehind] = {}
    for node in _imports(code):
        for top in {module.partition(".")[0] for module in _imported(node)} - {""}:
            names = _distributions(top)
            if names and not names & known and top not in sys.stdlib_module_names:
                lacking.setdefault(top, LeftBehind(node.lineno, top, sorted(names)[0]))
    return list(lacking.values())


def _tree(code: str) -> ast.Module | None:
    """None of a text that is no Python."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError):
        return None


def _imports(code: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a text that must not fail; none of what is no Python."""
    if (tree := _tree(code)) is not None:
        yield from _needed(tree)


def _named(packages: Sequence[str]) -> set[str]:
    """The distributions that some requirements name."""
    return {_canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in packages}


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _outside_functions(child)


def _bound(node: ast.AST) -> set[str]:
    """The names that a statement gives to something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()


def _needed(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below a node that must not fail."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.Try) and any(_catches(handler) for handler in child.handlers):
            for other in (*child.handlers, *child.orelse, *child.finalbody):
                yield from _needed(other)
        elif isinstance(child, ast.If) and re.search(r"\bTYPE_CHECKING\b|\b__name__ == ", ast.unparse(child.test)):
            for other in child.orelse:
                yield from _needed(ast.Module([other], []))
        else:
            yield from _needed(child)


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(name in ast.unparse(handler.type) for name in _CATCH)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def _of_the_user(top: str) -> Path | None:
    """Where a module lies that is neither Python's, nor ours, nor installed; None for any other."""
    if top == "katib_flow" or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    path = next((Path(place) for place in places if place not in (None, "built-in", "frozen", "namespace")), None)
    standard = Path(sysconfig.get_path("stdlib"))
    if path is None or standard in path.parents or any(part in _INSTALLED for part in path.parts):
        return None
    return path


def _distributions(top: str) -> set[str]:
    return {_canonical(name) for name in packages_distributions().get(top, ())}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
