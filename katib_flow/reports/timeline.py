"""When each trial ran, on lanes: the lanes on Argo, or the fewest on which no two trials overlap."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from katib_flow.history import History, State, Trial
from katib_flow.reports.blocks import Chart, Figure, Section, Text
from katib_flow.reports.charts import ABOVE, AMBER, BLUE, GREEN, GREY, axis, number, plain, thinned
from katib_flow.wording import counted

MOST_BARS = 5000
COLOURS: Mapping[State, str] = {
    State.SUCCEEDED: GREEN,
    State.EARLY_STOPPED: AMBER,
    State.FAILED: "#dc2626",
    State.METRICS_UNAVAILABLE: "#a855f7",
    State.KILLED: GREY,
    State.RUNNING: BLUE,
}
UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""For each unit of time: the duration from which it is used, its length in seconds, and its name."""


def timeline_sections(history: History, now: float) -> Iterator[Section]:
    """The times at which trials ran; nothing if no trial has a start time.

    Args:
        now: the end of the bars of running trials, in seconds since the epoch.
    """
    timed = [trial for trial in history if trial.started is not None and trial.state is not State.PENDING]
    if not timed:
        return
    lanes = lanes_of(timed, now)
    count = max(lanes.values()) + 1
    shown = thinned(timed, frozenset(), MOST_BARS)
    begin = min(trial.started or 0.0 for trial in timed)
    end = max(_end(trial, now) for trial in timed)
    busy = sum(_end(trial, now) - (trial.started or 0.0) for trial in timed)
    said = f"{counted(len(timed), 'trial')} on {counted(count, 'lane')}; trials on different lanes ran in parallel."
    if end > begin:
        said += f" On average, {busy / (end - begin):.1f} lanes were busy."
    if len(shown) < len(timed):
        said += f" {len(shown):,} of the trials are drawn."
    figure = timeline(shown, lanes, begin, end, now)
    blocks = [Chart(figure, said, 110 + min(max(26 * count, 60), 420), "Timeline of trials")]
    untimed = sum(trial.state.final for trial in history) - sum(trial.state.final for trial in timed)
    more = [Text(f"{counted(untimed, 'trial has', 'trials have')} no start time.", soft=True)] if untimed else []
    yield Section("Timeline", [*blocks, *more])


def lanes_of(trials: Sequence[Trial], now: float) -> dict[str, int]:
    """The lane of each trial, from 0, by its id: that on Argo in lanes mode, otherwise the first free one."""
    own = {trial.id: trial.position.lane for trial in trials if trial.position and trial.position.lane is not None}
    if len(own) == len(trials):
        return own
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes: dict[str, int] = {}
    for trial in sorted(trials, key=lambda trial: (trial.started or 0.0, trial.index)):
        start = trial.started or 0.0
        while busy and busy[0][0] <= start + 0.001:  # times are recorded in whole milliseconds
            heappush(free, heappop(busy)[1])
        lane = heappop(free) if free else len(busy)
        lanes[trial.id] = lane
        heappush(busy, (_end(trial, now), lane))
    return lanes


def _end(trial: Trial, now: float) -> float:
    started = trial.started or 0.0
    return max(started, trial.ended if trial.ended is not None else now if not trial.state.final else started)


def timeline(trials: Sequence[Trial], lanes: Mapping[str, int], begin: float, end: float, now: float) -> Figure:
    """Lines from start to end, coloured by state; very short trials are drawn long enough to be visible.

    Args:
        begin, end: the start of the first and the end of the last trial, in seconds since the epoch.
    """
    seconds, unit = next((seconds, unit) for least, seconds, unit in UNITS if end - begin >= least)
    shortest = (end - begin) / 400 or 0.001
    count = max(lanes.values()) + 1
    wide = min(14.0, max(2.0, 300 / count))
    detailed = len(trials) <= 1000
    data: list[dict[str, Any]] = []
    for state, colour in COLOURS.items():
        chosen = [trial for trial in trials if trial.state is state]
        if not chosen:
            continue
        x: list[float | None] = []
        for trial in chosen:
            start = (trial.started or 0.0) - begin
            x += [number(start / seconds), number(max(_end(trial, now) - begin, start + shortest) / seconds), None]
        texts = [_label(trial, now) if detailed else plain(trial.id) for trial in chosen]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": str(state),
                "x": x,
                "y": [lane for trial in chosen for lane in (lanes[trial.id] + 1, lanes[trial.id] + 1, None)],
                "text": [end for text in texts for end in (text, text, None)],
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"color": colour, "width": wide},
                "opacity": 0.8,
            }
        )
    y = axis("lane", range=[count + 0.6, 0.4], showgrid=False, **({"dtick": 1} if count <= 16 else {}))
    layout = {"xaxis": axis(f"{unit} since the start"), "yaxis": y, "hovermode": "closest", "showlegend": True, **ABOVE}
    return {"data": data, "layout": layout}


def _label(trial: Trial, now: float) -> str:
    took = _end(trial, now) - (trial.started or 0.0)
    more = f", {counted(trial.retries, 'retry', 'retries')}" if trial.retries else ""
    return f"<b>{plain(trial.id)}</b>: {trial.state}, {took:.4g} s{more}"
