"""Katib's placeholders in a trial's object -> ours."""

import re
from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib.draft import Draft
from katib_flow.wording import did_you_mean

SPEC = "spec.trialTemplate.trialSpec"
_PLACEHOLDER = re.compile(r"\$\{trialParameters\.([^{}]+)\}")


def escaped(text: str) -> str:
    """Text that stands for itself in a spec."""
    return text.replace("${", "$${")


def substituted(draft: Draft, node: Any, values: Mapping[str, str], at: str) -> Any:
    """A part of the object with Katib's placeholders as ours."""
    if isinstance(node, str):
        return _text(draft, node, values, at)
    if isinstance(node, Mapping):
        for key in node:
            if match := _PLACEHOLDER.search(key):
                draft.wrong(f"{at}.{key}", match[0], "no placeholder in a key: it can stand in a value only")
        return {key: substituted(draft, inner, values, f"{at}.{key}") for key, inner in node.items()}
    if isinstance(node, list | tuple):
        return [substituted(draft, inner, values, f"{at}[{place}]") for place, inner in enumerate(node)]
    return node


def _text(draft: Draft, text: str, values: Mapping[str, str], at: str) -> str:
    made, end = "", 0
    for match in _PLACEHOLDER.finditer(text):
        before = escaped(text[end : match.start()])
        if match[1] not in values:
            need = f"a name of trialParameters: {', '.join(values) or 'there are none'}{did_you_mean(match[1], values)}"
            draft.wrong(at, match[0], need, unsound=["trial"])
        if before.endswith("$"):
            draft.wrong(at, f"${match[0]}", "something between a '$' and a placeholder", unsound=["trial"])
        made, end = made + before + values.get(match[1], ""), match.end()
    return made + escaped(text[end:])
