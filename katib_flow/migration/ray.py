"""Read a Ray Tune results folder, without Ray: ``params.json`` and ``result.json`` of each trial.

Layout: https://docs.ray.io/en/latest/tune/api/logging.html, as Ray 2.60 writes it. The pickles in it (``tuner.pkl``,
``params.pkl``, parts of ``experiment_state-*.json``) are not read. The search space is in no other file, so it is
inferred from the values that trials have tried.
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

LARGEST_FILE = 256 * 1024 * 1024  # bytes to read of result.json or progress.csv
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
"""Keys that Ray adds to every report (``AUTO_RESULT_KEYS`` in ray.tune.result, and in earlier versions)."""
_SCALARS = (bool, int, float, str, type(None))
Report = Mapping[str, Any]


@dataclass(frozen=True)
class _Read:
    """The content of a trial's folder: parameters and reports, with nested names joined."""

    name: str
    config: Mapping[str, Any]
    reports: Sequence[Report]
    error: str


def read_ray(folder: Path, metric: str | None = None, direction: str | None = None) -> Study:
    """Read a results folder, which contains a folder for each trial.

    Args:
        metric, direction: the objective, which Ray stores in a pickle. The metric is not needed if trials report only
            one.

    Raises:
        KatibFlowError: the folder has no trials, no trial reports the metric, or the direction is missing.
    """
    left_out: Counter[str] = Counter()
    trials = [trial for path in _folders(folder) if (trial := _read(path, left_out)) is not None]
    metrics = list(dict.fromkeys(name for trial in trials for report in trial.reports for name in _metrics(report)))
    metric = _chosen(folder, metric, metrics)
    if direction not in ("maximize", "minimize"):
        need = "maximize or minimize, because Ray stores it in a pickle, which is not read"
        raise KatibFlowError(f"--direction: found {'nothing' if direction is None else repr(direction)}, need {need}")
    parameters, constants, notes = _space(trials)
    known = [{name: trial.config[name] for name in parameters if name in trial.config} for trial in trials]
    when = conditions(known, parameters)
    inferred = "inferred from the trials, because Ray stores its search space in a pickle, which is not read"
    notes += [Note(f"parameters.{name}.when", inferred) for name in when]
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
            Note("parameters", "ranges of the values in the trials, because Ray stores its search space in a pickle"),
            *notes,
        ],
    )


def _folders(folder: Path) -> list[Path]:
    """The folders of the trials, in the order of their names.

    Raises:
        KatibFlowError: there are no such folders.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    trials = [path for path in paths if any((path / name).is_file() for name in ("params.json", "result.json"))]
    if trials:
        return trials
    if (folder / "params.json").is_file():
        raise KatibFlowError(
            f"{folder}: found the folder of one trial, need the folder of the experiment: {folder.parent}"
        )
    need = "a Ray Tune results folder, with params.json and result.json in a folder for each trial"
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
    """The reports of a trial; incomplete lines, and lines that are not mappings, are skipped."""
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
    """A cell of a table, converted to a number if possible."""
    try:
        return number_of(text)
    except ValueError:
        return text


def _flat(data: Mapping[str, Any], joint: str, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with joined names; ``from_json`` has bounded their depth."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        path = f"{prefix}{joint}{name}" if prefix else str(name)
        if isinstance(value, dict) and value:
            flat |= _flat(value, joint, path)  # pyright: ignore[reportUnknownArgumentType]
        else:
            flat[path] = value
    return flat


def _metrics(report: Report) -> dict[str, float]:
    """The numbers in a report, without those that Ray itself adds."""
    named = {name: value for name, value in report.items() if name.partition("/")[0] not in _OWN}
    return {name: float(value) for name, value in named.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    """True for a number in the range of floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 10**300


def _chosen(folder: Path, metric: str | None, metrics: Sequence[str]) -> str:
    there = ", ".join(metrics[:20]) or "no metrics"
    if metric is None and len(metrics) == 1:
        return metrics[0]
    if metric is None:
        raise KatibFlowError(f"--metric: found nothing, need the metric of the objective; the trials report {there}")
    if metric not in metrics:
        near = did_you_mean(metric, metrics)
        raise KatibFlowError(f"--metric: found {metric!r}, need a metric that trials in {folder} report: {there}{near}")
    return metric


def _space(trials: Sequence[_Read]) -> tuple[dict[str, Fields], dict[str, Value], list[Note]]:
    """The parameters in which trials differ, as plain data; the constants of all trials; notes on other values."""
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
            notes.append(Note("parameters", f"left out {name}, because {why}"))
        elif len({json.dumps(value) for value in tried}) == 1 and len(tried) == len(trials) > 1:
            constants[name] = tried[0]
        else:
            parameters[name] = _spanned(tried)
    return parameters, constants, notes


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or isfinite(value)


def _spanned(values: Sequence[Any]) -> Fields:
    """A parameter that contains the values: few repeated numbers are ordinal, other numbers a range, else choices."""
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
    """A value as seconds since the epoch; None if it is not a number, or beyond the calendar."""
    try:
        seconds = number_of(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < END_OF_TIME else None
