"""Split a command as a shell does, because Katib runs a trial's command in one to collect its output.

``["train", '--config="a b"']`` reaches a program in Katib as ``--config=a b``, without the quotes. Here no shell
interprets a command, so a converted spec has the words that the shell would have made.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{[^{}]*\}")
_FIRST = 0xE000  # the first private-use character of Unicode; they stand in for placeholders here
_QUOTING = re.compile(r"[\s'\"\\]")
_SPECIAL = re.compile(r"[$`|&;<>()*?\[\n]|(?:^|\s)[#~]")
_QUOTED = re.compile(r"\\.|'[^']*'|\"[^\"$`]*\"")


def is_script(command: Sequence[str]) -> bool:
    """True if a command runs a script in a shell: ``sh -c SCRIPT``."""
    return len(command) > 1 and PurePosixPath(command[0]).name in ("sh", "bash") and command[1] == "-c"


def words(command: Sequence[str]) -> list[str] | None:
    """Split a command with placeholders into words like a shell; None if the shell would do more than that."""
    hidden: list[str] = []

    def hide(match: re.Match[str]) -> str:
        hidden.append(match[0])
        return chr(_FIRST + len(hidden) - 1)

    line = _PLACEHOLDER.sub(hide, " ".join(command))
    if "$${" in hidden or _SPECIAL.search(_QUOTED.sub("", line)):
        return None
    try:
        split = shlex.split(line)
    except ValueError:  # an unclosed quote
        return None
    return [re.sub(r"[\ue000-\uf8ff]", lambda match: hidden[ord(match[0]) - _FIRST], word) for word in split]


def needs_reading(command: Sequence[str]) -> bool:
    """True if a shell would change the arguments of a command."""
    plain = [_PLACEHOLDER.sub("", argument) if "$${" not in argument else argument for argument in command]
    return any(_QUOTING.search(argument) or _SPECIAL.search(argument) or not argument for argument in plain)
