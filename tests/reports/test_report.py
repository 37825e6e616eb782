"""The report: what it says, that nothing of the user's is more than text in it, and that it stays small."""

import base64
import gzip
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import experiment

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Metric, State, Suggestion, Trial
from katib_flow.reports import charts
from katib_flow.reports.blocks import Card, Chart, Facts, Report, Row, Section, Table, Text
from katib_flow.reports.page import html
from katib_flow.reports.sections import MOST_ROWS, report, wanted
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment
from katib_flow.tracking import Control, Record, Status

plotly = pytest.importorskip("plotly", reason="a report needs Plotly, an extra")
EVIL = "</script><script>alert(1)</script>&<b onload=x>%{y}\"'"
SPACE: Any = {
    "lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"},
    "layers": {"type": "int", "min": 1, "max": 3},
    "kind": {"type": "categorical", "values": ["a", EVIL]},
    "depth": {"type": "int", "min": 1, "max": 9, "when": {"kind": ["a"]}},
    "epochs": {"type": "categorical", "values": [5]},
}


def record(
    made: Experiment, status: Status = Status.SUCCEEDED, reason: str = "reached limits.max_trials (40)"
) -> Record:
    return Record("0123456789", made.name, made, status, reason, 1000.0, 1090.0, "", "1")


def history(made: Experiment, count: int = 40, failed: int = 7) -> History:
    """Every seventh trial fails; the others are worse the farther ``lr`` is from 0.01."""
    rng = np.random.default_rng(3)
    trials: list[Trial] = []
    for index in range(count):
        assignment = search_space(made).draw(rng)
        value = 1 - 0.1 * abs(np.log10(float(assignment["lr"])) + 2)  # type: ignore[arg-type]
        values = {each.metric: float(value if each.direction == "maximize" else -value) for each in made.objective}
        good = index % failed != 3
        state, message = (State.SUCCEEDED, "") if good else (State.FAILED, f"boom {EVIL}")
        times = {"started": 1000.0 + index, "ended": 1001.5 + index}
        trials.append(Trial(Suggestion(index, assignment), state, values if good else {}, message=message, **times))
    return History(tuple(trials))


def series(made: Experiment, trials: History) -> dict[str, list[Metric]]:
    (curves,) = wanted(record(made), trials)
    assert curves.metrics == tuple(each.metric for each in made.objective)
    return {
        trial.id: [
            Metric(name, trial.observations[name] * step / 5, step) for name in curves.metrics for step in range(6)
        ]
        for trial in curves.trials
    }


def made_report(count: int = 40, **sections: Any) -> Report:
    made = experiment(parameters=SPACE, **sections)
    trials = history(made, count)
    return report(record(made), trials, series(made, trials))


def section(of: Report, title: str) -> Section:
    return next(each for each in of.sections if each.title == title)


def flat(blocks: Any) -> list[Any]:
    inner = {Card: "blocks", Row: "cards"}
    return [each for block in blocks for each in [block, *flat(getattr(block, inner.get(type(block), ""), ()))]]


def charts_of(of: Report) -> list[Chart]:
    return [block for each in of.sections for block in flat(each.blocks) if isinstance(block, Chart)]


