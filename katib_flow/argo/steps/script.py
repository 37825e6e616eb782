"""Quote a program and its environment for a shell script."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from katib_flow.errors import KatibFlowError

_SHELL_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def as_words(who: str, variables: Mapping[str, str], argv: Sequence[str], shared: Path) -> tuple[list[str], str]:
    """Return lines of a shell script that set variables, and a quoted command.

    Args:
        who: the trial, for error messages.
        variables: environment variables of the program.
        argv: the program and its arguments.
        shared: the directory of busybox.

    Raises:
        KatibFlowError: a value holds a NUL byte.
    """
    plain = {name: value for name, value in variables.items() if _SHELL_NAME.fullmatch(name)}
    odd = [
        f"{name}={value}" for name, value in variables.items() if name not in plain
    ]  # Kubernetes also allows my.name
    words = [str(shared / "busybox"), "env", *odd, *argv] if odd else [*argv]
    if any("\0" in text for text in [*words, *variables.values()]):
        raise KatibFlowError(f"{who}: a value holds a NUL byte, which an argument cannot")
    return [f"export {name}={shlex.quote(value)}" for name, value in plain.items()], shlex.join(words)
