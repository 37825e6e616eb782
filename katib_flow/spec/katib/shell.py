"""How a shell reads a command, because Katib gives a trial's command to one to get at what it prints.

``["train", '--config="a b"']`` reaches a program in Katib as ``--config=a b``, without the quotes. Here no shell reads
a command, so the words that it would have made are written down.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{[^{}]*\}")
_FIRST = 0xE000  # of the characters that Unicode leaves to private use: they stand for placeholders here
_QUOTING = re.compile(r"[\s'\"\\]")
_SPECIAL = re.compile(r"[$`|&;<>()*?\[\n]|(?:^|\s)[#~]")
_QUOTED = re.compile(r"\\.|'[^']*'|\"[^\"$`]*\"")


def is_script(command: Sequence[str]) -> bool:
    """Whether a command is a shell's own, with a script in it."""
    return len(command) > 1 and PurePosixPath(command[0]).name in ("sh", "bash") and command[1] == "-c"


def words(command: Sequence[str]) -> list[str] | None:
    """The words that a shell makes of a command with our placeholders; None where it would do more than split it."""
    hidden: list[str] = []

    def hide(match: re.Match[str]) -> str:
        hidden.append(match[0])
        return chr(_FIRST + len(hidden) - 1)

    line = _PLACEHOLDER.sub(hide, " ".join(command))
    if "$${" in hidden or _SPECIAL.search(_QUOTED.sub("", line)):
        return None
    try:
        made = shlex.split(line)
    except ValueError:  # a quote that is not closed
        return None
    return [re.sub(r"[\ue000-\uf8ff]", lambda match: hidden[ord(match[0]) - _FIRST], word) for word in made]


def needs_reading(command: Sequence[str]) -> bool:
    """Whether a shell makes anything else of a command than its arguments."""
    plain = [_PLACEHOLDER.sub("", argument) if "$${" not in argument else argument for argument in command]
    return any(_QUOTING.search(each) or _SPECIAL.search(each) or not each for each in plain)
