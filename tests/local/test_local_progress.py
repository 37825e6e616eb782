"""What a person sees of an experiment that goes on."""

from typing import Any

import pytest
from kit import experiment, trial
from rich.console import Console

from katib_flow.history import History, State, Suggestion
from katib_flow.local.progress import Lines, Live

MADE = experiment(objective={"metric": "loss", "direction": "minimize"}, limits={"max_trials": 2})


def ended(index: int, loss: float) -> Any:
    return trial(Suggestion(index, {"lr": 0.1}), State.SUCCEEDED, "loss", loss)


def test_only_what_is_better_than_before_a_resume_is_the_best_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(MADE)
    lines.show(History((ended(0, 0.5),)), 3)
    for each in (ended(1, 0.6), ended(2, 0.4)):
        lines.trial_ended(each)
    worse, better = capsys.readouterr().out.splitlines()
    assert worse.startswith("t00001 succeeded: ")
    assert better.startswith("t00002 succeeded (best so far): ")


def test_the_bar_counts_to_what_a_resume_asked_for() -> None:
    class Screen:
        console = Console(file=None, width=100, force_terminal=False)
        shown = ""

        def update(self, renderable: Any) -> None:
            with self.console.capture() as captured:
                self.console.print(renderable)
            self.shown = captured.get()

    screen = Screen()
    live = Live(MADE, screen)
    live.trial_ended(ended(2, 0.4))
    live.show(History(tuple(ended(index, 0.5) for index in range(3))), 9)
    assert "3/9 trials" in screen.shown
    assert "left" in screen.shown
    assert "-" not in screen.shown.split("about")[1].split("left")[0]
