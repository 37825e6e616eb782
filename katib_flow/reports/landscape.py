"""The objective over two parameters: the mean of nearby trials at each point, and a gap without nearby trials.

The mean is weighted by a Gaussian of the distance in quantiles of the prior (Nadaraya, Theory Probab. Appl. 1964;
Watson, Sankhya 1964), so that the scale of a parameter is that of the search. Choices have no distance: each has its
own row or column.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import Trial
from katib_flow.reports.blocks import Figure
from katib_flow.reports.charts import WORSE_TO_BETTER, axis, number, plain, thinned, ticks, window
from katib_flow.reports.importance import Importance
from katib_flow.spec.parameters import FloatParameter, IntParameter, Parameter
from katib_flow.spec.sections import Objective
from katib_flow.spec.template import as_text
from katib_flow.trial.table import cell

Array = NDArray[np.float64]
POINTS = 40  # per numeric axis
MOST_CHOICES = 8  # an integer parameter with at most so many values is drawn like choices
MOST_MARKERS = 400
NEAR = 2.0  # widths of the Gaussian: a point has a value if a trial lies within this distance
LEAST = 6  # trials that a chart needs
BINS = 6
_CONTOUR: Any = {"ncontours": 14, "line": {"width": 0.5}, "contours": {"coloring": "fill"}}


def pair_of(
    objective: Objective, parameters: Mapping[str, Parameter], trials: Sequence[Trial], shares: Importance | None
) -> tuple[str, str] | None:
    """The two most important parameters that were active together in enough trials; None if there are no two.

    Args:
        shares: the importance of the parameters, if known. Otherwise the correlation ratio decides: the share of the
            variance between the means of a parameter's values, or of ``BINS`` of equal width if there are many.
    """
    if shares is not None:
        known = {name: shares.shares.get(name, 0.0) for name in parameters}
    else:
        known = {name: _ratio(objective, name, parameter, trials) for name, parameter in parameters.items()}
    names = sorted(known, key=lambda name: -known[name])
    pairs = sorted(combinations(names, 2), key=lambda pair: -(known[pair[0]] + known[pair[1]]))
    return next((pair for pair in pairs if len(_both(pair, parameters, trials)) >= LEAST), None)


def _ratio(objective: Objective, name: str, parameter: Parameter, trials: Sequence[Trial]) -> float:
    there = [trial for trial in trials if name in trial.assignment]
    if len(there) < 2:
        return 0.0
    values = np.array([trial.observations[objective.metric] for trial in there])
    units = parameter.units([trial.assignment[name] for trial in there])
    count = min(parameter.size or BINS, BINS) if _numeric(parameter) else parameter.size or 1
    bins = np.where(np.isnan(units), -1, np.minimum(units * count, count - 1)).astype(int)
    means = {index: values[bins == index].mean() for index in np.unique(bins)}
    between = np.array([means[index] for index in bins])
    return float(between.var() / values.var()) if values.var() > 0 else 0.0


def _both(pair: tuple[str, str], parameters: Mapping[str, Parameter], trials: Sequence[Trial]) -> list[Trial]:
    return [
        trial
        for trial in trials
        if all(name in trial.assignment and parameters[name].contains(trial.assignment[name]) for name in pair)
    ]


def _numeric(parameter: Parameter) -> bool:
    many = parameter.size is None or parameter.size > MOST_CHOICES
    return isinstance(parameter, FloatParameter | IntParameter) and many


def landscape(
    objective: Objective, parameters: Mapping[str, Parameter], trials: Sequence[Trial], pair: tuple[str, str]
) -> Figure:
    """A contour plot for two numeric parameters, otherwise a heat map, with the trials as dots."""
    there = _both(pair, parameters, trials)
    one, other = (parameters[name] for name in pair)
    values = np.array([trial.observations[objective.metric] for trial in there])
    spread, _ = window(values.tolist(), objective)
    clipped = np.clip(values, spread[0], spread[1]) if spread else values
    across = _weights(one, [trial.assignment[pair[0]] for trial in there])
    up = _weights(other, [trial.assignment[pair[1]] for trial in there])
    total = up @ across.T
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (up * clipped) @ across.T / total
    near = (up >= np.exp(-(NEAR**2) / 2)).astype(float) @ (across >= np.exp(-(NEAR**2) / 2)).T > 0
    surface = [
        [number(float(mean)) if seen else None for mean, seen in zip(*row, strict=True)]
        for row in zip(means, near, strict=True)
    ]
    low, high = float(clipped.min()), float(clipped.max())
    colours: dict[str, Any] = {"colorscale": WORSE_TO_BETTER, "reversescale": objective.direction == "minimize"}
    bar = {"title": {"text": plain(objective.metric, 18), "side": "top"}, "thickness": 12, "tickformat": ".4~g"}
    smooth = _numeric(one) and _numeric(other)
    map_ = {
        "type": "contour" if smooth else "heatmap",
        "x": _middles(one),
        "y": _middles(other),
        "z": surface,
        "zmin": low,
        "zmax": high,
        **colours,
        "colorbar": bar,
        "opacity": 0.75,
        "hovertemplate": f"{plain(objective.metric)} about %{{z:.4g}}<extra></extra>",
        "hoverongaps": False,
        **(_CONTOUR if smooth else {"xgap": 0 if _numeric(one) else 2, "ygap": 0 if _numeric(other) else 2}),
    }
    data = [map_, _dots(objective, parameters, there, pair, colours | {"cmin": low, "cmax": high})]
    axes = {"xaxis": _axis(pair[0], one), "yaxis": _axis(pair[1], other)}
    return {"data": data, "layout": {**axes, "hovermode": "closest"}}


def _dots(
    objective: Objective, parameters: Mapping[str, Parameter], trials: Sequence[Trial], pair: tuple[str, str], how: Any
) -> dict[str, Any]:
    ranked = sorted(trials, key=lambda trial: objective.loss(trial.observations[objective.metric]))
    shown = [*ranked[:20], *thinned(ranked[20:], frozenset(), MOST_MARKERS)][::-1]  # the best on top
    positions = [_positions(parameters[name], [trial.assignment[name] for trial in shown]) for name in pair]
    values = [trial.observations[objective.metric] for trial in shown]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": positions[0],
        "y": positions[1],
        "text": [
            f"<b>{plain(trial.id)}</b>: {plain(objective.metric)} {value:.6g}"
            + "".join(f"<br>{plain(name)} = {plain(cell(trial.assignment[name]))}" for name in pair)
            for trial, value in zip(shown, values, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": [number(value) for value in values],
            **how,
            "size": 7,
            "line": {"width": 1, "color": "rgba(255,255,255,0.8)"},
        },
        "showlegend": False,
    }


def _weights(parameter: Parameter, values: Sequence[Any]) -> Array:
    """The weight of each trial at each point of an axis, shape (point, trial)."""
    if not _numeric(parameter):
        at = np.array([parameter.position(value) for value in values])
        return (np.arange(parameter.size or 0)[:, None] == at[None, :]).astype(float)
    units = parameter.units(values)
    wide = max(0.03, 0.25 * len(values) ** (-1 / 6))  # width of the Gaussian, after Scott's rule in two dimensions
    return np.exp(-(((_grid()[:, None] - units[None, :]) / wide) ** 2) / 2)


def _grid() -> Array:
    return (np.arange(POINTS) + 0.5) / POINTS


def _middles(parameter: Parameter) -> list[Any]:
    """The coordinates of the points on an axis."""
    if not _numeric(parameter):
        return list(range(parameter.size or 0))
    values = [float(parameter.at(float(unit))) for unit in _grid()]  # type: ignore[arg-type]
    # integers repeat on a fine grid; the coordinates are interpolated between them
    return [number(float(value)) for value in np.interp(range(POINTS), *_firsts(values))]


def _firsts(values: Sequence[float]) -> tuple[list[int], list[float]]:
    """The middle index of each run of equal values, and the values, for interpolation."""
    runs: dict[float, list[int]] = {}
    for index, value in enumerate(values):
        runs.setdefault(value, []).append(index)
    return [sum(indices) // len(indices) for indices in runs.values()], list(runs)


def _positions(parameter: Parameter, values: Sequence[Any]) -> list[Any]:
    if _numeric(parameter):
        return [number(float(value)) for value in values]
    spread = [0.6 * ((index * 0.618034) % 1 - 0.5) for index in range(len(values))]  # golden ratio: evenly spread
    return [round(parameter.position(value) + aside, 3) for value, aside in zip(values, spread, strict=True)]


def _axis(name: str, parameter: Parameter) -> dict[str, Any]:
    if _numeric(parameter):
        return axis(name, **ticks(parameter))
    texts = [plain("null" if value is None else as_text(value), 14) for value in parameter.values()]
    return axis(name, tickvals=list(range(len(texts))), ticktext=texts, showgrid=False)
