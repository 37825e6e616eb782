"""What a report is made of, as plain data: sections of texts, tables, charts and pictures. ``page`` makes HTML of it.

Texts are plain: whatever a user wrote is escaped where it is put on the page, never before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figure = Mapping[str, Any]
"""A chart as Plotly has it: ``data`` and ``layout``, plain JSON."""


@dataclass(frozen=True)
class Text:
    """A paragraph; ``soft`` is a remark."""

    text: str
    soft: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to copy. ``title`` is what unfolds them; without one they are open."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values, side by side; in a card they are what it is about, unless they are ``small``."""

    facts: Mapping[str, str]
    small: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Attributes:
        marked: positions of rows that stand out.
        title: what unfolds the table; without one it is open.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    marked: frozenset[int] = frozenset()
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        caption: what stands below it.
        height: in pixels, on a wide screen.
        title: what it shows, in a few words, for those who cannot see it.
        width: pixels below which it scrolls sideways in its frame; 0 where it may become as narrow as the page.
    """

    figure: Figure
    caption: str = ""
    height: int = 360
    title: str = ""
    width: int = 0


@dataclass(frozen=True)
class Picture:
    """An SVG with what it shows, for those who cannot see it."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Card:
    """A few blocks that belong together, under a title."""

    title: str
    blocks: "Sequence[Block]"


@dataclass(frozen=True)
class Row:
    """Cards side by side, as many as there is room for."""

    cards: Sequence[Card]


Block = Text | Code | Facts | Table | Chart | Picture | Card | Row


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        mark: the status, in one word.
        lead: what came of it, in a sentence or two.
    """

    title: str
    mark: str
    lead: str
    description: str
    sections: Sequence[Section]
