"""Do the tests of a file notice when it is wrong? Change one thing in it at a time, and count the failures.

    python -m benchmarks.mutants darts                 all mutants of katib_flow/nas/systems/darts.py: some minutes
    python -m benchmarks.mutants enas --limit 20       a sample, drawn by --seed
    python -m benchmarks.mutants relax/shared          another file of katib_flow/nas, with the tests of all systems

A mutant is the file with one change: another number, comparison or operator, a condition that always or never holds,
min in place of max, a list in place of a sorted one, an omitted keyword argument, or a statement without effect. Code
that only checks is left alone: types, including the bounds of settings, and arguments of ``zip`` and ``dataclass``. A
mutant is killed if a test fails, or takes far longer than without the change. Some mutants compute the same as the
file, so that no test can kill them; the survivors are printed for review.

The tests of a system are those in the files named after it and then, for the survivors of these, those in files that
import it and those in ``tests/nas`` and ``tests/contracts`` that have it as a parameter. Everything runs in a copy of
the project. A mutant is tested in a fork of a process that has already imported the modules of the tests, and the
quickest tests come first.
"""

import argparse
import ast
import contextlib
import copy
import difflib
import importlib
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAS = Path("katib_flow/nas")
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
CHECKS = {"zip", "dataclass"}  # their keyword arguments only check: equal lengths, and no assignment
CALLS = {"min": "max", "max": "min", "sorted": "list", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """A file with one change."""

    line: int
    source: str


@dataclass(eq=False)
class Stage:
    """A set of tests, and the time that they take without any change.

    Attributes:
        whole: files of which all tests belong to the stage, from the root of the project.
        parts: files of which only the tests with the parameter belong to it.
        parameter: the value of the parameter, as in the id of a test.
        seconds: the time of each test, by its id.
        cost: processor seconds of all tests together.
    """

    whole: Sequence[str] = ()
    parts: Sequence[str] = ()
    parameter: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    cost: float = 0.0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Select the tests of the stage, and sort them, the quickest first."""
        wanted = re.compile(rf"(^|-){self.parameter}($|-)")
        ids = {item: getattr(getattr(item, "callspec", None), "id", "") for item in items}
        chosen = [item for item in items if item.nodeid.split("::")[0] in self.whole or wanted.search(ids[item])]
        items[:] = sorted(chosen, key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the time of a test, with its setup and teardown."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def main() -> None:
    """Try the mutants of a file, and print the survivors and the count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a system, or another file of katib_flow/nas without .py")
    parser.add_argument("--limit", type=int, help="the largest number of mutants to try")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the sample, if there is a limit")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds allowed for the tests of one mutant")
    args = parser.parse_args()
    file, stages = paths(args.name)
    source = ast.unparse(ast.parse((ROOT / file).read_text()))
    every = list(mutants(source))
    chosen = every if args.limit is None else random.Random(args.seed).sample(every, min(args.limit, len(every)))
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory).resolve()
        for part in ("katib_flow", "tests", "benchmarks", "examples"):
            shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__", "*.part.jsonl"))
        shutil.copy(ROOT / "pyproject.toml", project)
        begin(project, file, source, stages)
        for stage in stages:
            if killed(stage, 10 * args.timeout):
                files = ", ".join((*stage.whole, *stage.parts))
                sys.exit(f"{files}: a test fails without any change; all must pass")
        survivors = []
        for number, mutant in enumerate(sorted(chosen, key=lambda mutant: mutant.line), 1):
            (project / file).write_text(mutant.source)
            if not any(killed(stage, args.timeout) for stage in stages):
                survivors.append(mutant)
                print(f"mutant {number} of {len(chosen)} survived:\n{difference(source, mutant.source)}", flush=True)
    print(f"{file}: {len(chosen) - len(survivors)} of {len(chosen)} mutants killed; the file has {len(every)} in all")


def paths(name: str) -> tuple[Path, list[Stage]]:
    """The path of a file from the root of the project, and the stages of tests that should notice when it is wrong."""
    system = NAS / "systems" / f"{name}.py"
    file = system if (ROOT / system).exists() else NAS / f"{name}.py"
    if not (ROOT / file).exists():
        sys.exit(f"{name}: no such file; need the name of a system, or of a file in {NAS}")
    if file != system:
        return file, [Stage(_tests("nas/systems/test_*.py", "nas/relax/*.py"))]
    own = _tests(f"nas/systems/test_{name}.py", f"nas/systems/test_{name}_*.py")
    values = _tests("nas/test_settings.py", "nas/test_systems_table.py")
    others = _tests("nas/**/test_*.py", "contracts/test_*.py")
    parts = [path for path in others if path not in (*own, *values) and _is_of_systems(path)]
    known = name.replace("_", "-")
    imports = re.compile(rf"from katib_flow\.nas\.systems\.{name} import")
    readers = [path for path in _tests("**/test_*.py") if path not in own and imports.search((ROOT / path).read_text())]
    return file, [Stage(own, values, known), Stage(readers, [path for path in parts if path not in readers], known)]


def _tests(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / "tests").glob(pattern))


def _is_of_systems(path: str) -> bool:
    """Whether a file has tests of several systems, not those of one."""
    systems = {file.stem for file in (ROOT / NAS / "systems").glob("*.py")}
    name = Path(path).stem.removeprefix("test_")
    return not any(name == system or name.startswith(f"{system}_") for system in systems)


