"""A folder of results of Ray Tune, read without Ray: ``params.json`` and ``result.json`` of each trial.

Layout: https://docs.ray.io/en/latest/tune/api/logging.html, as Ray 2.60 writes it. Pickles that lie there
(``tuner.pkl``, ``params.pkl``, parts of ``experiment_state-*.json``) are not read, and the search space is in no other
file: it is taken to be that which the trials span.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import END_OF_TIME, from_json, number_of
from katib_flow.history import Metric, State, Value
from katib_flow.migration.study import Fields, Past, Study, conditions, safe_names
from katib_flow.spec.load import Note
from katib_flow.wording import did_you_mean

LARGEST_FILE = 256 * 1024 * 1024  # bytes of result.json or progress.csv that are read
LARGEST_CONFIG = 4 * 1024 * 1024
MOST_REPORTS = 100_000
_OWN = frozenset(
    [
        "checkpoint_dir_name",
        "config",
        "date",
        "done",
        "episodes_total",
        "experiment_id",
        "experiment_tag",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "pid",
        "should_checkpoint",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timestamp",
        "timesteps_since_restore",
        "timesteps_total",
        "training_iteration",
        "trial_id",
        "warmup_time",
    ]
)
"""What Ray adds to every report (``AUTO_RESULT_KEYS`` of ray.tune.result, and earlier versions of it)."""
_SCALARS = (bool, int, float, str, type(None))
Report = Mapping[str, Any]


@dataclass(frozen=True)
class _Read:
    """A trial's folder as it was read: its parameters and reports, with nested names joined."""

    name: str
    config: Mapping[str, Any]
    reports: Sequence[Report]
    error: str


def read_ray(folder: Path, metric: str | None = None, direction: str | None = None) -> Study:
    """The search of a folder, which holds one folder for each trial.

    Args:
        metric, direction: of the objective, which Ray keeps in a pickle. The metric may be left out where trials report
            only one.

    Raises:
        KatibFlowError: there are no trials in the folder, none reports the metric, or no direction is given.
    """
    left_out: Counter[str] = Counter()
    trials = [trial for path in _folders(folder) if (trial := _read(path, left_out)) is not None]
    metrics = list(dict.fromkeys(name for trial in trials for report in trial.reports for name in _metrics(report)))
    metric = _chosen(folder, metric, metrics)
    if direction not in ("maximize", "minimize"):
        raise KatibFlowError(f"--direction: found {direction!r}, need maximize or minimize: Ray keeps it in a pickle")
    parameters, constants, notes = _space(trials)
    known = [{name: trial.config[name] for name in parameters if name in trial.config} for trial in trials]
    when = conditions(known, parameters)
    notes += [
        Note(f"parameters.{name}.when", "read off the trials: Ray keeps its search space in a pickle") for name in when
    ]
    pasts = [_past(trial, config, metric) for trial, config in zip(trials, known, strict=True)]
    return Study(
        name=folder.resolve().name,
        tuner="Ray Tune",
        objectives=((metric, direction),),
        parameters={
            name: fields | ({"when": when[name]} if name in when else {}) for name, fields in parameters.items()
        },
        trials=pasts,
        others=tuple(name for name in metrics if name != metric),
        constants=constants,
        left_out=left_out,
        notes=[
            Note("parameters", "ranges are those that the trials span: Ray keeps its search space in a pickle"),
            *notes,
        ],
    )


