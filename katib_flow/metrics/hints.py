"""Why a metric was not found in lines that a trial printed or wrote: only what the lines themselves show."""

import re
from collections.abc import Collection, Iterable, Sequence

from katib_flow.metrics.objects import object_of
from katib_flow.metrics.text import filtered, number, pair_pattern
from katib_flow.spec.sections import Metrics
from katib_flow.wording import did_you_mean

NO_NUMBER = "which is no number: that has digits, at most one point and an exponent, and nothing between or behind"
_MOST_NAMES = 5
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def why_not_found(name: str, metrics: Metrics, lines: Sequence[str]) -> str:
    """What the lines have in the place of a metric, and what would be read; "" where they show nothing like it."""
    if metrics.filter:
        return _by_filter(name, metrics.filter, lines)
    near = [line for line in lines if name.casefold() in line.casefold()]
    hints = (_object_line, _object_in_line, *((_pair,) if metrics.format == "json" else (_no_number, _after_a_colon)))
    for hint in hints:
        for line in reversed(near):
            if said := hint(name, metrics.format, line):
                return said
    return instead(name, _names(metrics.format, lines), "lines report")


def instead(name: str, others: Collection[str], what: str) -> str:
    """Which names were found in the place of one; "" where there were none."""
    if not others:
        return ""
    if same := next((other for other in others if other.casefold() == name.casefold()), None):
        return f"{what} {same!r}, and names are case-sensitive"
    shown = ", ".join(repr(other) for other in sorted(others)[:_MOST_NAMES])
    more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
    return f"{what} {shown}{more}{did_you_mean(name, others)}"


def _by_filter(name: str, patterns: Sequence[str], lines: Sequence[str]) -> str:
    pairs = [pair for line in lines for pair in filtered(patterns, line)]
    if not pairs:
        return f"metrics.filter matched none of {len(lines)} lines"
    if stated := next((text for found, text in reversed(pairs) if found == name), None):
        return f"metrics.filter finds {str(stated)!r} for it, {NO_NUMBER}"
    return instead(name, {found for found, _ in pairs if found}, "metrics.filter finds")


def _object_line(name: str, format: str, line: str) -> str:
    data, language = object_of(line)
    if name not in data:
        return ""
    if format == "text":
        kind = "a JSON object" if language == "JSON" else "a Python dict"
        return f"a line ends with {kind} that has it, which metrics.format: json reads"
    return f"a line has {data[name]!r} for it, which is no number"


def _object_in_line(name: str, format: str, line: str) -> str:
    if name not in object_of(line[: line.rfind("}") + 1])[0]:
        return ""
    return "a line has an object with it before other text: print it at the end of a line, with metrics.format: json"


def _after_a_colon(name: str, format: str, line: str) -> str:
    found = re.search(rf"(?<![\w./@-]){re.escape(name)}['\"]?\s*(?::|->|is|\s)\s*({_NUMBER})", line, re.IGNORECASE)
    if found is None:
        return ""
    return f"a line has {found[0]!r}, where {name}={found[1]} would be read, or anything that metrics.filter finds"


def _no_number(name: str, format: str, line: str) -> str:
    for found, value, other in pair_pattern([name]).findall(line):
        if found == name and not value:
            return f"a line has {other!r} for it, {NO_NUMBER}"
    return ""


def _pair(name: str, format: str, line: str) -> str:
    if any(value for _, value, _ in pair_pattern([name]).findall(line)):
        return f"a line has {name}=..., which metrics.format: text reads"
    return ""


def _names(format: str, lines: Iterable[str]) -> set[str]:
    """The names of all numbers on some lines."""
    if format == "json":
        objects = [object_of(line)[0] for line in lines]
        return {str(key) for data in objects for key, value in data.items() if number(value) is not None}
    pattern = pair_pattern()
    return {name for line in lines if "=" in line for name, value, _ in pattern.findall(line) if value}
