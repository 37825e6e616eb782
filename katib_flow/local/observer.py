"""The interface of whatever shows a running experiment to the user."""

from typing import Protocol

from katib_flow.history import History, Trial


class Progress(Protocol):
    """An observer of a running experiment, called on every change and regularly in between."""

    def show(self, history: History, most_trials: int | None) -> None:
        """Called several times a second with the trials so far; ``most_trials`` is their limit, if any."""
        ...

    def trial_ended(self, trial: Trial) -> None:
        """Called once with each trial that has ended."""
        ...

    def say(self, text: str) -> None:
        """Called with a message for the user."""
        ...


class Silent:
    """A progress observer that shows nothing."""

    def show(self, history: History, most_trials: int | None) -> None:
        """Show nothing."""

    def trial_ended(self, trial: Trial) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""
