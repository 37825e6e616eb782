"""Renders a report as one self-contained HTML file, which needs no network and no other file.

All texts are escaped. In addition, a content security policy allows only the two scripts of this page, by their hashes,
so that no other script could run. Plotly's JavaScript is compressed, and unpacked in the browser.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
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
LIVE = "; connect-src 'self'"


def html(report: Report, *, live: bool = False) -> str:
    """The complete page.

    Args:
        live: True to have the page fetch changes from its server.

    Raises:
        KatibFlowError: Plotly is not installed.
    """
    plotly, style, script = _plotly(), _file("report.css"), _file("report.js")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src {_hash(script)} {plotly.hash}{LIVE if live else ''}"
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}: report</title><style>{style}</style></head>"
        f"<body{' data-live' if live else ''}>"
        '<a class="skip" href="#content">Skip to the content</a>'
        f"{content(report)}<footer>katib-flow</footer>"
        f'<script type="application/octet-stream" id="plotly">{plotly.packed}</script>'
        f"<script>{script}</script></body></html>\n"
    )
    return _storable(page)


def content(report: Report) -> str:
    """The part of the page that differs between reports: the header and the sections."""
    names = _names(report.sections)
    body = "".join(_section(section, name) for section, name in zip(report.sections, names, strict=True))
    links = "".join(
        f'<li><a href="#{name}">{escape(section.title)}</a></li>'
        for section, name in zip(report.sections, names, strict=True)
    )
    about = f'<p class="about">{escape(report.description)}</p>' if report.description else ""
    return _storable(
        f'<header><h1>{escape(report.title)} <span class="mark {escape(report.mark)}">{escape(report.mark)}</span></h1>'
        f'{about}<p class="lead">{escape(report.lead)}</p><nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f'<main id="content" tabindex="-1">{body}</main>'
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # a file cannot hold lone surrogates


def _names(sections: Sequence[Section]) -> list[str]:
    """An id for each section, made from its title, so that it does not depend on the other sections."""
    names: list[str] = []
    for section in sections:
        name = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _section(section: Section, name: str) -> str:
    blocks = "".join(map(_html, section.blocks))
    digest = hashlib.sha256(blocks.encode("utf-8", "replace")).hexdigest()[:16]
    head = f'<section id="{name}" aria-labelledby="{name}-title" data-digest="{digest}">'
    return f'{head}<h2 id="{name}-title">{escape(section.title)}</h2>{blocks}</section>'


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
        all(isinstance(row[index], int | float | None) for row in block.rows) for index in range(len(block.columns))
    ]
    sortable = len(block.rows) > 1
    head = "".join(
        f"<th{' class=number' if right else ''}{' aria-sort=none' if sortable else ''}>"
        f"{f'<button type=button>{escape(name)}</button>' if sortable else escape(name)}</th>"
        for name, right in zip(block.columns, numeric, strict=True)
    )
    rows = "".join(
        f"<tr{' class=best' if index in block.marked else ''}>{''.join(_cells(row, numeric))}</tr>"
        for index, row in enumerate(block.rows)
    )
    label = escape(f"Table of {', '.join(block.columns[:4])}")
    table = (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return f"<details><summary>{escape(block.title)}</summary>{table}</details>" if block.title else table


def _cells(row: Any, numeric: list[bool]) -> Iterator[str]:
    for value, right in zip(row, numeric, strict=True):
        yield f"<td{' class=number' if right else ''}>{escape(cell(value))}</td>"


@_html.register
def _chart(block: Chart) -> str:
    caption = f"<figcaption>{escape(block.caption)}</figcaption>" if block.caption else ""
    wide = f";min-width:{block.width}px" if block.width else ""
    label = escape(block.title or block.caption)
    chart = (
        f'<div class="chart" role="img" aria-label="{label}" style="height:{block.height}px{wide}">'
        f'<script type="application/json">{_json(block.figure)}</script></div>'
    )
    frame = f'<div class="frame" role="region" tabindex="0" aria-label="{label}">{chart}</div>' if wide else chart
    return f"<figure>{frame}{caption}</figure>"


@_html.register
def _picture(block: Picture) -> str:
    data = base64.b64encode(
        block.svg.encode("utf-8", "replace")
    ).decode()  # scripts in an image do not run, and its styles do not affect the page
    image = f'<img alt="{escape(block.alt)}" src="data:image/svg+xml;base64,{data}">'
    return f'<button type="button" class="picture" aria-expanded="false" title="larger, smaller">{image}</button>'


@_html.register
def _card(block: Card) -> str:
    return f"<article><h3>{escape(block.title)}</h3>{''.join(map(_html, block.blocks))}</article>"


@_html.register
def _row(block: Row) -> str:
    return f'<div class="row">{"".join(map(_card, block.cards))}</div>'


def _json(data: Any) -> str:
    """Strict JSON in which no text can close the surrounding script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=4)
def _file(name: str) -> str:
    return files("katib_flow.reports").joinpath(name).read_text(encoding="utf-8")


class _Plotly:
    """Plotly's JavaScript, compressed, with its hash for the content security policy."""

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
    """The path of Plotly's JavaScript: beside this file, as in our images, or in the Python package; or None."""
    package = find_spec("plotly")
    folders = package.submodule_search_locations if package else None
    candidates = [Path(__file__).parent, *(Path(folder) / "package_data" for folder in folders or ())]
    return next((path for folder in candidates if (path := folder / PLOTLY).is_file()), None)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
