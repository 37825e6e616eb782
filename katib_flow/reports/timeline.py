"""When each trial ran, on lanes: the fewest on which no two trials overlap, or those that Argo ran them on."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from katib_flow.history import History, State, Trial
from katib_flow.reports.blocks import Chart, Figure, Section, Text
from katib_flow.reports.charts import ABOVE, AMBER, BLUE, GREEN, GREY, axis, number, plain, thinned

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
"""From how many seconds on a unit is used, its seconds, its name."""


def timeline_sections(history: History, now: float) -> Iterator[Section]:
    """When trials ran; nothing where no trial tells when it did.

    Args:
        now: when trials that still run are drawn to, in seconds since the epoch.
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
    lanes_ = f"{count} lane{'s' * (count != 1)}"
    said = f"{len(timed):,} trials on {lanes_}, one above the other where they ran side by side."
    if end > begin:
        said += f" A trial ran on {busy / (end - begin):.1f} of them on average."
    if len(shown) < len(timed):
        said += f" {len(shown):,} of the trials are drawn."
    figure = timeline(shown, lanes, begin, end, now)
    blocks = [Chart(figure, said, 110 + min(max(26 * count, 60), 420), "Timeline of trials")]
    untimed = sum(trial.state.final for trial in history) - sum(trial.state.final for trial in timed)
    more = [Text(f"{untimed:,} trials do not tell when they started.", soft=True)] if untimed else []
    yield Section("Timeline", [*blocks, *more])


def lanes_of(trials: Sequence[Trial], now: float) -> dict[str, int]:
    """The lane of each trial by its id, from 0: Argo's own where it has lanes, else the first that is free."""
    own = {trial.id: trial.place.lane for trial in trials if trial.place and trial.place.lane is not None}
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
    """Lines from start to end, coloured by state; the shortest are drawn as long as can be seen.

    Args:
        begin, end: of all trials, in seconds since the epoch.
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
        texts = [_told(trial, now) if detailed else plain(trial.id) for trial in chosen]
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


def _told(trial: Trial, now: float) -> str:
    took = _end(trial, now) - (trial.started or 0.0)
    more = f", {trial.retries} retries" if trial.retries else ""
    return f"<b>{plain(trial.id)}</b>: {trial.state}, {took:.4g} s{more}"
