"""Charts of a search as plain data for Plotly, made without Plotly: only the page that shows them needs its JavaScript.

The colours are readable on light and dark backgrounds; the page adds those of text and axes. Texts are escaped, because
Plotly interprets some HTML in labels.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from katib_flow.history import Metric, Trial, Value
from katib_flow.reports.blocks import Figure
from katib_flow.reports.importance import Importance
from katib_flow.spec.parameters import FloatParameter, IntParameter, Parameter
from katib_flow.spec.sections import Objective
from katib_flow.spec.template import as_text
from katib_flow.trial.table import cell

MOST_POINTS = 2000
"""In a chart of trials; if there are more, all improvements and an even selection of the others are drawn."""
MOST_DESCRIBED = 500
"""The most trials in a chart whose labels include their parameters, which would otherwise fill the file."""
BLUE, AMBER, GREY, GREEN = "#3b82f6", "#d97706", "#94a3b8", "#16a34a"
RED, PINK = "#dc2626", "#db2777"
PALETTE = ("#3b82f6", "#d97706", "#16a34a", "#a855f7", "#dc2626", "#0891b2", "#ca8a04", "#db2777", "#64748b", "#84cc16")
SCALE = [[0, "#a8b3c2"], [1, "#2563eb"]]
WORSE_TO_BETTER = [[0, "#94a3b8"], [0.4, "#60a5fa"], [0.65, "#3b82f6"], [0.85, "#9333ea"], [1, PINK]]
"""The colour scale of a maximized objective; reversed for a minimized one."""
COLUMNS = 3
ABOVE = {"legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}}
ROW = 230  # pixels per row of small charts


def plain(text: object, most: int = 60) -> str:
    """A text for a label of a chart: on one line, shortened, and escaped, because Plotly interprets markup."""
    shown = " ".join(str(text).split())
    return escape(shown if len(shown) <= most else shown[: most - 1] + "…", quote=False)


def number(value: float) -> float | None:
    """A number with six digits; None, which leaves a gap, if it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def described(trial: Trial, values: str = "", count: int = 1) -> str:
    """The label of a trial when hovering: its id, the values, and its parameters unless too many trials are drawn.

    Args:
        count: the number of trials that are drawn.
    """
    parameters = list(trial.assignment.items())[:16] if count <= MOST_DESCRIBED else []
    shown = [f"{plain(name)} = {plain(cell(value))}" for name, value in parameters]
    return "<br>".join([f"<b>{plain(trial.id)}</b>{f': {values}' if values else ''}", *shown])


def thinned(trials: Sequence[Trial], keep: frozenset[int], most: int = MOST_POINTS) -> list[Trial]:
    """About ``most`` trials, evenly selected, and those with an index in ``keep``."""
    if len(trials) <= most:
        return list(trials)
    step = math.ceil(len(trials) / most)
    return [trial for position, trial in enumerate(trials) if position % step == 0 or trial.index in keep]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """The layout of an axis; ``more`` are further properties."""
    return {"title": {"text": plain(title)}, "automargin": True, "zeroline": False, **more}


def window(values: Sequence[float], objective: Objective) -> tuple[list[float] | None, int]:
    """The range of an axis without a few very bad values, which would hide the rest, and the number of those.

    The range is None if all values fit.
    """
    losses = np.sort([objective.loss(value) for value in values])
    if len(losses) < 8:
        return None, 0
    low, high = losses[0], losses[int(len(losses) * 0.9)]
    room = 4 * (high - low)
    if room <= 0 or losses[-1] - low <= room:
        return None, 0
    top = float(losses[losses <= low + room].max())
    pad = 0.06 * (top - low)
    ends = sorted((objective.loss(float(low - pad)), objective.loss(float(top + pad))))
    return [float(end) for end in ends], int((losses > top).sum())


