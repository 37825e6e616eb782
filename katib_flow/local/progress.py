"""The progress of a running experiment: a live display on a terminal, one line per trial elsewhere."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from katib_flow.history import History, Trial
from katib_flow.local.observer import Progress
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.table import cell, decided, printable

REFRESH_SECONDS = 0.25


def _values(experiment: Experiment, trial: Trial) -> str:
    return ", ".join(
        f"{name} {cell(trial.observations[name])}" for name in experiment.metric_names if name in trial.observations
    )


class Lines:
    """A line for every trial that ends: for logs, pipes and CI."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.best: float | None = None
        self.begun = False

    def show(self, history: History, most_trials: int | None) -> None:
        """Print nothing; the first call takes the best value so far from the history."""
        if not self.begun and (best := self.experiment.best(history)):  # the experiment was resumed
            self._mark(best)
        self.begun = True

    def trial_ended(self, trial: Trial) -> None:
        """Print the line of a trial."""
        seconds = f"{trial.ended - trial.started:.1f} s" if trial.ended and trial.started else ""
        facts = [_values(self.experiment, trial), cell(decided(self.experiment, trial)), seconds, trial.message]
        line = f"{trial.id} {trial.state}{self._mark(trial)}: {'; '.join(fact for fact in facts if fact)}"
        print(printable(line), flush=True)

    def say(self, text: str) -> None:
        """Print a message."""
        print(printable(text), flush=True)

    def _mark(self, trial: Trial) -> str:
        objective = self.experiment.objective[0]
        value = trial.observed(objective.metric)
        if value is None or (self.best is not None and objective.loss(value) >= self.best):
            return ""
        self.best = objective.loss(value)
        return " (best so far)"


class Live:
    """A display with a bar, the best trial so far, the running trials and the time left."""

    def __init__(self, experiment: Experiment, live: Any) -> None:
        self.experiment, self.live = experiment, live
        self.begun, self.shown, self.ended = time.monotonic(), 0.0, 0

    def trial_ended(self, trial: Trial) -> None:
        """Count the trial, and print its message if it failed."""
        self.ended += 1
        if trial.state.failure:
            self.live.console.print(
                printable(f"{trial.id} {trial.state}: {trial.message}"), style="red", markup=False, highlight=False
            )

    def say(self, text: str) -> None:
        """Print a message above the display."""
        self.live.console.print(printable(text), markup=False, highlight=False)

    def show(self, history: History, most_trials: int | None) -> None:
        """Draw the display again, at most every ``REFRESH_SECONDS``."""
        now = time.monotonic()
        if now - self.shown > REFRESH_SECONDS:
            self.shown = now
            self.live.update(self._render(history, most_trials, now - self.begun))

    def _render(self, history: History, total: int | None, seconds: float) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        counts = history.counts()
        done = sum(count for state, count in counts.items() if state.over)
        left = f", about {_clock(seconds / self.ended * (total - done))} left" if total and self.ended else ""
        bar = Table.grid(padding=(0, 1))
        progress = f"{done}/{total}" if total else f"{done}"
        bar.add_row(
            Text(self.experiment.name),
            ProgressBar(total, done, width=30),
            Text(f"{progress} trial{'' if (total or done) == 1 else 's'}, {_clock(seconds)}{left}"),
        )
        lines = [Text(", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count))]
        if best := self.experiment.best(history):
            lines.append(
                Text(
                    printable(f"best {best.id}: {_values(self.experiment, best)}  ({cell(best.assignment)})"),
                    overflow="ellipsis",
                    no_wrap=True,
                )
            )
        now = time.time()
        lines += [
            Text(
                printable(f"  {trial.id} running {_clock(now - (trial.started or now))}  ")
                + printable(cell(decided(self.experiment, trial))),
                overflow="ellipsis",
                no_wrap=True,
            )
            for trial in history.open()[:8]
        ]
        return Group(bar, *lines)


@dataclass
class Guarded:
    """A progress display whose failure, such as a closed terminal, does not end the experiment."""

    watcher: Progress
    _warned: bool = False

    def show(self, history: History, most_trials: int | None) -> None:
        """Show the history, as ``Progress`` says."""
        with self._alive():
            self.watcher.show(history, most_trials)

    def trial_ended(self, trial: Trial) -> None:
        """Show the end of a trial, as ``Progress`` says."""
        with self._alive():
            self.watcher.trial_ended(trial)

    def say(self, text: str) -> None:
        """Show a message, as ``Progress`` says."""
        with self._alive():
            self.watcher.say(text)

    @contextmanager
    def _alive(self) -> Generator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the trials matter more
            if not self._warned:
                self._warned = True
                with suppress(Exception):
                    text = printable(f"note: the display failed; the search continues: {error!r}")
                    print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def watching(experiment: Experiment, *, quiet: bool = False) -> Generator[Progress | None]:
    """Yield a display for stdout: live on a terminal, lines otherwise, None if quiet."""
    if quiet:
        yield None
    elif not sys.stdout.isatty():
        yield Lines(experiment)
    else:
        from rich.live import Live as RichLive

        with RichLive(transient=True, auto_refresh=False) as live:
            watch = Live(experiment, _Refreshing(live))
            yield watch


class _Refreshing:
    """A Rich display that is drawn on each update, and never from a thread of its own."""

    def __init__(self, live: Any) -> None:
        self.console = live.console
        self._live = live

    def update(self, renderable: Any) -> None:
        self._live.update(renderable, refresh=True)
