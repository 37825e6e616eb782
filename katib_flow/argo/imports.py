"""Analyse a module's source without running it: its top-level names, and the imports that fail in a pod."""

import ast
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
"""Distributions in katib-flow's own steps image, from dockerfiles/steps-requirements.txt."""
_CATCH = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")


@dataclass(frozen=True)
class LeftBehind:
    """An import that works on this machine but fails in a pod.

    Attributes:
        line: its line in the module, from 1.
        module: name of the imported module.
        what: for messages, the file or the distribution that the pod lacks.
    """

    line: int
    module: str
    what: str


def binds(code: str, name: str) -> bool:
    """Whether a module binds a name at its top level; True for source that is not valid Python."""
    tree = _tree(code)
    return tree is None or any(name in _bound(node) or "*" in _bound(node) for node in _outside_functions(tree))


def left_behind(code: str, packages: Sequence[str]) -> list[LeftBehind]:
    """Return the imports of a module that lead to other files of the user.

    Optional imports are ignored: those in a ``try`` that catches their failure, and those under ``if TYPE_CHECKING`` or
    ``if __name__ == "__main__"``.

    Args:
        code: source of the module.
        packages: requirements that pip installs into the pod.
    """
    named, installed = _named(packages), cache(packages_distributions)  # listed once, because that takes .3 s
    missing: dict[str, LeftBehind] = {}
    for node in _imports(code):
        for module in _imported(node):
            top = module.partition(".")[0]
            if not top:
                missing.setdefault(module, LeftBehind(node.lineno, module, "a module of its own package"))
            elif (path := _user_file(top)) and not _distributions(top, installed) & named:
                missing.setdefault(top, LeftBehind(node.lineno, top, f"which is {path} on this machine"))
    return list(missing.values())


def not_in_image(code: str, packages: Sequence[str]) -> list[LeftBehind]:
    """Return the imports of a module that lead to packages that katib-flow's own image lacks.

    Args:
        code: source of the module.
        packages: requirements that pip installs into the pod.
    """
    known, installed = IN_IMAGE | _named(packages), cache(packages_distributions)
    missing: dict[str, LeftBehind] = {}
    for node in _imports(code):
        for top in {module.partition(".")[0] for module in _imported(node)} - {""} - sys.stdlib_module_names:
            names = _distributions(top, installed)
            if names and not names & known:
                missing.setdefault(top, LeftBehind(node.lineno, top, sorted(names)[0]))
    return list(missing.values())


def _tree(code: str) -> ast.Module | None:
    """Parse source; None if it is not valid Python."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError):
        return None


def _imports(code: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a module that must succeed; none if the source is not valid Python."""
    if (tree := _tree(code)) is not None:
        yield from _needed(tree)


def _named(packages: Sequence[str]) -> set[str]:
    """Return the names of the distributions in some requirements."""
    return {_canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in packages}


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _outside_functions(child)


def _bound(node: ast.AST) -> set[str]:
    """Return the names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()


def _needed(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports below a node that must succeed."""
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


def _user_file(top: str) -> Path | None:
    """Return the path of a module of the user; None if it belongs to Python, katib-flow or an installed package."""
    if top == "katib_flow" or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    origins = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    path = next((Path(origin) for origin in origins if origin not in (None, "built-in", "frozen", "namespace")), None)
    standard = Path(sysconfig.get_path("stdlib"))
    if path is None or standard in path.parents or any(part in _INSTALLED for part in path.parts):
        return None
    return path


def _distributions(top: str, installed: Callable[[], Mapping[str, list[str]]]) -> set[str]:
    return {_canonical(name) for name in installed().get(top, ())}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
