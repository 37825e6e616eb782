"""The files that a command names: beside the spec's file, else in the working directory."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from katib_flow.errors import SpecError

_RUNS_A_FILE = re.compile(r"(python[\d.]*|bash|sh|zsh|dash|Rscript|julia|node|perl|ruby)")
_FLAGS = ("-u", "-O", "-OO", "-B", "-E", "-s", "-S", "-I", "-e", "-x", "--vanilla")  # they take no argument


def located(command: Sequence[str], base: Path | None, env: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """A command whose arguments that name a file beside the spec are that file; the others are as they were.

    ``python`` is the interpreter that this program runs in, whose packages are those that the user has installed beside
    it, unless ``env`` says where programs are looked for.

    Args:
        base: the directory of the spec's file; None where it was made in Python.
        env: variables that the command is given by the spec.
    """
    ours = "PATH" not in env and command[:1] in (["python"], ["python3"], ("python",), ("python3",)) and sys.executable
    program = [sys.executable] if ours else [_beside(argument, base) for argument in command[:1]]
    return [*program, *(_beside(argument, base) for argument in command[1:])]


def _beside(argument: str, base: Path | None) -> str:
    looks_like_a_file = "${" not in argument and ("/" in argument or Path(argument).suffix)
    if base is None or not looks_like_a_file or os.path.isabs(argument):  # noqa: PTH117 - it need not be a path
        return argument
    try:
        path = base / argument
        return str(path) if path.is_file() else argument
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return argument


def missing(command: Sequence[str], env: Mapping[str, str], base: Path | None, at: str) -> Iterator[SpecError]:
    """A program, or the script of an interpreter, that is not on this machine.

    Args:
        at: where in the spec the command stands.
    """
    program, *rest = located(command, base, env)
    where = " or ".join(str(place) for place in dict.fromkeys([*([base] if base else []), Path.cwd()]))
    if "${" not in program and shutil.which(program, path=env.get("PATH", os.environ.get("PATH"))) is None:
        place = f"a program in {where}" if "/" in program else "a program on the PATH"
        yield SpecError(f"{at}[0]", command[0], f"{place} that can be run")
        return
    if not _RUNS_A_FILE.fullmatch(Path(program).name):
        return
    for position, argument in enumerate(rest, start=1):
        if argument in _FLAGS:
            continue
        if not argument.startswith("-") and "${" not in argument and not Path(argument).exists():
            yield SpecError(f"{at}[{position}]", command[position], f"a file in {where}")
        return
