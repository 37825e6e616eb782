"""Hints why a metric was not found in the lines of a trial; they state only what the lines show."""

import re
from collections.abc import Collection, Iterable, Sequence

from katib_flow.metrics.objects import object_of
from katib_flow.metrics.text import filtered, number, pair_pattern
from katib_flow.spec.sections import Metrics
from katib_flow.wording import counted, did_you_mean

NO_NUMBER = "which is not a number: digits with at most one decimal point and an exponent, and nothing else"
_MOST_NAMES = 5
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def why_not_found(name: str, metrics: Metrics, lines: Sequence[str]) -> str:
    """What the lines contain instead of a metric, and what would be read; "" if they show nothing similar."""
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
    """The names that were reported instead of a missing one; "" if there were none.

    Args:
        what: the beginning of the hint, such as "the trial reported".
    """
    if not others:
        return ""
    if same := next((other for other in others if other.casefold() == name.casefold()), None):
        return f"{what} {same!r}; names are case-sensitive"
    shown = ", ".join(repr(other) for other in sorted(others)[:_MOST_NAMES])
    more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
    return f"{what} {shown}{more}{did_you_mean(name, others)}"


def _by_filter(name: str, patterns: Sequence[str], lines: Sequence[str]) -> str:
    pairs = [pair for line in lines for pair in filtered(patterns, line)]
    if not pairs:
        return f"metrics.filter matched nothing in {counted(len(lines), 'line')}"
    if stated := next((text for key, text in reversed(pairs) if key == name), None):
        return f"metrics.filter finds {str(stated)!r} for it, {NO_NUMBER}"
    return instead(name, {key for key, _ in pairs if key}, "metrics.filter finds")


def _object_line(name: str, format: str, line: str) -> str:
    data, language = object_of(line)
    if name not in data:
        return ""
    if format == "text":
        kind = "a JSON object" if language == "JSON" else "a Python dict"
        return f"a line ends with {kind} that contains it; set metrics.format: json to read it"
    return f"a line has {data[name]!r} for it, which is not a number"


def _object_in_line(name: str, format: str, line: str) -> str:
    if name not in object_of(line[: line.rfind("}") + 1])[0]:
        return ""
    return "a line contains it in an object before other text; print the object last, with metrics.format: json"


def _after_a_colon(name: str, format: str, line: str) -> str:
    match = re.search(rf"(?<![\w./@-]){re.escape(name)}['\"]?\s*(?::|->|is|\s)\s*({_NUMBER})", line, re.IGNORECASE)
    if match is None:
        return ""
    return f"a line has {match[0]!r}; print {name}={match[1]}, or set metrics.filter to find it"


def _no_number(name: str, format: str, line: str) -> str:
    for key, value, other in pair_pattern([name]).findall(line):
        if key == name and not value:
            return f"a line has {other!r} for it, {NO_NUMBER}"
    return ""


def _pair(name: str, format: str, line: str) -> str:
    if any(value for _, value, _ in pair_pattern([name]).findall(line)):
        return f"a line has {name}=...; set metrics.format: text to read it"
    return ""


def _names(format: str, lines: Iterable[str]) -> set[str]:
    """The names of all numbers in some lines."""
    if format == "json":
        objects = [object_of(line)[0] for line in lines]
        return {str(key) for data in objects for key, value in data.items() if number(value) is not None}
    pattern = pair_pattern()
    return {name for line in lines if "=" in line for name, value, _ in pattern.findall(line) if value}