class Page(HTMLParser):
    """The tags of a page, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)


def test_it_says_how_the_search_ended_what_is_best_and_how_to_come_to_it_again() -> None:
    made = made_report()
    assert (made.title, made.mark) == ("digits-mlp", "succeeded")
    trials = history(experiment(parameters=SPACE))
    best = max(trials.completed("accuracy"), key=lambda trial: trial.observations["accuracy"])
    value = f"{best.observations['accuracy']:.6g}"
    assert made.lead == f"Reached limits.max_trials (40). The best is trial {best.id}, with accuracy {value}."
    page = Page(html(made))
    text = unescape(" ".join(page.words))
    assert "katib-flow spec 0123456789 -o spec.yaml" in text
    assert "34 succeeded, 6 failed" in text
    (facts,) = (block for block in flat(section(made, "Outcome").blocks) if isinstance(block, Facts))
    assert facts.facts["took"] == "1 min 30 s"
    assert {"lr", f"{best.assignment['lr']:.6g}"} <= set(page.words)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.SUCCEEDED, ["To give it more trials: katib-flow resume digits-mlp --max-trials N."]),
        (Status.INTERRUPTED, ["To continue it: katib-flow resume digits-mlp."]),
        (Status.PAUSED, ["To continue it: katib-flow resume digits-mlp."]),
        (Status.RUNNING, []),
    ],
)
def test_how_to_go_on_is_said_where_one_can(status: Status, said: list[str]) -> None:
    made = experiment(parameters=SPACE)
    drawn = report(record(made, status), history(made), {}, shares=False)
    texts = [
        block.text for block in section(drawn, "The best, and how to reproduce it").blocks if isinstance(block, Text)
    ]
    assert [text for text in texts if "resume" in text] == said


def test_what_users_write_is_text_and_nothing_else() -> None:
    made = made_report(name="evil", description=EVIL, algorithm={"name": "random", "settings": {}})
    text = html(made)
    page = Page(text)
    assert "alert(1)" not in "".join(page.scripts[-2:])
    assert not [tag for tag, _ in page.tags if tag in ("b", "iframe", "object", "link")]
    assert [tag for tag, attributes in page.tags if any(name.startswith("on") for name in attributes)] == []
    assert EVIL in "".join(page.words)
    data = [script for script in page.scripts if script.startswith("{")]
    assert len(data) == len(charts_of(made))
    for script in data:
        assert not set("<>&") & set(script)
        strings = [each for each in _strings(json.loads(script)) if "alert" in each]
        assert not any("<script" in each or "<b " in each for each in strings)  # Plotly reads markup in labels
    (policy,) = (a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


def _strings(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [each for value in data.values() for each in _strings(value)]
    if isinstance(data, list):
        return [each for value in data for each in _strings(value)]
    return [data] if isinstance(data, str) else []


def test_its_policy_lets_run_the_two_scripts_that_it_carries_and_it_asks_for_nothing() -> None:
    text = html(made_report())
    page = Page(text)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    packed = page.scripts[[each.get("id") for each in scripts].index("plotly")]
    unpacked = gzip.decompress(base64.b64decode(packed)).decode()
    from plotly.offline import get_plotlyjs

    assert unpacked == get_plotlyjs()
    policy = unescape(next(a["content"] or "" for tag, a in page.tags if a.get("http-equiv")))
    for script in (unpacked, page.scripts[-1]):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text.replace(packed, ""))


def test_every_chart_is_one_that_plotly_knows() -> None:
    go = pytest.importorskip("plotly.graph_objects")
    two = [{"metric": "accuracy", "direction": "maximize", "goal": 0.99}, {"metric": "size", "direction": "minimize"}]
    for made in (made_report(), made_report(objective=two, algorithm="nsga2")):
        drawn = charts_of(made)
        assert len(drawn) >= 4
        for chart in drawn:
            go.Figure(json.loads(json.dumps(chart.figure)))  # raises where a property or value is none of Plotly's


def test_the_best_so_far_falls_at_no_trial_and_ends_at_the_best() -> None:
    made = experiment(parameters=SPACE)
    trials = history(made)
    (chart,) = section(made_report(), "The best so far").blocks
    assert isinstance(chart, Chart)
    values = chart.figure["data"][1]["y"]
    assert values == sorted(values)
    best = max(trial.observations["accuracy"] for trial in trials.completed("accuracy"))
    assert values[-1] == pytest.approx(best, rel=1e-5)
    assert chart.figure["data"][1]["x"][-1] == 39
    assert len(chart.figure["data"][0]["x"]) == len(trials.completed("accuracy"))


def test_parameters_are_drawn_where_they_are_active_and_constants_not_at_all() -> None:
    chart = section(made_report(), "What each parameter does").blocks[0]
    assert isinstance(chart, Chart)
    names = [axis["title"]["text"] for key, axis in sorted(chart.figure["layout"].items()) if key.startswith("xaxis")]
    assert sorted(names) == ["depth", "kind", "layers", "lr"]
    counts = dict(zip(names, (len(each["x"]) for each in chart.figure["data"]), strict=False))
    assert sum(counts.values()) < 4 * len(history(experiment(parameters=SPACE)).completed("accuracy"))
    assert "epochs" not in names


def test_the_front_of_several_objectives_is_told() -> None:
    two = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "size", "direction": "minimize"}]
    made = experiment(parameters=SPACE, objective=two, algorithm="nsga2")
    values = [(0.8, 2.0), (0.7, 3.0), (0.9, 4.0), (0.9, 5.0)]  # of these, the first and the third are on the front
    trials = History(
        tuple(
            Trial(Suggestion(index, {"lr": 0.1, "layers": 1}), State.SUCCEEDED, {"accuracy": one, "size": other})
            for index, (one, other) in enumerate(values)
        )
    )
    drawn = report(record(made), trials, {})
    assert "2 trials are on the front" in drawn.lead
    chart, table = section(drawn, "The front").blocks
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["t00002", "t00000"]


def fronted(values: list[dict[str, float]], most: int = 2) -> Report:
    """The report of trials with these observations, of objectives that are all to be maximized."""
    objectives = [{"metric": name, "direction": "maximize"} for name in "abcd"[:most]]
    made = experiment(objective=objectives, algorithm="nsga2")
    trials = [Trial(Suggestion(i, {"lr": 0.1}), State.SUCCEEDED, each) for i, each in enumerate(values)]
    return report(record(made), History(tuple(trials)), {})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([{"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 0.5}], "1 trial is on the front"),
        ([{"a": 1.0}], "0 trials are on the front"),
    ],
)
def test_the_front_is_counted(values: list[dict[str, float]], said: str) -> None:
    drawn = fronted(values)
    assert said in drawn.lead
    assert html(drawn)


def test_a_front_of_many_says_what_is_left_out_and_joins_no_trials_across_other_objectives() -> None:
    count = charts.MOST_POINTS + 500
    names = [{"a": float(i), "b": float(-i), "c": float(i % 7), "d": 0.0} for i in range(count)]
    drawn = section(fronted(names, most=4), "The front").blocks
    figures = [block.figure for block in drawn if isinstance(block, Chart)]
    assert len(figures) == 3
    assert all(len(each["x"]) <= charts.MOST_POINTS for figure in figures for each in figure["data"])
    assert all(each["mode"] == "markers" for figure in figures for each in figure["data"])
    said = [block.text for block in drawn if isinstance(block, Text)]
    assert said == [
        "3 of 6 pairs of objectives are drawn.",
        f"{MOST_ROWS} of {count:,} trials on the front are listed.",
    ]


def test_curves_are_of_as_many_of_the_best_as_it_says() -> None:
    made = experiment(parameters=SPACE)
    trials = history(made)
    (curves,) = wanted(record(made), trials)
    told = {trial.id: [Metric("accuracy", 0.5, step) for step in range(2)] for trial in curves.trials[5:8]}
    (chart,) = section(report(record(made), trials, told), "The course of trials").blocks
    assert isinstance(chart, Chart)
    assert len(chart.figure["data"]) == 3
    assert chart.caption == "3 of 34 trials are drawn: those of the best 20 with a curve."


def test_of_many_parameters_those_that_matter_most_are_drawn_and_the_rest_is_said() -> None:
    pytest.importorskip("sklearn", reason="importance needs scikit-learn, an extra")
    made = experiment(parameters={f"x{i}": {"type": "float", "min": 0.0, "max": 1.0} for i in range(30)})
    rng = np.random.default_rng(0)
    drawn = [search_space(made).draw(rng) for _ in range(20)]
    trials = [
        Trial(Suggestion(i, each), State.SUCCEEDED, {"accuracy": float(each["x7"])})  # type: ignore[arg-type]
        for i, each in enumerate(drawn)
    ]
    (chart,) = section(report(record(made), History(tuple(trials)), {}), "Which parameters matter").blocks
    assert isinstance(chart, Chart)
    assert chart.figure["data"][0]["y"][-1] == "x7"  # the first, on top
    assert len(chart.figure["data"][0]["y"]) == 20
    assert chart.caption.endswith("The first 20 of 30 parameters are shown.")


def test_the_time_that_an_experiment_lay_still_is_not_told_as_its_own() -> None:
    made = experiment(parameters=SPACE)
    went_on = Control(spent=20.0, resumed=1080.0)  # it ended at 1090
    (facts,) = section(report(record(made), history(made), {}, control=went_on, shares=False), "Outcome").blocks
    assert isinstance(facts, Facts)
    assert facts.facts["took"] == "30.0 s"


def test_what_failed_says_why() -> None:
    summary, causes, table = section(made_report(), "What went wrong").blocks
    assert isinstance(summary, Text)
    assert summary.text == "6 of 40 trials failed, with one cause."
    assert isinstance(causes, Table)
    assert causes.rows[0][0] == 6
    assert isinstance(table, Table)
    assert len(table.rows) == 6
    assert all(row[2] == f"boom {EVIL}" for row in table.rows)


def test_ten_thousand_trials_make_a_file_of_bounded_size_that_says_what_it_leaves_out() -> None:
    made = experiment(parameters=SPACE)
    trials = history(made, 10_000)
    drawn = report(record(made), trials, series(made, trials), shares=False)
    text = html(drawn)
    assert len(text) < 3_500_000
    table, said = section(drawn, "Trials, the best first").blocks
    assert isinstance(table, Table)
    assert isinstance(said, Text)
    assert len(table.rows) == MOST_ROWS
    assert said.text == "9,800 more trials are not shown; for all of them: katib-flow export digits-mlp."
    (course,) = section(drawn, "The best so far").blocks
    assert isinstance(course, Chart)
    points = course.figure["data"][0]
    assert len(points["x"]) <= charts.MOST_POINTS + len(course.figure["data"][1]["x"])
    assert set(course.figure["data"][1]["x"][:-1]) <= set(points["x"])  # no improvement is left out
    assert "trials are drawn" in course.caption


def test_a_few_values_that_are_far_off_do_not_hide_the_others() -> None:
    made = experiment(objective={"metric": "loss", "direction": "minimize"})
    values = [0.5, 0.4, 0.6, 0.45, 0.55, 0.5, 0.52, 0.48, 0.41, 0.59, 1e9]
    ends, outside = charts.window(values, made.objective[0])
    assert ends is not None
    assert outside == 1
    assert ends[0] < 0.4 < 0.6 < ends[1] < 2
    assert charts.window(values[:-1], made.objective[0]) == (None, 0)
    upside = made.objective[0].model_copy(update={"direction": "maximize"})
    ends, outside = charts.window([-value for value in values], upside)
    assert ends is not None
    assert outside == 1
    assert ends[0] < -0.6 < -0.4 < ends[1] < 0


def test_an_experiment_without_a_trial_has_a_report_too() -> None:
    made = experiment(parameters=SPACE)
    for trials in (History(), History((Trial(Suggestion(0, {"lr": 0.1}), State.RUNNING),))):
        drawn = report(record(made, Status.RUNNING, ""), trials, {})
        assert drawn.lead == "No trial has a finite value of the objective yet."
        assert html(drawn)
    trials = History((Trial(Suggestion(0, {"lr": 0.1}), State.SUCCEEDED, {"accuracy": float("nan")}),))
    assert html(report(record(made), trials, {}))


def test_text_that_no_file_can_hold_is_replaced() -> None:
    made = experiment(parameters=SPACE)
    trials = history(made)
    page = html(report(record(made, reason="half a pair: \ud800"), trials, series(made, trials)))
    assert "alf a pair: ?." in page.encode("utf-8").decode()


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from katib_flow.reports import page

    page._plotly.cache_clear()
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(KatibFlowError, match=r"pip install 'katib-flow\[report\]'"):
        html(made_report())


def test_the_script_that_an_image_has_beside_the_page_does_without_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from katib_flow.reports import page

    monkeypatch.setattr(page, "find_spec", lambda name: None)
    monkeypatch.setattr(page, "__file__", str(tmp_path / "page.py"))
    assert page.plotly_script() is None
    (tmp_path / "plotly.min.js").write_text("/* a script */")
    assert page.plotly_script() == tmp_path / "plotly.min.js"
