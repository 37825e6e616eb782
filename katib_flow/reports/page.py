"""A report as one HTML file that needs nothing else: no network, no other file.

Every text is escaped. A policy in the page allows the two scripts that are written here, by their hashes, and nothing
from anywhere: whatever came through would not run. Plotly's JavaScript travels compressed, and unpacks in the browser.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache, singledispatch
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.reports.blocks import Block, Card, Chart, Code, Facts, Picture, Report, Row, Section, Table, Text
from katib_flow.trial.table import cell

PLOTLY = "plotly.min.js"


def html(report: Report) -> str:
    """The page.

    Raises:
        KatibFlowError: Plotly is not installed.
    """
    plotly, style, script = _plotly(), _file("report.css"), _file("report.js")
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {_hash(script)} {plotly.hash}"
    )
    body = "".join(_section(section, f"s{number}") for number, section in enumerate(report.sections))
    links = "".join(
        f'<a href="#s{number}">{escape(section.title)}</a>' for number, section in enumerate(report.sections)
    )
    about = f'<p class="about">{escape(report.description)}</p>' if report.description else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}: report</title><style>{style}</style></head><body>"
        f'<header><h1>{escape(report.title)} <span class="mark {escape(report.mark)}">{escape(report.mark)}</span></h1>'
        f'{about}<p class="lead">{escape(report.lead)}</p><nav>{links}</nav></header>'
        f"<main>{body}</main><footer>katib-flow</footer>"
        f'<script type="application/octet-stream" id="plotly">{plotly.packed}</script>'
        f"<script>{script}</script></body></html>\n"
    )
    return page.encode("utf-8", "replace").decode()  # a lone surrogate is no text that a file can hold


def _section(section: Section, name: str) -> str:
    return f'<section id="{name}"><h2>{escape(section.title)}</h2>{"".join(map(_html, section.blocks))}</section>'


@singledispatch
def _html(block: Block) -> str:
    raise TypeError(f"no HTML is known for {type(block).__name__}")


@_html.register
def _text(block: Text) -> str:
    return f"<p{' class=soft' if block.soft else ''}>{escape(block.text)}</p>"


@_html.register
def _code(block: Code) -> str:
    text = f"<pre>{escape(block.text)}</pre>"
    return f"<details><summary>{escape(block.title)}</summary>{text}</details>" if block.title else text


@_html.register
def _facts(block: Facts) -> str:
    pairs = (f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in block.facts.items())
    return f"<dl{' class=small' if block.small else ''}>{''.join(pairs)}</dl>"


@_html.register
def _table(block: Table) -> str:
    numeric = [
        all(isinstance(row[place], int | float | None) for row in block.rows) for place in range(len(block.columns))
    ]
    head = "".join(
        f"<th{' class=number' if right else ''}>{escape(name)}</th>"
        for name, right in zip(block.columns, numeric, strict=True)
    )
    rows = "".join(
        f"<tr{' class=best' if place in block.marked else ''}>{''.join(_cells(row, numeric))}</tr>"
        for place, row in enumerate(block.rows)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cells(row: Any, numeric: list[bool]) -> Iterator[str]:
    for value, right in zip(row, numeric, strict=True):
        yield f"<td{' class=number' if right else ''}>{escape(cell(value))}</td>"


@_html.register
def _chart(block: Chart) -> str:
    caption = f"<figcaption>{escape(block.caption)}</figcaption>" if block.caption else ""
    return (
        f'<figure><div class="chart" style="height:{block.height}px">'
        f'<script type="application/json">{_json(block.figure)}</script></div>{caption}</figure>'
    )


@_html.register
def _picture(block: Picture) -> str:
    data = base64.b64encode(
        block.svg.encode("utf-8", "replace")
    ).decode()  # as an image it can hold no script, and styles stay in it
    image = f'<img alt="{escape(block.alt)}" src="data:image/svg+xml;base64,{data}">'
    return f'<div class="picture" title="click: larger, smaller">{image}</div>'


@_html.register
def _card(block: Card) -> str:
    return f"<article><h3>{escape(block.title)}</h3>{''.join(map(_html, block.blocks))}</article>"


@_html.register
def _row(block: Row) -> str:
    return f'<div class="row">{"".join(map(_card, block.cards))}</div>'


def _json(data: Any) -> str:
    """Strict JSON in which no text can end the script that it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=4)
def _file(name: str) -> str:
    return files("katib_flow.reports").joinpath(name).read_text(encoding="utf-8")


class _Plotly:
    """Plotly's JavaScript, packed, and the hash by which the page's policy knows it."""

    def __init__(self, text: str) -> None:
        self.packed = base64.b64encode(gzip.compress(text.encode(), 3, mtime=0)).decode()
        self.hash = _hash(text)


@lru_cache(maxsize=1)
def _plotly() -> _Plotly:
    path = plotly_script()
    if path is None:
        raise KatibFlowError("a report needs Plotly: pip install 'katib-flow[report]'")
    return _Plotly(path.read_text(encoding="utf-8"))


def plotly_script() -> Path | None:
    """Plotly's JavaScript: beside this file, where an image has it without the package, else in the package."""
    package = find_spec("plotly")
    folders = package.submodule_search_locations if package else None
    places = [Path(__file__).parent, *(Path(each) / "package_data" for each in folders or ())]
    return next((found for place in places if (found := place / PLOTLY).is_file()), None)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
