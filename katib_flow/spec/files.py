"""The files that a command names: in the directory of the spec file, or else in the working directory."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from katib_flow.errors import SpecError

_RUNS_A_FILE = re.compile(r"(python[\d.]*|bash|sh|zsh|dash|Rscript|julia|node|perl|ruby)")
_FLAGS = ("-u", "-O", "-OO", "-B", "-E", "-s", "-S", "-I", "-e", "-x", "--vanilla")  # flags without an argument


def located(command: Sequence[str], base: Path | None, env: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """A command with the full path of each argument that names a file beside the spec; other arguments are unchanged.

    ``python`` becomes the interpreter of this process, with the packages installed beside katib-flow, unless ``env``
    sets ``PATH``.

    Args:
        base: the directory of the spec file; None for a spec built in Python.
        env: environment variables that the spec sets for the command.
    """
    ours = "PATH" not in env and command[:1] in (["python"], ["python3"], ("python",), ("python3",)) and sys.executable
    program = [sys.executable] if ours else [_beside(argument, base) for argument in command[:1]]
    return [*program, *(_beside(argument, base) for argument in command[1:])]


def _beside(argument: str, base: Path | None) -> str:
    looks_like_a_file = "${" not in argument and ("/" in argument or Path(argument).suffix)
    if base is None or not looks_like_a_file or os.path.isabs(argument):  # noqa: PTH117 - it may not be a path
        return argument
    try:
        path = base / argument
        return str(path) if path.is_file() else argument
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return argument


def missing(command: Sequence[str], env: Mapping[str, str], base: Path | None, at: str) -> Iterator[SpecError]:
    """A mistake if the program, or the script that an interpreter should run, is not on this machine.

    Args:
        base, env: as in ``located``.
        at: the path of the command in the spec.
    """
    program, *rest = located(command, base, env)
    where = " or ".join(str(directory) for directory in dict.fromkeys([*([base] if base else []), Path.cwd()]))
    if "${" not in program and shutil.which(program, path=env.get("PATH", os.environ.get("PATH"))) is None:
        need = f"an executable program in {where}" if "/" in program else "an executable program on the PATH"
        yield SpecError(f"{at}[0]", command[0], need)
        return
    if not _RUNS_A_FILE.fullmatch(Path(program).name):
        return
    for position, argument in enumerate(rest, start=1):
        if argument in _FLAGS:
            continue
        if not argument.startswith("-") and "${" not in argument and not Path(argument).exists():
            yield SpecError(f"{at}[{position}]", command[position], f"a file in {where}")
        return
