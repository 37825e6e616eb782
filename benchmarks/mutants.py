"""Do the tests of a file notice when it is wrong? Change one thing of it after the other, and count.

    python -m benchmarks.mutants darts                 all mutants of katib_flow/nas/systems/darts.py; an hour
    python -m benchmarks.mutants enas --limit 20       so many, drawn by --seed
    python -m benchmarks.mutants relax/shared          of another file of katib_flow/nas, by the tests of all systems

A mutant is the file with one change: a number, a comparison, an operator, a condition that always or never holds, min
for max, an order that is not sorted, a keyword argument that is left out, a statement that does nothing. It is killed
where a test fails, or takes longer than --timeout. Some mutants compute the same as the file, so that no test can kill
them; those that survive are printed for somebody to judge. All runs in a copy of the project.
"""

import argparse
import ast
import copy
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
CALLS = {"min": "max", "max": "min", "sorted": "list", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """A file with one change."""

    line: int
    source: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a system, or another file of katib_flow/nas without .py")
    parser.add_argument("--limit", type=int, help="the most mutants to try")
    parser.add_argument("--seed", type=int, default=0, help="of which mutants are tried where there is a limit")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for the tests of a mutant")
    args = parser.parse_args()
    file, tests = paths(args.name)
    source = ast.unparse(ast.parse((ROOT / file).read_text()))
    every = list(mutants(source))
    chosen = every if args.limit is None else random.Random(args.seed).sample(every, min(args.limit, len(every)))
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory)
        for part in ("katib_flow", "tests", "benchmarks"):
            shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__", "*.part.jsonl"))
        shutil.copy(ROOT / "pyproject.toml", project)
        if killed(project, file, source, tests, 10 * args.timeout):
            sys.exit(f"{', '.join(tests)}: a test fails without any change; all have to pass")
        survivors = []
        for number, mutant in enumerate(sorted(chosen, key=lambda mutant: mutant.line), 1):
            if not killed(project, file, mutant.source, tests, args.timeout):
                survivors.append(mutant)
                print(f"survived, {number} of {len(chosen)}:\n{difference(source, mutant.source)}", flush=True)
    print(f"{file}: {len(chosen) - len(survivors)} of {len(chosen)} mutants killed, of {len(every)} there are")


def paths(name: str) -> tuple[Path, list[str]]:
    """A file, and the tests that should notice when it is wrong, both from the root of the project."""
    system = NAS / "systems" / f"{name}.py"
    file = system if (ROOT / system).exists() else NAS / f"{name}.py"
    if not (ROOT / file).exists():
        sys.exit(f"{name}: found no such file, need a system, or a file of {NAS}")
    own = f"test_{name}" if file == system else "test_"
    tests = sorted((ROOT / "tests/nas").glob(f"systems/{own}*.py")) + sorted((ROOT / "tests/nas/relax").glob("*.py"))
    return file, [str(each.relative_to(ROOT)) for each in tests]


def killed(project: Path, file: Path, source: str, tests: list[str], timeout: float) -> bool:
    """Whether a test of a copy of the project fails with this source of a file."""
    (project / file).write_text(source)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    how = {**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(command, cwd=project, env=how, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return True
    return run.returncode != 0


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a source, in its order."""
    tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree) if not _is_typing(node)]
    typed = {id(part) for node in ast.walk(tree) for kind in _annotations(node) for part in ast.walk(kind)}
    for number, node in enumerate(ast.walk(tree)):
        if node not in nodes or id(node) in typed:
            continue
        for change in range(_changes(node)):
            other = copy.deepcopy(tree)
            _change(list(ast.walk(other))[number], change)
            mutated = ast.unparse(ast.fix_missing_locations(other))
            if mutated != source:
                yield Mutant(getattr(node, "lineno", 0), mutated)


def _is_typing(node: ast.AST) -> bool:
    """Whether a node is there for the checker of types, or imports."""
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )


def _annotations(node: ast.AST) -> list[ast.expr]:
    """The types that a node is annotated with, whose numbers are the bounds of settings."""
    several = [getattr(node, name, None) for name in ("annotation", "returns")]
    return [each for each in several if isinstance(each, ast.expr)]


def _changes(node: ast.AST) -> int:
    """How many mutants a node gives."""
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
    """What a mutant changes, with the lines."""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), "file", "mutant", lineterm="", n=1)
    return "\n".join(list(lines)[2:])


if __name__ == "__main__":
    main()
