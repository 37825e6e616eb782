"""Facts and tables as HTML, for notebooks; all text is escaped here, and only here."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

MOST_ROWS = 100
"""The most rows of a table; of a longer one, only the first and last rows are shown."""


def plain(text: object) -> str:
    """Escape any text for HTML; a lone surrogate, which a page cannot contain, is shown as a backslash escape."""
    return escape(str(text).encode("utf-8", "backslashreplace").decode())


def cell(value: Any) -> str:
    """A value as HTML for people: floats with six digits, mappings as name=value."""
    if value is None:
        return ""
    if isinstance(value, float):
        return plain(f"{value:.6g}")
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(name)}={cell(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(cell, value))
    return plain(value)


def facts(title: str, known: Mapping[str, Any]) -> str:
    """A table of names and values; names without a value are left out."""
    texts = {plain(name): text for name, value in known.items() if (text := cell(value))}
    rows = "".join(f"<tr><th style='text-align:left'>{name}</th><td>{text}</td></tr>" for name, text in texts.items())
    return f"<table>{_caption(title)}<tbody>{rows}</tbody></table>"


def table(title: str, rows: Sequence[Mapping[str, Any]], most: int = MOST_ROWS) -> str:
    """A table of records, with a column for each key that any of them has."""
    if not rows:
        return f"<p>{plain(title)}</p>"
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