def best_so_far(
    objective: Objective, trials: Sequence[Trial], improved: Sequence[Trial], last: int, most: int = MOST_POINTS
) -> Figure:
    """The value of each trial over its index, and the best value so far.

    Args:
        trials: the trials with a value of the objective.
        improved: the trials that were better than all before.
        last: the index at which the curve of the best value ends.
        most: the most trials to draw, besides the improvements.
    """
    name, shown = objective.metric, thinned(trials, frozenset(trial.index for trial in improved), most)
    values = [trial.observations[name] for trial in shown]
    spread, _ = window(values, objective)
    steps = [*improved, *improved[-1:]]
    indices = [trial.index for trial in improved] + ([max(last, improved[-1].index)] if improved else [])
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "trial",
        "x": [trial.index for trial in shown],
        "y": [number(value) for value in values],
        "text": [
            described(trial, f"{plain(name)} {value:.6g}", len(shown))
            for trial, value in zip(shown, values, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": GREY, "size": 7, "opacity": 0.7},
    }
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "best so far",
        "x": indices,
        "y": [number(trial.observations[name]) for trial in steps],
        "line": {"shape": "hv", "color": BLUE, "width": 2.5},
        "marker": {"size": 6},
        "hoverinfo": "skip",
    }
    goal = [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": objective.goal, "y1": objective.goal,
            "line": {"color": GREEN, "dash": "dash", "width": 1.5},
        }
    ] if objective.goal is not None else []  # fmt: skip
    layout = {
        "xaxis": axis("trial", **({"dtick": 1} if last <= 12 else {})),
        "yaxis": axis(name, **({"range": spread} if spread else {})),
        "shapes": goal,
        "hovermode": "closest",
        **ABOVE,
    }
    return {"data": [dots, line], "layout": layout}


def curves(objective: Objective, series: Mapping[str, Sequence[Metric]], best: str) -> Figure:
    """The values of a metric in each trial over its steps; the best trial is highlighted."""
    lines: list[dict[str, Any]] = []
    for position, (name, points) in enumerate(series.items()):
        chosen = name == best
        lines.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(points) < 30 else "lines",
                "name": plain(name),
                "x": [point.step for point in points],
                "y": [number(float(point.value)) for point in points if not isinstance(point.value, tuple)],
                "line": {"color": BLUE if chosen else PALETTE[1:][position % (len(PALETTE) - 1)],
                         "width": 3 if chosen else 1.2},
                "marker": {"size": 4},
                "opacity": 1.0 if chosen else 0.6,
                "text": plain(name),
                "hovertemplate": "%{text}, step %{x}: %{y:.6g}<extra></extra>",
            }
        )  # fmt: skip
    ends = [float(points[-1].value) for points in series.values() if not isinstance(points[-1].value, tuple)]
    spread, _ = window([end for end in ends if math.isfinite(end)], objective)
    y = axis(objective.metric, **({"range": spread} if spread else {}))
    return {"data": lines[::-1], "layout": {"xaxis": axis("step"), "yaxis": y, "legend": {"traceorder": "reversed"}}}


def against(objective: Objective, parameters: Mapping[str, Parameter], trials: Sequence[Trial]) -> Figure:
    """One small chart per parameter: the objective over its value, with later trials in a deeper blue."""
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = grid(len(parameters))
    spread, _ = window([trial.observations[objective.metric] for trial in trials], objective)
    for number_, (name, parameter) in enumerate(parameters.items(), start=1):
        suffix = "" if number_ == 1 else str(number_)
        chosen = [trial for trial in trials if name in trial.assignment]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": _positions(parameter, [trial.assignment[name] for trial in chosen]),
                "y": [number(trial.observations[objective.metric]) for trial in chosen],
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                "text": [f"{plain(trial.id)}: {plain(cell(trial.assignment[name]))}" for trial in chosen],
                "hovertemplate": "%{text}, %{y:.6g}<extra></extra>",
                "marker": {
                    "color": [trial.index for trial in chosen],
                    "colorscale": SCALE,
                    "size": 6,
                    "opacity": 0.8,
                },
                "showlegend": False,
            }
        )
        layout[f"xaxis{suffix}"] = axis(name, **ticks(parameter))
        first = number_ % COLUMNS == 1
        shared = {"matches": "y"} if suffix else {}
        layout[f"yaxis{suffix}"] = axis(
            objective.metric if first else "", **shared, **({"range": spread} if spread else {})
        )
    return {"data": data, "layout": layout}