def begin(project: Path, file: Path, source: str, stages: Sequence[Stage]) -> None:
    """Import the modules of the tests, except the systems, and except the project if it needs the mutated file."""
    os.chdir(project)
    os.environ["PYTHONPATH"] = str(project)
    sys.dont_write_bytecode = False
    sys.path[:] = [str(project), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
    (project / file).write_text(source)
    with _silence():
        pytest.main(["--collect-only", *(path for stage in stages for path in (*stage.whole, *stage.parts))])
    kept = [name for name in _forget(project) if name.startswith("katib_flow.") and ".nas.systems" not in name]
    for name in kept:
        importlib.import_module(name)
    if ".".join(file.with_suffix("").parts) in sys.modules:
        _forget(project)
    for compiled in (project / file).parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True


def _forget(project: Path) -> list[str]:
    """Remove the modules of the project from ``sys.modules``; their names."""
    files = {name: str(getattr(module, "__file__", None)) for name, module in sys.modules.items()}
    ours = [name for name, file in files.items() if file.startswith(str(project))]
    for name in ours:
        del sys.modules[name]
    return ours


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Discard the output of the process, including that of C code."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        yield
    finally:
        for stream, old in zip((1, 2), kept, strict=True):
            os.dup2(old, stream)
            os.close(old)
        os.close(nowhere)


def killed(stage: Stage, timeout: float) -> bool:
    """Whether a test fails or takes far longer than in the first run, in which the times are recorded."""
    notes = Path("seconds.json")
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        _run(stage, notes)
    end = time.monotonic() + timeout
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    if not stage.seconds and notes.exists():
        stage.seconds = json.loads(notes.read_text())
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        stage.cost = used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime
    return ended[1] != 0


def _run(stage: Stage, notes: Path) -> None:
    """Run the tests and exit, with code 0 if all passed."""
    failed = 1
    try:
        os.setsid()
        if stage.cost:
            limit = math.ceil(10 + 5 * stage.cost)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        first = not stage.seconds
        with _silence():
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *stage.whole, *stage.parts], plugins=[stage])
        failed = int(code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED))
        if first:
            notes.write_text(json.dumps(stage.seconds))
    finally:
        os._exit(failed)


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a source, without duplicates, in the order of ``ast.walk``."""
    tree, known = ast.parse(source), {source}
    nodes = [node for node in ast.walk(tree) if not _is_typing(node)]
    typed = {id(part) for node in ast.walk(tree) for kind in _checks(node) for part in ast.walk(kind)}
    for number, node in enumerate(ast.walk(tree)):
        if node not in nodes or id(node) in typed:
            continue
        for change in range(_changes(node)):
            other = copy.deepcopy(tree)
            _change(list(ast.walk(other))[number], change)
            mutated = ast.unparse(ast.fix_missing_locations(other))
            if mutated not in known:
                known.add(mutated)
                yield Mutant(getattr(node, "lineno", 0), mutated)


def _is_typing(node: ast.AST) -> bool:
    """Whether a node is an import, or code for the type checker."""
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )


def _checks(node: ast.AST) -> list[ast.expr]:
    """The parts of a node that only check: types, whose numbers are bounds of settings, and arguments of ``CHECKS``."""
    several = [getattr(node, name, None) for name in ("annotation", "returns")]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Annotated":
        several.append(node.slice)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CHECKS:
        several += [keyword.value for keyword in node.keywords]
    return [part for part in several if isinstance(part, ast.expr)]


def _changes(node: ast.AST) -> int:
    """The number of mutants that a node yields."""
    match node:
        case ast.Constant(value=bool()):
            return 1
        case ast.Constant(value=int() | float()):
            return 2
        case ast.Compare() | ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            return int(type(_operator(node)) in SWAPPED)
        case ast.If() | ast.IfExp():
            return 2
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            return 1 + len(node.keywords)
        case ast.Call(func=ast.Name(id=name)) if name in CHECKS:
            return 0
        case ast.Call():
            return len(node.keywords)
        case ast.UnaryOp(op=ast.Not() | ast.USub()) | ast.Return(value=ast.expr()):
            return 1
        case ast.Expr(value=ast.Call() | ast.YieldFrom()):
            return 1
        case _:
            return 0


def _change(node: ast.AST, change: int) -> None:
    """Make one change of a node in place."""
    match node:
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1 if change == 0 else value * 2 if value else -1
        case ast.Compare():
            node.ops[0] = SWAPPED[type(node.ops[0])]()  # type: ignore[assignment]
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            node.op = SWAPPED[type(node.op)]()  # type: ignore[assignment]
        case ast.If() | ast.IfExp():
            node.test = ast.Constant(value=change == 0)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS and change == len(node.keywords):
            node.func = ast.Name(id=CALLS[name], ctx=ast.Load())
            node.keywords = [] if CALLS[name] == "list" else node.keywords
        case ast.Call():
            del node.keywords[change]
        case ast.UnaryOp(op=ast.USub()):
            node.op = ast.UAdd()
        case ast.UnaryOp():
            node.operand, node.op = ast.UnaryOp(op=ast.Not(), operand=node.operand), ast.Not()
        case ast.Return():
            node.value = ast.Constant(value=None)
        case ast.Expr():
            node.value = ast.Constant(value=None)
        case _:
            raise TypeError(type(node).__name__)


def _operator(node: ast.Compare | ast.BinOp | ast.BoolOp | ast.AugAssign) -> ast.AST:
    return node.ops[0] if isinstance(node, ast.Compare) else node.op


def difference(one: str, other: str) -> str:
    """The change of a mutant as a diff."""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), "file", "mutant", lineterm="", n=1)
    return "\n".join(list(lines)[2:])


if __name__ == "__main__":
    main()
