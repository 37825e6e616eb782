"""The parts of a report as plain data: sections with texts, tables, charts and pictures. ``page`` renders them as HTML.

Texts are plain: text from users is escaped when it is rendered, never before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figure = Mapping[str, Any]
"""A chart in Plotly's format: ``data`` and ``layout`` as plain JSON."""


@dataclass(frozen=True)
class Text:
    """A paragraph; ``soft`` makes it a remark."""

    text: str
    soft: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to copy, folded under ``title`` if there is one."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values side by side, as the main content of a card unless they are ``small``."""

    facts: Mapping[str, str]
    small: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Attributes:
        marked: the positions of highlighted rows.
        title: the title under which the table is folded, if there is one.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    marked: frozenset[int] = frozenset()
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        caption: the text below it.
        height: in pixels, on a wide screen.
        title: a short description for readers who cannot see it.
        width: the minimum width in pixels, below which it scrolls in its frame; 0 for no minimum.
    """

    figure: Figure
    caption: str = ""
    height: int = 360
    title: str = ""
    width: int = 0


@dataclass(frozen=True)
class Picture:
    """An SVG; ``alt`` describes it to readers who cannot see it."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Card:
    """A group of blocks under a title."""

    title: str
    blocks: "Sequence[Block]"


@dataclass(frozen=True)
class Row:
    """Cards side by side, as many as fit."""

    cards: Sequence[Card]


Block = Text | Code | Facts | Table | Chart | Picture | Card | Row


@dataclass(frozen=True)
class Section:
    """A part of a report with a heading, to which the page links."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A complete report.

    Attributes:
        mark: the status, in one word.
        lead: the result, in a sentence or two.
    """

    title: str
    mark: str
    lead: str
    description: str
    sections: Sequence[Section]
