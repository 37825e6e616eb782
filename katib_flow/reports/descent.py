"""The lineage of trials as a tree: each trial below the one that it was derived from or inherits from.

If its origin names several parents, a trial is below the first one, which is the most important.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from katib_flow.history import History, Trial
from katib_flow.reports.blocks import Chart, Figure, Section
from katib_flow.reports.charts import GREY, PINK, WORSE_TO_BETTER, axis, described, number, plain, window
from katib_flow.reports.evolution import origin
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Objective
from katib_flow.wording import counted

MOST_NODES = 250
MOST_NAMES = 30


@dataclass(frozen=True)
class Node:
    """A trial in a tree.

    Attributes:
        parent: the index of its parent; None for a root.
        depth: the number of steps from its root.
        row: its position across the tree; leaves are at whole numbers.
    """

    trial: Trial
    parent: int | None
    depth: int
    row: float


def lineage_sections(experiment: Experiment, history: History) -> Iterator[Section]:
    """The tree; nothing if no trial has a parent, if all form one line, or if rungs show the same."""
    if any("rung" in trial.suggestion.info for trial in history):
        return
    related = related_of(history)
    if not branches(related):
        return
    objective = experiment.objective[0]
    kept = pruned(related, objective)
    best = experiment.best(history)
    nodes = tree(kept)
    alone = len(history) - len(related)
    said = "Lines lead from each trial, on the left, to its children; the line that led to the best trial is pink."
    if len(kept) < len(related):
        said += f" {len(kept):,} of {len(related):,} related trials are drawn: the best, with all of their ancestors."
    if alone:
        said += f" {counted(alone, 'trial has', 'trials have')} neither a parent nor children."
    rows = 1 + round(max(node.row for node in nodes))
    height = min(max(150 + 15 * rows, 260), 720)
    yield Section("Lineage", [Chart(figure(objective, nodes, best), said, height, "Lineage of the trials")])


def related_of(history: History) -> dict[int, Trial]:
    """The trials that have a parent or a child, by index and in its order."""
    known = {trial.index: trial for trial in history}
    parents = {index: origin(trial) for index, trial in known.items()}
    with_parent = {index for index, parent in parents.items() if parent in known and parent < index}
    with_child = {parents[index] for index in with_parent}
    return {index: trial for index, trial in known.items() if index in with_parent or index in with_child}


def branches(related: Mapping[int, Trial]) -> bool:
    """True if a tree shows more than a list: a trial has several children, or there are several lines."""
    parents = [parent for trial in related.values() if (parent := origin(trial)) in related]
    return len(set(parents)) < len(parents) or len(related) - len(parents) > 1


def pruned(related: Mapping[int, Trial], objective: Objective) -> dict[int, Trial]:
    """The best trials with all of their ancestors, up to ``MOST_NODES``."""
    if len(related) <= MOST_NODES:
        return dict(related)
    ranked = sorted(
        (trial for trial in related.values() if trial.observed(objective.metric) is not None),
        key=lambda trial: (objective.loss(trial.observations[objective.metric]), trial.index),
    )
    kept: set[int] = set()
    for trial in ranked:
        line: set[int] = set()
        index: int | None = trial.index
        while index is not None and index in related and index not in kept and index not in line:
            line.add(index)
            index = origin(related[index])
        if len(kept) + len(line) <= MOST_NODES:
            kept |= line
    return {index: trial for index, trial in related.items() if index in kept}


def tree(trials: Mapping[int, Trial]) -> list[Node]:
    """The nodes of the tree, each at its depth and in the middle of its children; parents come before children."""
    parents: dict[int, int | None] = {}
    for index, trial in trials.items():
        parent = origin(trial)
        parents[index] = parent if parent is not None and parent in trials and parent < index else None
    children: dict[int | None, list[int]] = {}
    for index, parent in parents.items():
        children.setdefault(parent, []).append(index)
    depths: dict[int, int] = {}
    for index, parent in parents.items():  # in the order of the index, so that parents come first
        depths[index] = 0 if parent is None else depths[parent] + 1
    rows: dict[int, float] = {}
    leaves, waiting = 0, children.get(None, [])[::-1]
    while waiting:  # the leaves from top to bottom
        index = waiting.pop()
        if index in children:
            waiting += children[index][::-1]
        else:
            rows[index], leaves = float(leaves), leaves + 1
    for index in reversed(list(parents)):  # children before their parent
        if index in children:
            rows[index] = sum(rows[child] for child in children[index]) / len(children[index])
    return [Node(trials[index], parents[index], depths[index], rows[index]) for index in trials]


def figure(objective: Objective, nodes: Sequence[Node], best: Trial | None) -> Figure:
    """Lines from parents to children, and a dot per trial, coloured by the objective."""
    at = {node.trial.index: node for node in nodes}
    line: set[int] = set()
    index = best.index if best is not None else None
    while index is not None and index in at:
        line.add(index)
        index = at[index].parent
    scored = [node for node in nodes if node.trial.observed(objective.metric) is not None]
    others = [node for node in nodes if node.trial.observed(objective.metric) is None]
    data = [
        _edges([node for node in nodes if node.trial.index not in line], at, GREY, 1),
        _edges([node for node in nodes if node.trial.index in line], at, PINK, 3),
    ]
    names = len(nodes) <= MOST_NAMES
    if others:
        data.append(_dots(others, "without a value", {"color": GREY, "symbol": "x", "size": 7}, None, names=names))
    if scored:
        values = [node.trial.observations[objective.metric] for node in scored]
        spread, _ = window(values, objective)
        low, high = spread or (min(values), max(values))
        marker = {
            "color": [number(value) for value in values], "size": 10 if len(nodes) <= 100 else 7,
            "cmin": low, "cmax": high, "colorscale": WORSE_TO_BETTER, "reversescale": objective.direction == "minimize",
            "colorbar": {"title": {"text": plain(objective.metric, 18), "side": "top"}, "thickness": 12,
                         "tickformat": ".4~g"},
            "line": {"width": 1, "color": "rgba(255,255,255,0.6)"},
        }  # fmt: skip
        data.append(_dots(scored, "trial", marker, objective, names=names))
    layout = {
        "xaxis": axis("steps from the root", **({"dtick": 1} if max(node.depth for node in nodes) <= 12 else {})),
        "yaxis": {"visible": False, "autorange": "reversed"},
        "hovermode": "closest",
        "showlegend": False,
    }
    return {"data": data, "layout": layout}


def _edges(nodes: Sequence[Node], at: Mapping[int, Node], colour: str, width: float) -> dict[str, Any]:
    """All edges as one path: from the parent to the row of the child, and along it."""
    joined = [(at[node.parent], node) for node in nodes if node.parent is not None]
    return {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"color": colour, "width": width},
        "x": [x for parent, node in joined for x in (parent.depth, parent.depth + 0.45, node.depth, None)],
        "y": [y for parent, node in joined for y in (parent.row, node.row, node.row, None)],
    }  # fmt: skip


def _dots(
    nodes: Sequence[Node], name: str, marker: dict[str, Any], objective: Objective | None, *, names: bool
) -> dict[str, Any]:
    texts = [
        described(
            node.trial,
            f"{plain(objective.metric)} {node.trial.observations[objective.metric]:.6g}" if objective
            else str(node.trial.state),
        )
        + (f"<br>derived from {plain(', '.join(f't{index:05d}' for index in node.trial.suggestion.origin.parents[:4]))}"
           if node.parent is not None else "")
        for node in nodes
    ]  # fmt: skip
    return {
        "type": "scatter",
        "mode": "markers+text" if names else "markers",
        "name": name,
        "x": [node.depth for node in nodes],
        "y": [number(node.row) for node in nodes],
        "customdata": texts,
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": marker,
        **({"text": [plain(node.trial.id) for node in nodes], "textposition": "bottom center", "textfont": {"size": 9}}
           if names else {}),
    }  # fmt: skip
