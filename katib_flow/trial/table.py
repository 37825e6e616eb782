"""Trials as rows of plain values, for tables, JSON, CSV and data frames."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.history import Kind, Trial
from katib_flow.spaces import architectures, search_space
from katib_flow.spec.experiment import Experiment

_RESERVED = {"trial", "state", "budget", "parent", "seconds", "retries", "message"}
_NETWORK = ("hash", "edits", "network_parameters")
"""Columns for networks that are not described by decisions."""


def rows(experiment: Experiment, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One flat record per trial; inactive parameters and unreported metrics are None.

    A parameter or metric that shares its name with another column gets a prefix. Decisions about an architecture are
    parameters; a segment of a supernet's search has its current decisions, to which its metrics refer. A grown
    architecture has no decisions, but the first digits of its hash, the edits of its parent's network, and its number
    of parameters.
    """
    network = architectures(experiment)
    grown = network is not None and not network.parameters
    reserved = _RESERVED.union(_NETWORK if grown else ())
    parameters, metrics = list(search_space(experiment).parameters), list(experiment.metric_names)
    parameter_names = {name: f"parameter.{name}" if name in reserved else name for name in parameters}
    metric_names = {name: f"metric.{name}" if name in reserved or name in parameters else name for name in metrics}
    trials = list(trials)
    assignments = {trial.id: decided(experiment, trial) for trial in trials}
    lineage = any(trial.suggestion.origin.parents for trial in trials)
    return [
        {"trial": trial.id, "state": str(trial.state)}
        | {metric_names[name]: trial.observations.get(name) for name in metrics}
        | {parameter_names[name]: assignments[trial.id].get(name) for name in parameters}
        | ({"budget": trial.suggestion.budget} if experiment.budget else {})
        | ({"parent": next(iter(trial.suggestion.origin.parents), None)} if lineage else {})
        | (_network(trial) if grown else {})
        | {
            "seconds": round(trial.ended - trial.started, 3) if trial.ended and trial.started else None,
            "retries": trial.retries,
            "message": trial.message,
        }
        for trial in trials
    ]


def decided(experiment: Experiment, trial: Trial) -> Mapping[str, Any]:
    """The assignment of a trial; for a segment of a supernet's search, with its current decisions."""
    space = architectures(experiment) if trial.suggestion.origin.kind is Kind.SEGMENT else None
    if space is None:
        return trial.assignment
    from katib_flow.models.choices import reported_decisions

    others = {name: value for name, value in trial.assignment.items() if name not in space.parameters}
    return others | next(iter(reported_decisions(space, trial)), {})


def _network(trial: Trial) -> dict[str, Any]:
    from katib_flow.models.edits import in_words
    from katib_flow.models.topology import Topology

    values: tuple[Any, ...] = (None, None, None)
    if trial.suggestion.topology is not None:
        with suppress(KatibFlowError):  # an invalid topology, which the trial's message explains
            topology = Topology.parse(trial.suggestion.topology)
            values = (topology.hash[:8], "; ".join(map(in_words, topology.edits)), topology.parameters)
    return dict(zip(_NETWORK, values, strict=True))


def telling(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that are not empty in every row; a column of retries that are all 0 counts as empty."""
    silent = {"retries": (None, "", 0)}
    columns = rows[0] if rows else ()
    return [name for name in columns if any(row[name] not in silent.get(name, (None, "")) for row in rows)]


def printable(text: str) -> str:
    """A text that a terminal shows on one line: control characters and invalid characters are escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def cell(value: Any) -> str:
    """A value as text for a table or a line: floats with six digits, None as ""."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(cell, value))
    return str(value)
