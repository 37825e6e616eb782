"""Charts of an architecture search as plain data for Plotly: a supernet's choices and weights, feature statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

from katib_flow.reports.blocks import Figure
from katib_flow.reports.charts import ABOVE, AMBER, BLUE, COLUMNS, GREY, PALETTE, axis, grid, number, plain


def choices(slots: Mapping[str, Sequence[str]], taken: Mapping[str, Sequence[tuple[int, int]]]) -> Figure:
    """The preferred choice of each slot over the steps of a search: one row per slot, one colour per choice.

    Args:
        slots: the names of the choices of each slot.
        taken: by slot, pairs of a step and the position of the choice.
    """
    slots = _short(slots)
    names = list(dict.fromkeys(name for known in slots.values() for name in known))
    steps = sorted({step for pairs in taken.values() for step, _ in pairs})
    rows: list[list[int | None]] = []
    words: list[list[str]] = []
    for slot, known in slots.items():
        at = dict(taken.get(slot, ()))
        rows.append([names.index(known[at[step]]) if step in at else None for step in steps])
        words.append([plain(known[at[step]]) if step in at else "" for step in steps])
    count = len(names)
    colours = [PALETTE[position % len(PALETTE)] for position in range(count)]
    stops = [[edge / count, colour] for index, colour in enumerate(colours) for edge in (index, index + 1)]
    map_ = {
        "type": "heatmap",
        "x": steps,
        "y": [plain(slot, 30) for slot in slots],
        "z": rows,
        "text": words,
        "zmin": -0.5,
        "zmax": count - 0.5,
        "colorscale": stops,
        "xgap": 1,
        "ygap": 3,
        "opacity": 0.85,
        "hovertemplate": "%{y}, step %{x}: %{text}<extra></extra>",
        "colorbar": {"tickvals": list(range(count)), "ticktext": [plain(name, 20) for name in names], "thickness": 14},
    }
    y = {"automargin": True, "type": "category", "autorange": "reversed"}
    return {"data": [map_], "layout": {"xaxis": axis("step of the search"), "yaxis": y}}


def _short(slots: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """The names of the choices without their parameters, if they stay distinct: ``max3`` for ``max3(s=2)``."""
    cut = {slot: [name.split("(")[0] for name in names] for slot, names in slots.items()}
    return cut if all(len(set(names)) == len(names) for names in cut.values()) else slots


def weights(slots: Mapping[str, Sequence[str]], series: Mapping[str, Sequence[Sequence[tuple[int, float]]]]) -> Figure:
    """The weight of each choice over the steps of a search, with one small chart per slot.

    Args:
        slots: the names of the choices of each slot.
        series: by slot and choice, pairs of a step and a weight.
    """
    slots = _short(slots)
    names = list(dict.fromkeys(name for known in slots.values() for name in known))
    named: set[str] = set()
    data: list[dict[str, Any]] = []
    layout = grid(len(slots)) | ABOVE
    for count, (slot, known) in enumerate(slots.items(), start=1):
        suffix = "" if count == 1 else str(count)
        for name, points in zip(known, series[slot], strict=True):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": plain(name),
                    "legendgroup": plain(name),
                    "showlegend": name not in named,
                    "x": [step for step, _ in points],
                    "y": [number(weight) for _, weight in points],
                    "xaxis": f"x{suffix}",
                    "yaxis": f"y{suffix}",
                    "line": {"color": PALETTE[names.index(name) % len(PALETTE)], "width": 2},
                    "text": plain(name),
                    "hovertemplate": "%{text}, step %{x}: %{y:.3f}<extra></extra>",
                }
            )
        named.update(known)
        layout[f"xaxis{suffix}"] = axis(slot)
        layout[f"yaxis{suffix}"] = axis("weight" if count % COLUMNS == 1 else "", rangemode="tozero")
    return {"data": data, "layout": layout}


def statistics(values: Mapping[str, float], gone: frozenset[str] | None, name: str) -> Figure:
    """A statistic of each branch of a network; branches that the next network does not have are amber.

    Args:
        values: the statistic by branch.
        gone: the branches that the next network does not have; None if there is no next network.
        name: the title of the axis.
    """
    keys = sorted(values, key=lambda key: -values[key])[::-1]
    groups = (
        [("all", GREY, keys)]
        if gone is None
        else [
            ("kept", BLUE, [key for key in keys if key not in gone]),
            ("pruned", AMBER, [k for k in keys if k in gone]),
        ]
    )
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label,
            "x": [number(values[key]) for key in chosen],
            "y": [plain(key, 40) for key in chosen],
            "marker": {"color": colour},
            "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
        }
        for label, colour, chosen in groups
        if chosen
    ]
    order = {"categoryorder": "array", "categoryarray": [plain(key, 40) for key in keys]}
    layout = {
        "xaxis": axis(name, rangemode="tozero"),
        "yaxis": {"automargin": True, "type": "category", **order},
        "showlegend": gone is not None,
        "bargap": 0.25,
        **ABOVE,
    }
    return {"data": data, "layout": layout}
