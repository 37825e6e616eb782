"""What notebooks show: everything that is known, and nothing that a value could make of the page."""

from html.parser import HTMLParser
from typing import Any

import pytest

import katib_flow as kf
from katib_flow import markup
from katib_flow.history import History, State, Suggestion, Trial

EVIL = "<script>alert('x')</script>&\"'"


class Page(HTMLParser):
    """The tags and the texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


ALLOWED = {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}


def trial(index: int = 0, **changes: Any) -> Trial:
    known: dict[str, Any] = {"observations": {"loss": 0.123456789}, "message": "", "state": State.SUCCEEDED}
    return Trial(Suggestion(index, {"x": 0.5, "kind": "a"}), **(known | changes))


def test_a_trial_shows_what_is_known_of_it() -> None:
    page = Page(trial(message="a note", run_id="abc", started=1.0, ended=3.5)._repr_html_())
    assert page.texts == [
        *("trial t00000", "state", "succeeded", "seconds", "2.5", "message", "a note"),
        *("parameters", "x=0.5, kind=a", "metrics", "loss=0.123457", "MLflow run", "abc"),
    ]


def test_a_history_shows_a_row_a_trial() -> None:
    page = Page(History((trial(0), trial(1, state=State.FAILED, observations={}, message="no good")))._repr_html_())
    assert page.texts[0] == "2 trials"
    assert page.texts[1:6] == ["trial", "state", "metrics", "parameters", "message"]
    assert page.texts[6:] == [
        *("t00000", "succeeded", "loss=0.123457", "x=0.5, kind=a"),
        *("t00001", "failed", "x=0.5, kind=a", "no good"),
    ]
    assert page.tags.count("td") == 10
    assert Page(History()._repr_html_()).texts == ["0 trials"]


def test_of_a_long_history_the_first_and_the_last_are_shown() -> None:
    page = Page(History(tuple(trial(index) for index in range(250)))._repr_html_())
    shown = [text for text in page.texts if text.startswith("t0")]
    assert shown == [f"t{index:05d}" for index in (*range(50), *range(200, 250))]
    assert "150 more" in page.texts
    exactly = Page(History(tuple(trial(index) for index in range(100)))._repr_html_())
    assert not [text for text in exactly.texts if "more" in text]


def test_an_experiment_shows_what_it_searches() -> None:
    @kf.experiment(parameters={"x": kf.Float(0, 1)}, minimize="loss", max_trials=3)
    def train(x: float) -> float:
        return x

    html = train.spec._repr_html_()
    assert html == train._repr_html_()
    texts = Page(html).texts
    assert texts[0] == "experiment train"
    assert "minimize loss" in texts
    assert "max_trials=3" in " ".join(texts)
    assert {"x", "float", "parameters"} <= set(texts)


@pytest.mark.parametrize(
    "html",
    [
        trial(message=EVIL, run_id=EVIL, observations={EVIL: 1.0})._repr_html_(),
        Trial(Suggestion(0, {EVIL: EVIL}))._repr_html_(),
        History((trial(message=EVIL, observations={EVIL: 1.0}),))._repr_html_(),
        markup.table(EVIL, [{EVIL: [EVIL, {EVIL: EVIL}]}]),
        markup.table(EVIL, []),
        markup.facts(EVIL, {EVIL: EVIL}),
        kf.Experiment.parse(
            {
                "name": "toy",
                "description": EVIL,
                "objective": {"metric": EVIL, "direction": "minimize"},
                "parameters": {"x": {"type": "categorical", "values": [EVIL]}},
                "limits": {"max_trials": 1},
                "trial": {"command": ["echo", EVIL]},
            }
        )._repr_html_(),
    ],
)
def test_no_value_becomes_a_part_of_the_page(html: str) -> None:
    page = Page(html)
    assert set(page.tags) <= ALLOWED
    assert EVIL in "".join(page.texts)


def test_half_a_character_is_shown_by_its_number() -> None:
    assert markup.plain("\ud800") == "\\ud800"
    markup.table("t", [{"a": "\ud800"}]).encode("utf-8")
