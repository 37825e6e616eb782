"""A program and its environment as words of a shell script, which looks into none of them."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from katib_flow.errors import KatibFlowError

_SHELL_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def as_words(who: str, variables: Mapping[str, str], argv: Sequence[str], shared: Path) -> tuple[list[str], str]:
    """Lines that set variables, and a command.

    Args:
        who: for a person.
        shared: where busybox is.

    Raises:
        KatibFlowError: a value cannot be in an argument at all.
    """
    plain = {name: value for name, value in variables.items() if _SHELL_NAME.fullmatch(name)}
    odd = [f"{name}={value}" for name, value in variables.items() if name not in plain]  # Kubernetes takes my.name too
    words = [str(shared / "busybox"), "env", *odd, *argv] if odd else [*argv]
    if any("\0" in text for text in [*words, *variables.values()]):
        raise KatibFlowError(f"{who}: a value holds a NUL byte, which no program's argument can")
    return [f"export {name}={shlex.quote(value)}" for name, value in plain.items()], shlex.join(words)
