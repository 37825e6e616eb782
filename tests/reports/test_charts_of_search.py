"""The charts of a search as plain data: what is drawn of which trials, and what is left out."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from kit import experiment

from katib_flow.history import History, Kind, Origin, Position, State, Suggestion, Trial
from katib_flow.reports import landscape, parallel
from katib_flow.reports.blocks import Chart, Section, Table
from katib_flow.reports.descent import branches, lineage_sections, pruned, related_of, tree
from katib_flow.reports.failures import cause_of, causes, failure_sections
from katib_flow.reports.fronts import volume_over_time
from katib_flow.reports.parameters import parameter_sections
from katib_flow.reports.rungs import rung_sections
from katib_flow.reports.timeline import lanes_of, timeline_sections
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

LR = {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}
KIND = {"type": "categorical", "values": ["a", "b"]}
MOMENTUM = {"type": "float", "min": 0.0, "max": 1.0, "when": {"kind": ["b"]}}


def drawn(of: Experiment, count: int = 60) -> History:
    """Random trials; ``accuracy`` is 1 minus the distance of lr from 0.01 in decades."""
    rng, space = np.random.default_rng(0), search_space(of)
    assignments = [space.draw(rng) for _ in range(count)]
    return History(
        tuple(
            Trial(Suggestion(index, each), State.SUCCEEDED, {"accuracy": 1 - abs(float(np.log10(each["lr"])) + 2)})  # type: ignore[arg-type]
            for index, each in enumerate(assignments)
        )
    )


def numbers(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def one_chart(section: Section) -> Chart:
    (chart,) = (block for block in section.blocks if isinstance(block, Chart))
    return chart


# parallel coordinates


def test_a_line_for_each_trial_in_bands_the_best_at_the_top() -> None:
    made = experiment(parameters={"lr": LR, "kind": KIND, "momentum": MOMENTUM})
    trials = drawn(made).trials
    figure = parallel.parallel(made.objective[0], made.parameters, trials)
    bands = {trace["name"]: trace for trace in figure["data"]}
    assert {name: trace["x"].count(None) for name, trace in bands.items()} == {
        "best 5%": 3, "next 15%": 9, "next 30%": 18, "worse half": 30,
    }  # fmt: skip
    heights = np.array([y for y in bands["best 5%"]["y"] if y is not None]).reshape(3, 4)
    assert heights[:, -1].max() == 1.0
    worse = np.array([y for y in bands["worse half"]["y"] if y is not None]).reshape(30, 4)
    assert worse[:, -1].max() < heights[:, -1].min()
    absent = sum("momentum" not in trial.assignment for trial in trials)
    passed = [y for trace in bands.values() for x, y in zip(trace["x"], trace["y"], strict=True) if x == 2]
    assert passed.count(parallel.INACTIVE) == absent > 0


def test_of_many_trials_the_best_lines_are_drawn_and_some_of_the_others() -> None:
    made = experiment(parameters={"lr": LR, "kind": KIND})
    trials = drawn(made, 2000).trials
    shown = parallel.drawn(made.objective[0], trials)
    assert len(shown) <= parallel.MOST_LINES
    best = sorted(trials, key=lambda trial: -trial.observations["accuracy"])[: parallel.MOST_BEST]
    assert shown[: len(best)] == best


# the two parameters that matter most


@pytest.mark.parametrize("name", ["lr", "kind"])
def test_without_importance_the_parameters_whose_means_differ_most_are_chosen(name: str) -> None:
    made = experiment(parameters={"kind": KIND, "idle": {"type": "float", "min": 0, "max": 1}, "lr": LR})
    values = drawn(made).trials
    if name == "kind":
        values = tuple(
            Trial(each.suggestion, State.SUCCEEDED, {"accuracy": float(each.assignment["kind"] == "b")})
            for each in values
        )
    pair = landscape.pair_of(made.objective[0], made.parameters, values, None)
    assert pair is not None
    assert pair[0] == name


def test_the_surface_is_the_mean_of_what_lies_near_and_empty_where_nothing_does() -> None:
    made = experiment(
        parameters={"x": {"type": "float", "min": 0, "max": 1}, "y": {"type": "float", "min": 0, "max": 1}}
    )
    corners = [(0.02, 0.02, 1.0), (0.02, 0.03, 3.0)] * 4
    trials = [
        Trial(Suggestion(index, {"x": x, "y": y}), State.SUCCEEDED, {"accuracy": value})
        for index, (x, y, value) in enumerate(corners)
    ]
    figure = landscape.landscape(made.objective[0], made.parameters, trials, ("x", "y"))
    surface = figure["data"][0]
    assert surface["type"] == "contour"
    assert surface["z"][0][0] == pytest.approx(2.0, abs=0.2)
    assert surface["z"][-1][-1] is None
    assert len(figure["data"][1]["x"]) == 8


def test_a_choice_has_a_row_of_its_own() -> None:
    made = experiment(parameters={"lr": LR, "kind": KIND})
    trials = [
        Trial(Suggestion(index, {"lr": 0.01, "kind": "ab"[index % 2]}), State.SUCCEEDED, {"accuracy": index % 2})
        for index in range(8)
    ]
    figure = landscape.landscape(made.objective[0], made.parameters, trials, ("lr", "kind"))
    surface = figure["data"][0]
    assert surface["type"] == "heatmap"
    assert [set(numbers(row)) for row in surface["z"]] == [{0.0}, {1.0}]
    assert figure["layout"]["yaxis"]["ticktext"] == ["a", "b"]


def test_the_points_of_an_axis_rise_even_where_whole_numbers_repeat() -> None:
    made = experiment(parameters={"n": {"type": "int", "min": 1, "max": 12, "scale": "log"}})
    places = landscape._middles(made.parameters["n"])
    assert len(places) == landscape.POINTS
    assert (places[0], places[-1]) == (1, 12)
    assert all(one <= other for one, other in pairwise(places))


# timeline


def timed(
    index: int, start: float, end: float | None, state: State = State.SUCCEEDED, lane: int | None = None
) -> Trial:
    position = None if lane is None else Position(0, 1, lane)
    return Trial(Suggestion(index, {"lr": 0.1}), state, started=start, ended=end, position=position)


def test_trials_that_overlap_lie_on_lanes_of_their_own_and_a_lane_is_used_again() -> None:
    trials = [timed(0, 0, 4), timed(1, 1, 2), timed(2, 2, 5), timed(3, 4, 6), timed(4, 4.5, None, State.RUNNING)]
    lanes = lanes_of(trials, now=9)
    assert [lanes[trial.id] for trial in trials] == [0, 1, 1, 0, 2]


def test_lanes_of_a_workflow_are_its_own() -> None:
    assert set(lanes_of([timed(0, 0, 1, lane=3), timed(1, 2, 3, lane=1)], now=9).values()) == {3, 1}


def test_the_timeline_has_a_bar_for_each_trial_by_its_state() -> None:
    trials = [timed(0, 100, 104), timed(1, 101, 102, State.FAILED), timed(2, 103, None, State.RUNNING)]
    (section,) = timeline_sections(History(tuple(trials)), now=110)
    bars = {trace["name"]: trace for trace in one_chart(section).figure["data"]}
    assert {name: trace["x"][:2] for name, trace in bars.items()} == {
        "succeeded": [0, 4], "failed": [1, 2], "running": [3, 10],
    }  # fmt: skip


def test_without_times_there_is_no_timeline() -> None:
    assert not list(timeline_sections(drawn(experiment()), now=0))


# failures


@pytest.mark.parametrize(
    ("one", "other", "cause"),
    [
        (
            "ValueError: loss is nan at step 12",
            "ValueError: loss is nan at step 7",
            "ValueError: loss is nan at step <n>",
        ),
        ("cannot read /tmp/a1/x.csv", "cannot read /data/b.csv", "cannot read <path>"),
        ("x at 0x7f33a0", "x at 0x11bb22", "x at <id>"),
        ("lr=0.7328144476 diverged", "lr=1e-05 diverged", "lr=<n> diverged"),
        ("Traceback\n  File\nKeyError: 'a'", "KeyError: 'a'", "KeyError: 'a'"),
        ("run 3f2a9c1d4e5b6a7f failed", "run 11aa22bb33cc44dd failed", "run <id> failed"),
        ("asked https://a.example/1?x=2 in vain", "asked https://b.example in vain", "asked <address> in vain"),
    ],
)
def test_messages_of_one_cause_are_one(one: str, other: str, cause: str) -> None:
    assert cause_of(one) == cause_of(other) == cause


@pytest.mark.parametrize("message", ["conv2d is not known", "no metric 'top5'", "FileNotFoundError: it is gone", ""])
def test_names_with_digits_are_not_cut(message: str) -> None:
    assert cause_of(message) == message


def test_failures_are_counted_by_cause_and_say_what_their_parameters_have_in_common() -> None:
    made = experiment(parameters={"lr": LR, "kind": KIND})

    def trial(index: int, lr: float, kind: str, message: str) -> Trial:
        state = State.FAILED if message else State.SUCCEEDED
        return Trial(Suggestion(index, {"lr": lr, "kind": kind}), state, message=message)

    trials = [
        trial(0, 0.9, "a", "diverged at step 3"), trial(1, 0.001, "a", ""), trial(2, 0.0001, "b", "no disk"),
        trial(3, 0.8, "a", "diverged at step 9"), trial(4, 0.01, "b", ""),
    ]  # fmt: skip
    first, second = causes(History(tuple(trials)), made.parameters)
    assert [trial.id for trial in first.trials] == ["t00000", "t00003"]
    assert first.where == "lr from 0.8 to 0.9; kind = a"
    assert (second.text, second.where) == ("no disk", "")
    (section,) = failure_sections(History(tuple(trials)), made.parameters)
    assert one_chart(section).figure["data"][0]["x"] == [1, 2]


# lineage


def descended(*parents: int | None) -> History:
    """Trials with these parents; each is better than the one before."""
    trials = [
        Trial(
            Suggestion(index, {"lr": 0.1}, origin=Origin(Kind.MODIFY, () if parent is None else (parent,))),
            State.SUCCEEDED,
            {"accuracy": index / 10},
        )
        for index, parent in enumerate(parents)
    ]
    return History(tuple(trials))


def test_a_tree_stands_each_trial_at_its_depth_and_a_parent_amid_its_children() -> None:
    history = descended(None, 0, 0, 1, 1, None)
    related = related_of(history)
    assert list(related) == [0, 1, 2, 3, 4]  # the last has no relative
    nodes = {node.trial.index: (node.depth, node.row) for node in tree(related)}
    assert nodes == {0: (0, 1.25), 1: (1, 0.5), 2: (1, 2.0), 3: (2, 0.0), 4: (2, 1.0)}


@pytest.mark.parametrize(("parents", "told"), [((None, 0, 1), False), ((None, 0, 0), True), ((None, None, 0, 1), True)])
def test_one_line_of_descent_is_no_tree(parents: tuple[int | None, ...], told: bool) -> None:
    assert branches(related_of(descended(*parents))) is told


def test_trials_that_name_each_other_as_parents_make_no_endless_tree() -> None:
    related = related_of(descended(1, 0, 5, 2))
    assert {node.trial.index: node.depth for node in tree(related)} == {0: 0, 1: 1, 2: 0, 3: 1}


def test_of_a_large_tree_the_best_are_kept_with_all_that_they_descend_from() -> None:
    made = experiment()
    history = descended(None, *[max(0, index - 2) for index in range(1, 2000)])
    kept = pruned(related_of(history), made.objective[0])
    assert len(kept) <= 250
    assert all(kept[index].suggestion.origin.parents[0] in kept for index in kept if index)


def test_a_chain_of_thousands_is_drawn_without_recursion() -> None:
    related = {trial.index: trial for trial in descended(None, *range(4999))}
    assert max(node.depth for node in tree(related)) == 4999


def test_the_line_to_the_best_stands_out() -> None:
    (section,) = lineage_sections(experiment(), descended(None, 0, 0, 2))
    line = one_chart(section).figure["data"][1]
    assert line["x"].count(None) == 2  # from the first to the third, and on to the fourth


# rungs


def test_rungs_count_who_competed_and_who_went_on() -> None:
    made = experiment(
        parameters={"lr": LR, "epochs": {"type": "int", "min": 1, "max": 9}},
        algorithm={"name": "random"},
    )
    made = made.model_copy(update={"budget": experiment(
        algorithm={"name": "asha"}, budget={"parameter": "epochs", "min": 1, "max": 9}).budget})  # fmt: skip
    trials = [
        Trial(
            Suggestion(index, {"lr": 0.1}, budget=budget, parent=parent, info={"rung": 0}),
            State.SUCCEEDED,
            {"accuracy": value},
        )
        for index, (budget, parent, value) in enumerate([(1, None, 0.1), (1, None, 0.3), (1, None, 0.2), (3, 1, 0.5)])
    ]
    (section,) = rung_sections(made, History(tuple(trials)))
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert table.rows == [[1, 3, 0.3, 0.2, 1], [3, 1, 0.5, 0.5, 0]]
    figure = one_chart(section).figure
    assert figure["layout"]["xaxis"]["ticktext"] == ["1", "3"]
    assert [trace["name"] for trace in figure["data"]] == ["line to the best", "trial"]
    assert not list(lineage_sections(made, History(tuple(trials))))  # rungs tell it


def test_charts_of_parameters_compare_only_trials_of_one_budget() -> None:
    spec = experiment(parameters={"lr": LR, "depth": {"type": "int", "min": 1, "max": 9}})
    budgets = [1.0] * 20 + [3.0] * 12 + [9.0] * 4
    trials = [
        Trial(
            Suggestion(index, {"lr": 0.01 * (1 + index), "depth": 1 + index % 9}, budget=budget),
            State.SUCCEEDED,
            {"accuracy": budget + 0.001 * index},
        )
        for index, budget in enumerate(budgets)
    ]
    each, two, every = parameter_sections(spec, History(tuple(trials)), [])
    for section in (each, two, every):
        caption = one_chart(section).caption
        assert "Only trials with a budget of 3 are compared; 24 trials had another budget." in caption
    assert len(one_chart(each).figure["data"][0]["x"]) == 12
    shown = [value for row in one_chart(two).figure["data"][0]["z"] for value in row if value is not None]
    assert min(shown) > 3  # a mean with trials of budget 1 would be lower
    assert max(shown) < 4
    (alone, *_) = parameter_sections(spec, History(tuple(trials[:20])), [])
    assert "budget" not in one_chart(alone).caption


def test_without_a_budget_there_are_no_rungs() -> None:
    assert not list(rung_sections(experiment(), drawn(experiment())))


# hypervolume


def several(count: int, rows: list[tuple[float, ...]]) -> tuple[Experiment, History]:
    made = experiment(
        objective=[{"metric": name, "direction": "minimize"} for name in "abc"[:count]], algorithm={"name": "nsga2"}
    )
    trials = [
        Trial(Suggestion(index, {"lr": 0.1}), State.SUCCEEDED, dict(zip("abc", row, strict=False)))
        for index, row in enumerate(rows)
    ]
    return made, History(tuple(trials))


def test_the_volume_is_a_share_of_the_box_between_best_and_worst() -> None:
    made, history = several(2, [(0.0, 4.0), (4.0, 0.0), (2.0, 2.0), (3.0, 3.0), (1.0, 1.0)])
    assert volume_over_time(made, history) == [(0, 0.0), (1, 0.0), (2, 0.25), (3, 0.25), (4, 0.5625)]


def test_of_three_objectives_the_volume_is_estimated() -> None:
    made, history = several(3, [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.5, 0.5, 0.5)])
    course = volume_over_time(made, history)
    assert [index for index, _ in course] == [0, 1, 2, 3]
    assert course[-1][1] == pytest.approx(0.125, abs=0.01)  # a standard deviation is 0.0023


def test_objectives_that_do_not_vary_have_no_volume() -> None:
    made, history = several(2, [(1.0, 2.0), (1.0, 3.0)])
    assert volume_over_time(made, history) == []
