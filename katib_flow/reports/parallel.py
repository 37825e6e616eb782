"""Parallel coordinates: one axis per parameter, the objective on the last axis, and one line per trial.

Plotly's own ``parcoords`` compiles code in the browser, which the page's policy forbids, so we draw plain lines.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import Trial
from katib_flow.reports.blocks import Figure
from katib_flow.reports.charts import ABOVE, PINK, number, plain, thinned, window
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.sections import Objective
from katib_flow.spec.template import as_text
from katib_flow.trial.table import cell

Array = NDArray[np.float64]
MOST_LINES = 200
MOST_BEST = 25  # lines of the best trials if there are too many trials; the others are an even selection
MOST_AXES = 9  # besides the objective
MOST_TICKS = 8
AXIS_WIDTH = 92  # pixels; on less space, labels would overlap
INACTIVE = -0.12
"""The height at which lines pass the axis of an inactive parameter, or of a value that is not in the space."""
BANDS = (
    (0.05, "best 5%", PINK, 2.0, 0.95),
    (0.2, "next 15%", "#9333ea", 1.4, 0.7),
    (0.5, "next 30%", "#3b82f6", 1.1, 0.6),
    (1.0, "worse half", "#94a3b8", 1.0, 0.5),
)
"""For each band, the best first: the share of trials at its end, its name, colour, line width and opacity."""


def drawn(objective: Objective, trials: Sequence[Trial]) -> list[Trial]:
    """The trials to draw, the best first; if there are many, the ``MOST_BEST`` and an even selection of the others."""
    ranked = sorted(trials, key=lambda trial: objective.loss(trial.observations[objective.metric]))
    if len(ranked) <= MOST_LINES:
        return ranked
    best = ranked[:MOST_BEST]
    return [*best, *thinned(ranked[len(best) :], frozenset(), MOST_LINES - len(best))]


def parallel(objective: Objective, parameters: Mapping[str, Parameter], trials: Sequence[Trial]) -> Figure:
    """Lines in bands by the rank of the trials; a click on a band in the legend hides it.

    Args:
        parameters: at most ``MOST_AXES``.
        trials: the trials with a value of the objective.
    """
    lines = drawn(objective, trials)
    heights = np.column_stack(
        [*(_heights(name, parameter, lines) for name, parameter in parameters.items()), _scores(objective, lines)]
    )
    labels = [
        [*(_setting(name, trial) for name in parameters), f"{plain(objective.metric)} {_value(objective, trial):.6g}"]
        for trial in lines
    ]
    ranked = sorted(objective.loss(_value(objective, trial)) for trial in trials)
    borders = [0, *(math.ceil(share * len(ranked)) for share, *_ in BANDS)]
    losses = [objective.loss(_value(objective, trial)) for trial in lines]
    data: list[dict[str, Any]] = []
    for (low, high), band in reversed(list(zip(pairwise(borders), BANDS, strict=True))):
        if low == high:
            continue
        worst, better = ranked[high - 1], ranked[low - 1] if low else -math.inf
        chosen = [index for index, loss in enumerate(losses) if better < loss <= worst]
        if chosen:
            data.append(_band(band, [lines[index] for index in chosen], heights[chosen], [labels[i] for i in chosen]))
    return {"data": data, "layout": _layout(objective, parameters, heights, lines)}


def _value(objective: Objective, trial: Trial) -> float:
    return trial.observations[objective.metric]


def _heights(name: str, parameter: Parameter, trials: Sequence[Trial]) -> Array:
    """The heights at which lines pass an axis: quantiles of the prior; those of one choice are spread a little."""
    active = [index for index, trial in enumerate(trials) if name in trial.assignment]
    heights = np.full(len(trials), np.nan)
    heights[active] = parameter.units([trials[index].assignment[name] for index in active])
    if parameter.size is not None and parameter.size <= MOST_TICKS:
        room = 0.5 / parameter.size
        heights += room * ((np.arange(len(trials)) * 0.618034) % 1 - 0.5)  # golden ratio: even, reproducible
    return np.where(np.isnan(heights), INACTIVE, heights)


def _scores(objective: Objective, trials: Sequence[Trial]) -> Array:
    """The heights at which lines pass the axis of the objective: 1 for the best, 0 for the worst and for outliers."""
    low, high = _ends(objective, trials)
    losses = np.array([objective.loss(_value(objective, trial)) for trial in trials])
    return np.clip((high - losses) / ((high - low) or 1.0), 0.0, 1.0)


def _ends(objective: Objective, trials: Sequence[Trial]) -> tuple[float, float]:
    """The lowest and the highest loss on the axis of the objective."""
    values = [_value(objective, trial) for trial in trials]
    spread, _ = window(values, objective)
    losses = [objective.loss(value) for value in values]
    return min(losses), max(losses) if spread is None else max(objective.loss(end) for end in spread)


def _setting(name: str, trial: Trial) -> str:
    if name not in trial.assignment:
        return f"{plain(name)} is inactive"
    value = trial.assignment[name]
    return f"{plain(name)} = {'null' if value is None else plain(cell(value))}"


def _band(band: Any, trials: Sequence[Trial], heights: Array, labels: Sequence[Sequence[str]]) -> dict[str, Any]:
    """All lines of a band as one path, with gaps between them."""
    _, name, colour, width, opacity = band
    count = heights.shape[1]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [x for _ in trials for x in (*range(count), None)],
        "y": [y for row in heights for y in (*(number(float(height)) for height in row), None)],
        "text": [text for trial, row in zip(trials, labels, strict=True) for text in (*_texts(trial, row), "")],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": colour, "width": width},
        "opacity": opacity,
    }


def _texts(trial: Trial, labels: Sequence[str]) -> Iterator[str]:
    return (f"<b>{plain(trial.id)}</b>: {label}" for label in labels)


def _layout(
    objective: Objective, parameters: Mapping[str, Parameter], heights: Array, trials: Sequence[Trial]
) -> dict[str, Any]:
    names = [*parameters, objective.metric]
    labels = [
        (axis, height, text) for axis, parameter in enumerate(parameters.values()) for height, text in _ticks(parameter)
    ]
    low, high = _ends(objective, trials)
    labels += [
        (len(parameters), height, f"{objective.loss(high + (low - high) * height):.4g}")
        for height in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    absent = bool((heights == INACTIVE).any())
    if absent:
        labels += [(axis, INACTIVE, "inactive") for axis in np.flatnonzero((heights == INACTIVE).any(axis=0))]
    lines = [
        {
            "type": "line", "x0": axis, "x1": axis, "y0": 0, "y1": 1, "layer": "below",
            "line": {"width": 1.5, "color": "#94a3b8"},
        }
        for axis in range(len(names))
    ]  # fmt: skip
    notes = [
        {
            "x": int(axis), "y": height, "text": text, "showarrow": False, "xanchor": "right", "xshift": -3,
            "font": {"size": 10},
        }
        for axis, height, text in labels
    ]  # fmt: skip
    x = {
        "tickvals": list(range(len(names))),
        "ticktext": [f"<b>{plain(name, 13)}</b>" for name in names],
        "range": [-0.55, len(names) - 0.85],
        "showgrid": False, "zeroline": False, "showline": False, "fixedrange": True, "tickangle": 0,
    }  # fmt: skip
    y = {"visible": False, "range": [INACTIVE - 0.06 if absent else -0.06, 1.06], "fixedrange": True}
    return {
        "xaxis": x,
        "yaxis": y,
        "shapes": lines,
        "annotations": notes,
        "hovermode": "closest",
        "showlegend": True,
        "margin": {"l": 16, "r": 16},
        **ABOVE,
        "legend": {**ABOVE["legend"], "traceorder": "reversed"},
    }


def _ticks(parameter: Parameter) -> Iterator[tuple[float, str]]:
    """The labelled heights on the axis of a parameter, with their values."""
    if parameter.size is not None and parameter.size <= MOST_TICKS:
        for value in parameter.values():
            yield parameter.unit(value), plain("null" if value is None else as_text(value), 11)
        return
    for unit in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = parameter.at(unit)
        yield unit, plain(f"{value:.3g}" if isinstance(value, float) else as_text(value), 11)


def width(count: int) -> int:
    """The width in pixels that ``count`` parameters and the objective need."""
    return AXIS_WIDTH * (count + 1) + 32
