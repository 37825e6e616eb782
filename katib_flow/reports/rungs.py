"""The section on budgets: the trials of each rung, and their promotions to the next one."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from katib_flow.history import History, Trial
from katib_flow.reports.blocks import Chart, Figure, Section, Table
from katib_flow.reports.charts import ABOVE, BLUE, GREY, axis, described, number, plain, thinned, window
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Objective

MOST_POINTS = 1500
MOST_RUNGS = 12


def rung_sections(experiment: Experiment, history: History) -> Iterator[Section]:
    """The rungs of successive halving by the first objective; nothing without several budgets."""
    objective = experiment.objective[0]
    known = [trial for trial in history.completed(objective.metric) if trial.suggestion.budget is not None]
    budgets = sorted({trial.suggestion.budget for trial in known if trial.suggestion.budget is not None})
    if experiment.budget is None or not 2 <= len(budgets) <= MOST_RUNGS:
        return
    best = experiment.best(history)
    figure = rungs(objective, name := f"budget ({experiment.budget.parameter})", budgets, known, best)
    said = f"{objective.metric} is {objective.direction}d; a line joins a trial to the one that continued it."
    if len(known) > MOST_POINTS:
        said += f" About {MOST_POINTS:,} of {len(known):,} trials are drawn, including all that were promoted."
    yield Section(
        "Rungs",
        [
            Chart(figure, said, 380, "Objective at each rung"),
            Table([name, "trials", "best", "median", "promoted"], _rows(objective, budgets, known)),
        ],
    )  # fmt: skip


def _rows(objective: Objective, budgets: Sequence[float], trials: Sequence[Trial]) -> list[list[Any]]:
    continued = {trial.suggestion.parent for trial in trials}
    rows: list[list[Any]] = []
    for budget in budgets:
        here = [trial for trial in trials if trial.suggestion.budget == budget]
        values = [trial.observations[objective.metric] for trial in here]
        promoted = sum(trial.index in continued for trial in here)
        rows.append([budget, len(here), min(values, key=objective.loss), float(median(values)), promoted])
    return rows


def rungs(
    objective: Objective, name: str, budgets: Sequence[float], trials: Sequence[Trial], best: Trial | None
) -> Figure:
    """The objective of each trial over its rung; the line that led to the best trial is highlighted.

    Args:
        name: the title of the axis of budgets.
    """
    parents = frozenset(trial.suggestion.parent for trial in trials if trial.suggestion.parent is not None)
    by_index = {trial.index: trial for trial in trials}
    shown = thinned(trials, parents, MOST_POINTS)
    positions = _positions(budgets, shown)
    spread, _ = window([trial.observations[objective.metric] for trial in shown], objective)
    line = _line(by_index, best)
    pairs = [(by_index[trial.suggestion.parent], trial) for trial in shown if trial.suggestion.parent in by_index]
    pairs = [pair for pair in pairs if all(trial.index in positions for trial in pair)]
    data: list[dict[str, Any]] = []
    for label, colour, width, chosen in (
        ("promoted", GREY, 1, [pair for pair in pairs if pair[1].index not in line]),
        ("line to the best", BLUE, 3, [pair for pair in pairs if pair[1].index in line]),
    ):
        if chosen:
            data.append(
                {
                    "type": "scatter", "mode": "lines", "name": label, "hoverinfo": "skip", "opacity": 0.7,
                    "x": [x for pair in chosen for x in (*(positions[trial.index] for trial in pair), None)],
                    "y": [y for pair in chosen for y in (*(_value(objective, trial) for trial in pair), None)],
                    "line": {"color": colour, "width": width},
                }
            )  # fmt: skip
    texts = [
        described(trial, f"{plain(objective.metric)} {trial.observations[objective.metric]:.6g}, "
                         f"budget {trial.suggestion.budget:g}{_bracket(trial)}")
        for trial in shown
    ]  # fmt: skip
    data.append(
        {
            "type": "scatter", "mode": "markers", "name": "trial",
            "x": [positions[trial.index] for trial in shown],
            "y": [_value(objective, trial) for trial in shown],
            "text": texts,
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"size": 7, "opacity": 0.8, "color": [BLUE if trial.index in line else GREY for trial in shown]},
            "showlegend": False,
        }
    )  # fmt: skip
    labels = [f"{budget:g}" for budget in budgets]
    x = axis(name, tickvals=list(range(len(budgets))), ticktext=labels, range=[-0.5, len(budgets) - 0.5])
    y = axis(objective.metric, **({"range": spread} if spread else {}))
    return {"data": data, "layout": {"xaxis": x, "yaxis": y, "hovermode": "closest", **ABOVE}}


def _value(objective: Objective, trial: Trial) -> float | None:
    return number(trial.observations[objective.metric])


def _bracket(trial: Trial) -> str:
    bracket = trial.suggestion.info.get("bracket")
    return f", bracket {bracket}" if isinstance(bracket, int) else ""


def _positions(budgets: Sequence[float], trials: Sequence[Trial]) -> dict[int, float]:
    """The positions of trials: at their rung, spread a little, so that no trial hides another."""
    rung_of = {budget: rung for rung, budget in enumerate(budgets)}
    seen: dict[float, int] = {}
    positions: dict[int, float] = {}
    for trial in trials:
        budget = trial.suggestion.budget
        assert budget is not None
        seen[budget] = seen.get(budget, 0) + 1
        positions[trial.index] = round(rung_of[budget] + 0.5 * ((seen[budget] * 0.618034) % 1 - 0.5), 3)
    return positions


def _line(by_index: Mapping[int, Trial], best: Trial | None) -> frozenset[int]:
    """The indices of the best trial and of those that it continued."""
    line: set[int] = set()
    while best is not None and best.index not in line:
        line.add(best.index)
        parent = best.suggestion.parent
        best = by_index.get(parent) if parent is not None else None
    return frozenset(line)
