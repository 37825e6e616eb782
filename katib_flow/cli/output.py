"""Records as a table for people, or as JSON, CSV or Parquet for programs."""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError

Row = Mapping[str, Any]


class Output(StrEnum):
    """The values of ``--output``."""

    TABLE = "table"
    JSON = "json"


class Format(StrEnum):
    """The values of ``export --format``."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def show(
    rows: Sequence[Row], output: Output, *, title: str = "", lines: bool = False, empty: str = "no results yet"
) -> None:
    """Print records as a table or as JSON.

    Args:
        lines: draw lines between the records of a table, whose cells may have several lines.
        empty: the text to print instead of an empty table.
    """
    if output is Output.JSON:
        print(to_json(rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from katib_flow.trial.table import cell, printable, telling

    def content(value: Any) -> Text:
        return Text("\n".join(map(printable, cell(value).split("\n"))) if lines else printable(cell(value)))

    if not rows:
        print(empty)
        return
    columns = telling(rows)
    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold", show_lines=lines)
    for name in columns:
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(content(row[name]) for name in columns))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 200))  # a pipe or a log has no width
    console.print(table)


def show_one(row: Row, output: Output) -> None:
    """Print one record: one line per field that is not empty, or JSON."""
    if output is Output.JSON:
        print(to_json(row))
        return
    from katib_flow.trial.table import cell, printable

    width = max(len(name) for name in row)
    for name, value in row.items():
        if value not in (None, ""):
            print(f"{name:<{width}}  {printable(cell(value))}")


def to_json(data: Any) -> str:
    """Strict JSON, with NaN and infinity as text."""
    return json.dumps(_strict(data), indent=2, ensure_ascii=False)


def _strict(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, Mapping):
        return {str(name): _strict(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_strict(value) for value in data]
    return data


def export(rows: Sequence[Row], format_: Format, path: Path | None) -> None:
    """Write records to a file, or to stdout if ``path`` is None (not for Parquet).

    Raises:
        KatibFlowError: the file cannot be written, or Parquet needs a file name or pandas.
    """
    try:
        if format_ is Format.PARQUET:
            _parquet(rows, path)
        elif path is None:
            _text(rows, format_, sys.stdout)
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                _text(rows, format_, file)
    except OSError as error:
        raise KatibFlowError(f"{path}: cannot be written: {error.strerror}") from None


def _text(rows: Sequence[Row], format_: Format, file: Any) -> None:
    if format_ is Format.JSON:
        print(to_json(rows), file=file)
    elif rows:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _parquet(rows: Sequence[Row], path: Path | None) -> None:
    if path is None:
        raise KatibFlowError("--out: found nothing, need a file name, because the format is parquet")
    try:
        import pandas as pd
    except ImportError:
        raise KatibFlowError("parquet needs pandas and pyarrow: pip install 'katib-flow[pandas]'") from None
    frame = pd.DataFrame(list(rows))
    mixed = [name for name, column in frame.items() if column.dtype == object and column.map(type).nunique() > 1]
    frame.astype(dict.fromkeys(mixed, "string")).to_parquet(path)
