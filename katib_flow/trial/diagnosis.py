"""Why a trial failed, or gave no value of its objective: a message for a person, of what was looked at."""

import contextlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from katib_flow.metrics.hints import NO_NUMBER, instead, why_not_found
from katib_flow.metrics.lines import LineSplitter
from katib_flow.metrics.sources import MetricsFile, Telling
from katib_flow.metrics.thinning import NAMES
from katib_flow.trial.protocol import COLLECT_SECONDS, TrialDirectory
from katib_flow.trial.reader import Reader

TAIL_BYTES = 1 << 20  # of a log, looked at again for what was printed in the place of a metric
_SHELL = {126: "is no program that can be run", 127: "was not found"}


def signal_of(code: int) -> int:
    """The signal that ended a program, 0 where none did: a negative code, or what a shell makes of it, 128 and more."""
    number = -code if code < 0 else code - 128
    return number if number in signal.valid_signals() else 0


def _named(number: int) -> str:
    """The name of a signal; real-time signals have none but the first and the last."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure(code: int, directory: TrialDirectory, reader: Reader) -> str:
    """Why a program that ended with an exit code, negative for a signal, failed."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return str(json.loads((directory.path / "error.json").read_text()))
    last = f"; its last line was {_quoted(reader.lines.last)}" if reader.lines.last else "; it printed nothing"
    if number := signal_of(code):
        how = f"killed by {_named(number)}"
        return f"{how if code < 0 else f'exit code {code}, which a shell gives for a program {how}'}{last}"
    if what := _SHELL.get(code):
        return f"exit code {code}, which a shell gives for a command that {what}{last}"
    return f"exit code {code}{last}"


def collector_failure(what: str, code: int | None, last: str) -> str:
    """Why a collector of the user's own has failed; "" where it has not.

    Args:
        what: its name in the spec.
        code: its exit code, negative for a signal; None where it did not end.
        last: the last line that it printed.
    """
    if code == 0:
        return ""
    said = f"; its last line was {_quoted(last)}" if last else "; it printed nothing"
    if code is None:
        return f"{what} took longer than {COLLECT_SECONDS:g} s after the trial{said}"
    number = signal_of(code)
    how = f"was killed by {_named(number)}" if number else f"ended with exit code {code}"
    return f"{what}, which reads the metrics, {how}{said}"


def unavailable(missing: Sequence[str], directory: TrialDirectory, reader: Reader) -> str:
    """Why some objectives have no value, of a trial that ended without an error."""
    what = " and ".join(repr(name) for name in missing)
    if said := _reported(missing[0], reader):
        return f"{what} was not reported: {said}"
    experiment = reader.experiment
    if experiment.metrics.source == "custom":
        wanted = "metrics.command" if experiment.trial.kind in ("function", "command") else "metrics.container"
        instead_of = reader.source.told(missing[0]) if isinstance(reader.source, Telling) else ""
        last = f"the last line of the log was {_quoted(reader.lines.last)}" if reader.lines.last else ""
        none = f"{wanted} wrote none to {directory.report_file.name}"
        return f"{what} was not reported: {'; '.join(text for text in (none, instead_of, last) if text)}"
    if isinstance(reader.source, MetricsFile):
        place, lines = f"lines of {experiment.metrics.path}", _lines(reader.source.path)
        if not reader.source.path.exists():
            return f"{what} was not reported: the trial wrote no file {experiment.metrics.path}"
    elif isinstance(reader.source, Telling):
        return f"{what} was not reported: {reader.source.told(missing[0])}"
    else:
        place, lines = "log lines", _lines(directory.log)
    if not lines:
        nothing = "printed nothing" if place == "log lines" else f"wrote nothing to {experiment.metrics.path}"
        return f"{what} was not reported: the trial {nothing}"
    count = reader.lines.count if place == "log lines" else len(lines)
    hint = why_not_found(missing[0], experiment.metrics, lines)
    last = f"the last was {_quoted(lines[-1])}"
    if hint.startswith("metrics.filter matched none"):
        return f"{what} was not reported: {hint}; {last}"
    return f"none of {count} {place} reports {what}; {f'{hint}; ' * bool(hint)}{last}"


def _reported(name: str, reader: Reader) -> str:
    """What the trial has reported in the place of a metric; "" where it tells nothing."""
    if name in reader.left_out:
        return f"found {reader.left_out[name][1]!r}, {NO_NUMBER}"
    vector = next((each.value for each in reader.metrics if each.name == name and isinstance(each.value, tuple)), None)
    if vector is not None:
        return f"found a vector of {len(vector)} numbers, where one number is needed"
    others = reader.reported_names | set(reader.no_metrics)
    if reader.returned:
        return f"the function returned {reader.returned}, and " + (
            instead(name, others, "reported") or "did not call kf.report"
        )
    return instead(name, others, "the trial reported")


def left_out(reader: Reader) -> str:
    """What a trial that went well gave beside its metrics, and what of them could not be read; "" where nothing was."""
    texts = [
        f"{count} value{'s' * (count > 1)} of {name!r} that {'are' if count > 1 else 'is'} no number, the last {text!r}"
        for name, (count, text) in reader.left_out.items()
    ]
    texts += [f"{name!r}, {what}" for name, what in reader.no_metrics.items()]
    return f"left out: {'; '.join(texts)}" if texts else ""


def thinned(reader: Reader) -> str:
    """That not all that a trial reported is recorded; "" where it is."""
    texts: list[str] = []
    if (count := reader.thinning).kept < count.reported:
        what = "latest, min and max are of all of them"
        texts.append(f"{count.kept} of {count.reported} reported numbers are recorded; {what}")
    if reader.crowded_out:
        texts.append(f"{reader.crowded_out} reports are left out, because the trial reports more than {NAMES} metrics")
    return "; ".join(texts)


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return LineSplitter().split(file.read(), end=True)
    except OSError:
        return []


def _quoted(text: str) -> str:
    return json.dumps(text[:200], ensure_ascii=False)
