"""A tag for the version of an algorithm, so that recorded results are used only until the algorithm changes."""

import ast
import hashlib
import importlib.metadata
from importlib.util import find_spec
from pathlib import Path

from katib_flow.algorithms import find_algorithm

CORE = (
    "katib_flow.spec",
    "katib_flow.history",
    "katib_flow.errors",
    "katib_flow.loop",
    "katib_flow.algorithms.registry",
)
PACKAGES = {"optuna": "optuna", "smac": "smac", "skopt": "scikit-optimize", "vizier": "google-vizier"}
HEBO = "0.3.6"


def version(name: str) -> str:
    """The release of a peer; for ours, a digest of all sources that the algorithm imports, without the core."""
    family, _, word = name.partition(":")
    if family == "hebo":
        return HEBO  # not installed in this environment
    if family != "ours":
        return importlib.metadata.version(PACKAGES[family])
    entry = find_algorithm(word.partition("[")[0])
    assert entry is not None, name
    sources = _sources(entry.propose.__module__)
    return hashlib.sha1("".join(sources[module] for module in sorted(sources)).encode()).hexdigest()[:8]


def _sources(start: str) -> dict[str, str]:
    """The sources, by module, of a module and of all modules of katib_flow that it imports, also within functions."""
    sources: dict[str, str] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if module in sources or module.startswith(CORE) or path is None:
            continue
        sources[module] = path.read_text()
        for node in ast.walk(ast.parse(sources[module])):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return sources


def _path(module: str) -> Path | None:
    if not module.startswith("katib_flow.") or module == "katib_flow.algorithms":
        return None
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # a name in a module, not a module in a package
        return None
    return Path(spec.origin) if spec and spec.origin else None
