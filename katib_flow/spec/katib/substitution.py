"""Katib's placeholders in a trial's object -> native placeholders."""

import re
from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib.draft import Draft
from katib_flow.wording import did_you_mean

SPEC = "spec.trialTemplate.trialSpec"
_PLACEHOLDER = re.compile(r"\$\{trialParameters\.([^{}]+)\}")


def escaped(text: str) -> str:
    """Escape text, so that a spec reads it literally."""
    return text.replace("${", "$${")


def substituted(draft: Draft, node: Any, values: Mapping[str, str], at: str) -> Any:
    """Replace Katib's placeholders in a part of the object, and escape the rest.

    Args:
        values: the replacements, by name.
        at: the path of the part, for mistakes.
    """
    if isinstance(node, str):
        return _text(draft, node, values, at)
    if isinstance(node, Mapping):
        for key in node:
            if match := _PLACEHOLDER.search(key):
                draft.wrong(f"{at}.{key}", match[0], "no placeholder in a key, only in values")
        return {key: substituted(draft, inner, values, f"{at}.{key}") for key, inner in node.items()}
    if isinstance(node, list | tuple):
        return [substituted(draft, inner, values, f"{at}[{position}]") for position, inner in enumerate(node)]
    return node


def _text(draft: Draft, text: str, values: Mapping[str, str], at: str) -> str:
    done, end = "", 0
    for match in _PLACEHOLDER.finditer(text):
        before = escaped(text[end : match.start()])
        if match[1] not in values:
            names = ", ".join(values) or "the manifest has no trialParameters"
            need = f"a name in trialParameters: {names}{did_you_mean(match[1], values)}"
            draft.wrong(at, match[0], need, unsound=["trial"])
        if before.endswith("$"):
            draft.wrong(at, f"${match[0]}", "something between a '$' and a placeholder", unsound=["trial"])
        done, end = done + before + values.get(match[1], ""), match.end()
    return done + escaped(text[end:])
