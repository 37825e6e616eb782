"""Failures by cause: messages that differ only in numbers, paths, addresses and ids have one cause."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from katib_flow.history import History, Trial
from katib_flow.reports.blocks import Block, Chart, Figure, Section, Table, Text
from katib_flow.reports.charts import RED, axis, plain
from katib_flow.spec.parameters import FloatParameter, IntParameter, Parameter
from katib_flow.trial.table import cell
from katib_flow.wording import counted

MOST_CAUSES = 20
MOST_FAILURES = 20
EXAMPLES = 3
LONGEST = 200
_VARYING = (
    (re.compile(r"https?://\S+"), "<address>"),
    (re.compile(r"(?<![\w<])(?:[A-Za-z]:)?(?:\.{0,2}[/\\][\w.+~@=-]+)+[/\\]?"), "<path>"),
    (re.compile(r"0x[0-9a-fA-F]+|\b(?=[0-9a-f-]*[a-f])(?=[0-9a-f-]*\d)[0-9a-f]{7,}(?:-[0-9a-f]{4,})*\b"), "<id>"),
    (re.compile(r"(?<![A-Za-z_<])[-+]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?"), "<n>"),
)
"""What may differ between two messages of one cause, with a placeholder for it."""


@dataclass(frozen=True)
class Cause:
    """Failures with one cause.

    Attributes:
        text: the message with placeholders for what varies.
        trials: the failed trials, in the order of their index.
        where: what their parameters have in common, unlike those of other trials.
    """

    state: str
    text: str
    trials: tuple[Trial, ...]
    where: str = ""


def cause_of(message: str) -> str:
    """A message with placeholders for what varies between trials; the last non-empty line if there are several."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = " ".join(lines[-1].split())[: 5 * LONGEST] if lines else ""
    for pattern, sign in _VARYING:
        text = pattern.sub(sign, text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def causes(history: History, parameters: Mapping[str, Parameter]) -> list[Cause]:
    """The failures of a history by cause, the most frequent first."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in history:
        if trial.state.failure:
            groups.setdefault((str(trial.state), cause_of(trial.message)), []).append(trial)
    ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0].index))
    return [Cause(state, text, tuple(trials), _where(trials, history, parameters)) for (state, text), trials in ranked]


def _where(failed: Sequence[Trial], history: History, parameters: Mapping[str, Parameter]) -> str:
    """The parameters for which the failures cover only a small part of the values that were tried."""
    if len(failed) < 2:
        return ""
    return "; ".join(
        text
        for name, parameter in parameters.items()
        if len(values := [trial.assignment[name] for trial in failed if name in trial.assignment]) == len(failed)
        if (text := _narrow(name, parameter, values, [t.assignment[name] for t in history if name in t.assignment]))
    )


def _narrow(name: str, parameter: Parameter, failed: Sequence[object], tried: Sequence[object]) -> str:
    if isinstance(parameter, FloatParameter | IntParameter):
        units, all_ = (parameter.units(values) for values in (failed, tried))  # type: ignore[arg-type]
        if not units.max() - units.min() <= (all_.max() - all_.min()) / 4:  # also if any is NaN
            return ""
        low, high = min(failed, key=_number), max(failed, key=_number)
        return f"{name} = {cell(low)}" if low == high else f"{name} from {cell(low)} to {cell(high)}"
    same = all(value == failed[0] and type(value) is type(failed[0]) for value in failed)
    return f"{name} = {cell(failed[0])}" if same and any(value != failed[0] for value in tried) else ""


def _number(value: object) -> float:
    return float(value)  # type: ignore[arg-type]


def failure_sections(history: History, parameters: Mapping[str, Parameter]) -> Iterator[Section]:
    """The causes with their counts, and a list of the first failures; nothing if no trial failed."""
    every_cause = causes(history, parameters)
    if not every_cause:
        return
    failed = [trial for trial in history if trial.state.failure]
    shown = every_cause[:MOST_CAUSES]
    located = any(cause.where for cause in shown)
    columns = ["trials", "state", "cause", *(["where"] if located else []), "for example"]
    rows = [
        [
            len(cause.trials), cause.state, cause.text or "(no message)", *([cause.where] if located else []),
            ", ".join(trial.id for trial in cause.trials[:EXAMPLES]),
        ]
        for cause in shown
    ]  # fmt: skip
    blocks: list[Block] = [Text(_summary(every_cause, failed, history))]
    if len(every_cause) > 1:
        blocks.append(Chart(bars(shown), "", 90 + 28 * len(shown), "Failed trials by cause"))
    blocks.append(Table(columns, rows))
    if len(every_cause) > len(shown):
        left = len(every_cause) - len(shown)
        blocks.append(Text(f"{counted(left, 'more cause is', 'more causes are')} not shown.", soft=True))
    first = [[trial.id, str(trial.state), trial.message, cell(trial.assignment)] for trial in failed[:MOST_FAILURES]]
    title = "All failures" if len(failed) <= MOST_FAILURES else f"The first {MOST_FAILURES} failures"
    blocks.append(Table(["trial", "state", "message", "parameters"], first, title=title))
    yield Section("What went wrong", blocks)


def _summary(every_cause: Sequence[Cause], failed: Sequence[Trial], history: History) -> str:
    count, trials = len(every_cause), len(failed)
    of_all = f"{trials:,} of {counted(len(history), 'trial')} failed"
    return f"{of_all}, with {'one cause' if count == 1 else f'{count:,} different causes'}."


def bars(shown: Sequence[Cause]) -> Figure:
    """The number of failed trials per cause, the most frequent on top."""
    labels = [plain(f"{number}. {cause.text or cause.state}", 42) for number, cause in enumerate(shown, start=1)][::-1]
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [len(cause.trials) for cause in shown][::-1],
        "y": labels,
        "marker": {"color": RED},
        "hovertemplate": "%{y}: %{x} trials<extra></extra>",
    }
    return {"data": [bar], "layout": {"xaxis": axis("trials", rangemode="tozero", tickformat=",d"),
                                      "yaxis": {"automargin": True, "type": "category"}}}  # fmt: skip
