"""Why a trial failed, or has no value of its objective: messages for people, which claim only what was checked."""

import contextlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from katib_flow.metrics.hints import NO_NUMBER, instead, why_not_found
from katib_flow.metrics.lines import LineSplitter
from katib_flow.metrics.sources import Explaining, MetricsFile
from katib_flow.metrics.thinning import NAMES
from katib_flow.trial.protocol import COLLECT_SECONDS, TrialDirectory
from katib_flow.trial.reader import Reader
from katib_flow.wording import counted

TAIL_BYTES = 1 << 20  # the end of a log that is searched again for a metric that was not found
_SHELL = {126: "is not an executable program", 127: "was not found"}


def signal_of(code: int) -> int:
    """The signal that ended a program, or 0: from a negative exit code, or from a shell's 128 + signal."""
    number = -code if code < 0 else code - 128
    return number if number in signal.valid_signals() else 0


def _named(number: int) -> str:
    """The name of a signal; most real-time signals have only a number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure(code: int, directory: TrialDirectory, reader: Reader) -> str:
    """Why a program failed that ended with an exit code, which is negative for a signal."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return str(json.loads((directory.path / "error.json").read_text()))
    last = f"; its last line was {_quoted(reader.lines.last)}" if reader.lines.last else "; it printed nothing"
    if number := signal_of(code):
        how = f"killed by {_named(number)}"
        return f"{how if code < 0 else f'exit code {code}, which in a shell means a program {how}'}{last}"
    if what := _SHELL.get(code):
        return f"exit code {code}, which in a shell means that the command {what}{last}"
    return f"exit code {code}{last}"


def collector_failure(what: str, code: int | None, last: str) -> str:
    """Why a user's own collector failed; "" if it did not fail.

    Args:
        what: its name in the spec.
        code: its exit code, negative for a signal; None if it did not end.
        last: the last line of its output.
    """
    if code == 0:
        return ""
    said = f"; its last line was {_quoted(last)}" if last else "; it printed nothing"
    if code is None:
        return f"{what} had not ended {COLLECT_SECONDS:g} s after the trial{said}"
    number = signal_of(code)
    how = f"was killed by {_named(number)}" if number else f"ended with exit code {code}"
    return f"{what} {how}{said}"


def unavailable(missing: Sequence[str], directory: TrialDirectory, reader: Reader) -> str:
    """Why some objectives of a trial have no value, although it ended without an error."""
    what = " and ".join(repr(name) for name in missing)
    if said := _reported(missing[0], reader):
        return f"{what} was not reported: {said}"
    experiment = reader.experiment
    if experiment.metrics.source == "custom":
        wanted = "metrics.command" if experiment.trial.kind in ("function", "command") else "metrics.container"
        explained = reader.source.absence(missing[0]) if isinstance(reader.source, Explaining) else ""
        last = f"the last line of the log was {_quoted(reader.lines.last)}" if reader.lines.last else ""
        none = f"{wanted} wrote no value to {directory.report_file.name}"
        return f"{what} was not reported: {'; '.join(text for text in (none, explained, last) if text)}"
    if isinstance(reader.source, MetricsFile):
        file, lines = experiment.metrics.path, _lines(reader.source.path)
        if not reader.source.path.exists():
            return f"{what} was not reported: the trial wrote no file {experiment.metrics.path}"
    elif isinstance(reader.source, Explaining):
        return f"{what} was not reported: {reader.source.absence(missing[0])}"
    else:
        file, lines = "", _lines(directory.log)
    if not lines:
        return f"{what} was not reported: the trial {f'wrote nothing to {file}' if file else 'printed nothing'}"
    hint = why_not_found(missing[0], experiment.metrics, lines)
    last = f"the last was {_quoted(lines[-1])}"
    if hint.startswith("metrics.filter matched nothing"):
        return f"{what} was not reported: {hint}; {last}"
    where = f"{counted(len(lines), 'line')} of {file}" if file else counted(reader.lines.count, "log line")
    return f"{what} was not reported in {where}; {f'{hint}; ' * bool(hint)}{last}"


def _reported(name: str, reader: Reader) -> str:
    """What the trial has reported instead of a metric; "" if there is nothing to say."""
    if name in reader.left_out:
        return f"found {reader.left_out[name][1]!r}, {NO_NUMBER}"
    values = (metric.value for metric in reader.metrics if metric.name == name)
    vector = next((value for value in values if isinstance(value, tuple)), None)
    if vector is not None:
        return f"found a vector of {counted(len(vector), 'number')}, need one number"
    others = reader.reported_names | set(reader.no_metrics)
    if reader.returned:
        return f"the function returned {reader.returned} and " + (
            instead(name, others, "reported") or "did not call kf.report"
        )
    return instead(name, others, "the trial reported")


def left_out(reader: Reader) -> str:
    """Values of a succeeded trial that could not be read as metrics; "" if all of them could."""
    texts = [
        f"{counted(count, 'text')} in place of a number for {name!r}, the last {text!r}"
        for name, (count, text) in reader.left_out.items()
    ]
    texts += [f"{name!r}, {what}" for name, what in reader.no_metrics.items()]
    return f"ignored: {'; '.join(texts)}" if texts else ""


def thinned(reader: Reader) -> str:
    """A note that not all reported numbers are recorded; "" if they are."""
    texts: list[str] = []
    if (count := reader.thinning).kept < count.reported:
        what = "latest, min and max take all of them into account"
        texts.append(f"{count.kept:,} of {counted(count.reported, 'reported number')} are recorded; {what}")
    if reader.crowded_out:
        reports = counted(reader.crowded_out, "report was", "reports were")
        texts.append(f"{reports} ignored, because the trial has more than {NAMES} metrics")
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
