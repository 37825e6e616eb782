"""What a person sees of an experiment that goes on."""

from dataclasses import replace
from typing import Any

import pytest
from kit import experiment, trial
from rich.console import Console

from katib_flow.history import History, State, Suggestion
from katib_flow.local.progress import Guarded, Lines, Live
from katib_flow.trial.table import printable

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.5; ü 漢", "0.5; ü 漢"),
        ("x\nt99999 succeeded (best so far): loss 0", "x\\nt99999 succeeded (best so far): loss 0"),
        ("\x1b[2J\x07\x00\x9b1m", "\\x1b[2J\\x07\\x00\\x9b1m"),
        ("\udc80 \u202e \u2028", "\\udc80 \\u202e \\u2028"),
    ],
)
def test_no_text_of_a_trial_moves_the_cursor_or_forges_a_line(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable(text) == shown
    assert printable(text).encode()
    Lines(MADE).trial_ended(replace(ended(0, 0.5), message=text))
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert line.endswith(shown)


def test_a_display_that_fails_ends_no_search(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def show(self, *_: Any) -> None:
            raise OSError(5, "Input/output error")

        trial_ended = say = show

    watcher = Guarded(Broken())
    watcher.show(History(), None)
    watcher.trial_ended(ended(0, 0.5))
    watcher.say("x")
    assert capsys.readouterr().err.count("the display failed; the search continues: OSError") == 1
