"""The report in a browser: on a wide screen, on a phone and in the dark, by keyboard, and live."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from kit import experiment

from katib_flow.history import History, Kind, Metric, Origin, State, Suggestion, Trial
from katib_flow.reports.blocks import Report
from katib_flow.reports.live import Newest, Server, Snapshot
from katib_flow.reports.page import html
from katib_flow.reports.sections import report, wanted
from katib_flow.spaces import search_space
from katib_flow.tracking import Record, Status

pytest.importorskip("plotly", reason="a report needs Plotly, an extra")
pytest.importorskip("sklearn", reason="importance needs scikit-learn, an extra")
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright, the extra browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt: chromium)"),
    pytest.mark.xdist_group("browser"),  # one browser for all
]
PATIENCE_MS = 60_000  # of a browser on a machine that is busy with other tests
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": WIDE},
    "phone": {"viewport": PHONE, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
}
SPACE: Any = {
    "lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"},
    "width": {"type": "int", "min": 8, "max": 256},
    "kind": {"type": "categorical", "values": ["adam", "sgd"]},
    "momentum": {"type": "float", "min": 0, "max": 0.99, "when": {"kind": ["sgd"]}},
}
FAILURES = ("ValueError: loss is nan at step 3", "the trial took longer than 600 s")
# Every mark of a chart that is drawn with some extent; what stands in a legend or on an axis is none.
EMPTY = """charts => charts.filter(chart => ![...chart.querySelectorAll(
    ".scatterlayer .trace path, .barlayer .point path, .heatmaplayer image, .contourlayer path"
)].some(mark => { const { width, height } = mark.getBoundingClientRect(); return width > 2 || height > 2; }))
.map(chart => chart.ariaLabel)"""


def searched(count: int = 40) -> Report:
    """One objective, conditions, failures of two causes, descent, curves: every chart of a search of parameters."""
    of = experiment(parameters=SPACE, name="browsed")
    rng, space = np.random.default_rng(1), search_space(of)
    trials: list[Trial] = []
    for index in range(count):
        assignment = space.draw(rng)
        origin = Origin(Kind.MODIFY, (int(rng.integers(index)),)) if index > 5 else Origin()
        good, times = index % 9 != 4, {"started": 1000.0 + index // 2, "ended": 1000.9 + index // 2 + index % 3}
        value = 1 - 0.1 * abs(float(np.log10(assignment["lr"])) + 2)  # type: ignore[arg-type]
        state, message = (State.SUCCEEDED, "") if good else (State.FAILED, FAILURES[index % 2])
        suggestion = Suggestion(index, assignment, origin=origin)
        trials.append(Trial(suggestion, state, {"accuracy": value} if good else {}, message=message, **times))
    history = History(tuple(trials))
    record = Record("0123456789", of.name, of, Status.SUCCEEDED, "reached limits.max_trials", 1000.0, 1030.0, "", "1")
    told = {
        trial.id: [Metric("accuracy", trial.observations["accuracy"] * step / 4, step) for step in range(5)]
        for trial in wanted(record, history)[0].trials
    }
    return report(record, history, told)


def halved() -> Report:
    """Two objectives and a budget: the front, its volume, the rungs."""
    two = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "size", "direction": "minimize"}]
    budget = experiment(
        parameters={**SPACE}, algorithm={"name": "asha"}, budget={"parameter": "epochs", "min": 1, "max": 9}
    ).budget
    of = experiment(parameters=SPACE, objective=two, algorithm={"name": "nsga2"}, name="halved")
    of = of.model_copy(update={"budget": budget})
    rng, space = np.random.default_rng(2), search_space(of)
    suggestions = [Suggestion(index, space.draw(rng), budget=1, info={"rung": 0}) for index in range(24)]
    for rung, parents in ((1, range(0, 24, 3)), (2, range(24, 32, 3))):
        for parent in parents:
            again = {"budget": 3**rung, "parent": parent, "info": {"rung": rung}}
            suggestions.append(Suggestion(len(suggestions), suggestions[parent].assignment, **again))
    trials = [
        Trial(
            each,
            State.SUCCEEDED,
            {"accuracy": float(rng.random()) + (each.budget or 0) / 9, "size": float(rng.random())},
        )
        for each in suggestions
    ]
    record = Record("9876543210", of.name, of, Status.SUCCEEDED, "", 1000.0, 1030.0, "", "1")
    return report(record, History(tuple(trials)), {}, shares=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as driver:
        with_sandbox = ["--no-sandbox", "--disable-gpu"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=with_sandbox)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    reports = {"searched": searched(), "halved": halved()}
    for name, each in reports.items():
        (folder / f"{name}.html").write_text(html(each), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address on a screen; what the browser's console says against it fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_(address: str, screen: str = "desktop") -> Any:
        context = browser.new_context(**SCREENS[screen])
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.locator("html[data-drawn]").wait_for(state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize(
    ("name", "titles"),
    [
        (
            "searched",
            {
                "Best accuracy so far", "Curves of accuracy", "accuracy over each parameter",
                "Parallel coordinates by accuracy", "Importance for accuracy", "Lineage of the trials",
                "Timeline of trials", "Failed trials by cause",
            },
        ),
        ("halved", {"accuracy against size", "Hypervolume over the trials", "Objective at each rung"}),
    ],
    ids=["searched", "halved"],
)  # fmt: skip
def test_every_chart_has_content_and_the_page_fits(
    files: dict[str, Path], opened: Callable[..., Any], name: str, titles: set[str], screen: str
) -> None:
    page = opened(files[name].as_uri(), screen)
    charts = page.locator(".chart")
    shown = set(charts.evaluate_all("charts => charts.map(chart => chart.ariaLabel)"))
    assert titles <= shown
    assert any(" over " in title and " and " in title for title in shown)  # the two parameters that matter most
    assert charts.evaluate_all(EMPTY) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("nav a").count() == page.locator("main > section").count()


def test_in_the_dark_the_writing_of_charts_is_light(files: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(files["searched"].as_uri(), "dark")
    fill = "texts => texts.map(text => getComputedStyle(text).fill)"
    colours = page.locator(".chart .xtick text, .chart .legendtext, .chart .annotation-text").evaluate_all(fill)
    assert set(colours) == {"rgb(228, 231, 235)"}


def test_what_changes_while_the_page_is_open_is_drawn_again(files: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(files["searched"].as_uri())
    small = page.locator(".chart[aria-label='accuracy over each parameter']")
    before = small.bounding_box()
    page.set_viewport_size(PHONE)
    playwright.expect(small.locator(".ytitle, .y2title, .y3title")).to_have_count(3)  # one below the other, each titled
    assert small.bounding_box()["height"] > 1.5 * before["height"]
    page.emulate_media(color_scheme="dark")
    playwright.expect(page.locator(".chart .xtick text").first).to_have_css("fill", "rgb(228, 231, 235)")


def test_the_keyboard_reaches_the_content_and_sorts_a_table(files: dict[str, Path], opened: Callable[..., Any]) -> None:
    page = opened(files["searched"].as_uri())
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    playwright.expect(skip).to_be_focused()
    playwright.expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("main")).to_be_focused()
    table = page.locator("#trials-the-best-first table")
    head = table.locator("th", has_text="width")
    column = head.evaluate("head => [...head.parentNode.children].indexOf(head)")
    head.locator("button").focus()
    for order, reverse in (("ascending", False), ("descending", True)):
        page.keyboard.press("Enter")
        playwright.expect(head).to_have_attribute("aria-sort", order)
        cells = [int(row.split("\t")[column]) for row in table.locator("tbody").inner_text().splitlines()]
        assert cells == sorted(cells, reverse=reverse)


def test_a_live_report_shows_what_is_new_and_keeps_its_place(opened: Callable[..., Any]) -> None:
    count = [20]
    newest = Newest(
        lambda: Snapshot(str(count[0]), False, lambda: searched(count[0])), clock=iter(range(10**6)).__next__
    )
    newest.get()
    server = Server(0, newest)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    page = opened(server.address)
    playwright.expect(page.locator(".live")).to_have_text("live")
    trials = page.locator("#outcome dd").nth(1)
    playwright.expect(trials).to_contain_text("18 succeeded")
    first = page.locator("#trials-the-best-first th button").first
    first.click()
    page.locator("#timeline").evaluate("section => section.scrollIntoView()")
    top = page.locator("#timeline").bounding_box()["y"]
    page.locator("#timeline .chart").evaluate("chart => { chart.sameAsBefore = true; }")
    count[0] = 30
    playwright.expect(trials).to_contain_text("27 succeeded")
    assert abs(page.locator("#timeline").bounding_box()["y"] - top) < 2
    assert page.locator("#timeline .chart").evaluate("chart => chart.sameAsBefore")  # drawn further, not anew
    playwright.expect(first).to_be_focused()
    playwright.expect(page.locator("#trials-the-best-first th").first).to_have_attribute("aria-sort", "ascending")
    assert page.locator(".chart").evaluate_all(EMPTY) == []
    server.shutdown()
    server.server_close()
    serving.join()