def _folders(folder: Path) -> list[Path]:
    """The folders of trials, in the order of their numbers.

    Raises:
        KatibFlowError: there are none.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    trials = [path for path in paths if any((path / name).is_file() for name in ("params.json", "result.json"))]
    if trials:
        return trials
    if (folder / "params.json").is_file():
        raise KatibFlowError(f"{folder}: found the folder of one trial, need that of the experiment: {folder.parent}")
    need = "a folder with one folder for each trial, with params.json and result.json, as Ray Tune writes it"
    raise KatibFlowError(f"{folder}: found no trials, need {need}")


def _read(path: Path, left_out: Counter[str]) -> _Read | None:
    reports = list(_reports(path))
    config = _config(path, reports)
    if config is None:
        left_out["its params.json is missing or damaged"] += 1
        return None
    error = path / "error.txt"
    text = _text(error, LARGEST_CONFIG) if error.is_file() else ""
    failed = error.is_file() or (path / "error.pkl").is_file()
    lines = text.strip().splitlines()
    message = (lines[-1][:500] if lines else "failed in Ray Tune") if failed else ""
    if not reports and not failed:
        left_out["it has reported nothing"] += 1
        return None
    flat = _flat(config, ".")
    names = safe_names(flat)
    parameters = {names[name]: value for name, value in flat.items()}
    return _Read(path.name, parameters, [_flat(report, "/") for report in reports], message)


def _text(path: Path, most: int) -> str:
    with path.open("rb") as file:
        return file.read(most).decode("utf-8", "replace")


def _config(path: Path, reports: Sequence[Report]) -> Mapping[str, Any] | None:
    try:
        config = from_json(_text(path / "params.json", LARGEST_CONFIG))
    except (OSError, ValueError):
        config = reports[-1].get("config") if reports else None
    return config if isinstance(config, dict) else None


def _reports(path: Path) -> Iterator[Report]:
    """What a trial reported, a mapping a time; a line that is cut off or is no mapping is none."""
    if (path / "result.json").is_file():
        for line in _text(path / "result.json", LARGEST_FILE).splitlines()[:MOST_REPORTS]:
            try:
                report = from_json(line)
            except ValueError:
                continue
            if isinstance(report, dict):
                yield report
    elif (path / "progress.csv").is_file():
        rows = csv.DictReader(StringIO(_text(path / "progress.csv", LARGEST_FILE)))
        for _, row in zip(range(MOST_REPORTS), rows, strict=False):
            yield {name: _number(text) for name, text in row.items() if isinstance(name, str)}


def _number(text: object) -> Any:
    """A cell of a table: a number where it reads as one."""
    try:
        return number_of(text)
    except ValueError:
        return text


def _flat(data: Mapping[str, Any], joint: str, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined; ``from_json`` has bounded how deep they nest."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        path = f"{prefix}{joint}{name}" if prefix else str(name)
        if isinstance(value, dict) and value:
            flat |= _flat(value, joint, path)  # pyright: ignore[reportUnknownArgumentType]
        else:
            flat[path] = value
    return flat


def _metrics(report: Report) -> dict[str, float]:
    """The numbers of a report that are not Ray's own."""
    named = {name: value for name, value in report.items() if name.partition("/")[0] not in _OWN}
    return {name: float(value) for name, value in named.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    """Whether a value is a number that a float can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 10**300


def _chosen(folder: Path, metric: str | None, metrics: Sequence[str]) -> str:
    there = ", ".join(metrics[:20]) or "none"
    if metric is None and len(metrics) == 1:
        return metrics[0]
    if metric is None:
        raise KatibFlowError(f"--metric: found none, need the one that was searched for; the trials report {there}")
    if metric not in metrics:
        near = did_you_mean(metric, metrics)
        raise KatibFlowError(
            f"--metric: found {metric!r}, which no trial in {folder} reports{near}; they report {there}"
        )
    return metric


def _space(trials: Sequence[_Read]) -> tuple[dict[str, Fields], dict[str, Value], list[Note]]:
    """The parameters that trials differ in, as plain data; what they have in common; notes on the rest."""
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.config.items():
            values.setdefault(name, []).append(value)
    parameters: dict[str, Fields] = {}
    constants: dict[str, Value] = {}
    notes: list[Note] = []
    for name, tried in values.items():
        if not all(isinstance(value, _SCALARS) and _finite(value) for value in tried):
            why = "not all of its values are text, finite numbers, true, false or null"
            notes.append(Note("parameters", f"{name} is left out: {why}"))
        elif len({json.dumps(value) for value in tried}) == 1 and len(tried) == len(trials) > 1:
            constants[name] = tried[0]
        else:
            parameters[name] = _spanned(tried)
    return parameters, constants, notes


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or isfinite(value)


def _spanned(values: Sequence[Any]) -> Fields:
    """The parameter that some values are of: a few that repeat are choices, numbers otherwise a range."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    distinct = list({(type(value).__name__, value): value for value in values}.values())
    if not numeric:
        return {"type": "categorical", "values": distinct}
    if len(distinct) <= 5 and len(values) >= 3 * len(distinct):
        return {"type": "ordinal", "values": sorted(distinct)}
    whole = all(isinstance(value, int) for value in values)
    low, high = min(values), max(values)
    if not whole:
        low, high = float(low), float(high)
    log = {"scale": "log"} if low > 0 and high / low >= 50 else {}
    return {"type": "int" if whole else "float", "min": low, "max": high, **log}


def _past(trial: _Read, config: Mapping[str, Any], metric: str) -> Past:
    metrics = [point for number, report in enumerate(trial.reports, 1) for point in _reported(report, number)]
    latest = {point.name: point.value for point in metrics if not isinstance(point.value, tuple)}
    times = [time for report in trial.reports if (time := _time(report.get("timestamp"))) is not None]
    state = State.FAILED if trial.error else State.SUCCEEDED if metric in latest else State.METRICS_UNAVAILABLE
    took = _time(trial.reports[0].get("time_total_s")) if trial.reports else None
    return Past(
        label=trial.name,
        assignment=config,
        state=state,
        observations=latest,
        metrics=tuple(metrics),
        message=trial.error,
        started=times[0] - (took or 0) if times else None,
        ended=times[-1] if times else None,
    )


def _reported(report: Report, number: int) -> Iterator[Metric]:
    step, time = report.get("training_iteration"), _time(report.get("timestamp"))
    step = int(step) if isinstance(step, int | float) and 0 <= step < 2**53 else number
    for name, value in _metrics(report).items():
        yield Metric(name, value, step, int(1000 * (time or 0)))


def _time(value: object) -> float | None:
    """Seconds, where a value is a number of them that a calendar has."""
    try:
        seconds = number_of(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < END_OF_TIME else None
