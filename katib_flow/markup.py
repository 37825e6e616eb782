"""Facts and tables as HTML, for notebooks: whatever stands in a cell is text, and is escaped here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

MOST_ROWS = 100
"""Of a table; of a longer one the first and the last are shown."""


def plain(text: object) -> str:
    """Any text as HTML that shows it; half a character, which no page can hold, by its number."""
    return escape(str(text).encode("utf-8", "backslashreplace").decode())


def cell(value: Any) -> str:
    """A value as a person reads it, as HTML."""
    if value is None:
        return ""
    if isinstance(value, float):
        return plain(f"{value:.6g}")
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(name)}={cell(each)}" for name, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(cell, value))
    return plain(value)


def facts(title: str, known: Mapping[str, Any]) -> str:
    """Names and values, side by side; what has no value is left out."""
    told = {plain(name): text for name, value in known.items() if (text := cell(value))}
    rows = "".join(f"<tr><th style='text-align:left'>{name}</th><td>{text}</td></tr>" for name, text in told.items())
    return f"<table>{_caption(title)}<tbody>{rows}</tbody></table>"


def table(title: str, rows: Sequence[Mapping[str, Any]], most: int = MOST_ROWS) -> str:
    """Records under columns, which are all that any of them has."""
    if not rows:
        return f"<p>{plain(title)}: nothing yet</p>"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{plain(name)}</th>" for name in columns)
    first, last = (rows, []) if len(rows) <= most else (rows[: most // 2], rows[-(most // 2) :])
    body = _rows(columns, first)
    if last:
        left_out = f"{len(rows) - len(first) - len(last)} more"
        body += f"<tr><td colspan='{len(columns)}'>{left_out}</td></tr>{_rows(columns, last)}"
    return f"<table>{_caption(title)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{cell(row.get(name))}</td>' for name in columns)}</tr>" for row in rows)


def _caption(title: str) -> str:
    return f"<caption style='text-align:left'>{plain(title)}</caption>"