def grid(count: int) -> dict[str, Any]:
    """The layout of ``count`` small charts side by side."""
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    gaps = {"xgap": 0.12, "ygap": 0.34 if rows > 1 else 0}
    return {"grid": {"rows": rows, "columns": columns, "pattern": "independent", **gaps}, "hovermode": "closest"}


def grid_height(count: int) -> int:
    """The height of ``count`` small charts, in pixels."""
    return 60 + ROW * math.ceil(count / COLUMNS)


def _numeric(parameter: Parameter) -> bool:
    return isinstance(parameter, FloatParameter | IntParameter)


def _positions(parameter: Parameter, values: Sequence[Value]) -> list[Any]:
    """The positions of values on an axis; those of choices are spread a little, so that no trial hides another."""
    if _numeric(parameter):
        return [number(float(value or 0)) for value in values]
    seen: dict[int, int] = {}
    positions: list[float] = []
    for value in values:
        at = parameter.position(value)
        seen[at] = seen.get(at, 0) + 1
        positions.append(round(at + 0.5 * ((seen[at] * 0.618034) % 1 - 0.5), 3))  # golden ratio: even, reproducible
    return positions


def ticks(parameter: Parameter) -> dict[str, Any]:
    """The properties of a parameter's axis: logarithmic, or with its choices at whole numbers."""
    if _numeric(parameter):
        return {"type": "log"} if getattr(parameter, "scale", "") in ("log", "lognormal") else {}
    values = [plain(as_text(value), 14) for value in parameter.values()]
    return {"tickvals": list(range(len(values))), "ticktext": values, "range": [-0.6, len(values) - 0.4]}


def bars(importance: Importance, names: Sequence[str]) -> Figure:
    """The importance of parameters as bars, the first on top, with the deviation between the trees."""
    names = names[::-1]
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [number(importance.shares[name]) for name in names],
        "y": [plain(name, 40) for name in names],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [number(importance.deviations[name]) for name in names],
            "arrayminus": [number(min(importance.deviations[name], importance.shares[name])) for name in names],
            "color": GREY,
        },
        "marker": {"color": BLUE},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    x = axis(f"share of the variance of {importance.metric}", tickformat=".0%", rangemode="tozero")
    return {"data": [bar], "layout": {"xaxis": x, "yaxis": {"automargin": True, "type": "category"}}}


def front_of(
    first: Objective, second: Objective, trials: Sequence[Trial], front: Sequence[Trial], *, joined: bool
) -> Figure:
    """Two objectives against each other, with the trials on the front highlighted.

    Args:
        joined: whether to join the trials on the front by a line, which makes sense with only two objectives.
    """
    best = frozenset(trial.index for trial in front)

    def dots(chosen: Sequence[Trial], name: str, colour: str, mode: str, **more: Any) -> dict[str, Any]:
        pairs = [(trial.observations[first.metric], trial.observations[second.metric]) for trial in chosen]
        texts = [f"{plain(first.metric)} {x:.6g}, {plain(second.metric)} {y:.6g}" for x, y in pairs]
        return {
            "type": "scatter",
            "mode": mode,
            "name": name,
            "x": [number(x) for x, _ in pairs],
            "y": [number(y) for _, y in pairs],
            "text": [described(trial, text, len(trials)) for trial, text in zip(chosen, texts, strict=True)],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": colour, "size": 8, "opacity": 0.75},
            **more,
        }

    others = [trial for trial in thinned(trials, best) if trial.index not in best]
    ordered = sorted(thinned(front, frozenset()), key=lambda trial: trial.observations[first.metric])
    line = {"line": {"color": BLUE, "width": 1.5, "dash": "dot"}}
    mode = "lines+markers" if joined else "markers"
    data = [dots(others, "trial", GREY, "markers"), dots(ordered, "front", BLUE, mode, **line)]
    axes = {
        key: axis(f"{objective.metric} ({objective.direction})")
        for key, objective in (("xaxis", first), ("yaxis", second))
    }
    return {"data": data, "layout": {**axes, "hovermode": "closest", **ABOVE}}
