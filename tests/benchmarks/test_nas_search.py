"""The comparison of NAS systems with chance: the control learns nothing, results are continued, rows add up."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import nas_search
from benchmarks.nas_search import Task, best_met, choice, missing, read, report, run, searched
from benchmarks.nas_worlds import on_table, random_networks, search_trials, table, worlds
from katib_flow.history import History, Suggestion

AMOEBANET = worlds()["table"].systems["amoebanet"]


def code(suggestion: Suggestion, history: History) -> Mapping[str, float]:
    """A loss that falls with every convolution."""
    return {"loss": 6.0 - sum(value == "conv3" for value in suggestion.assignment.values())}


def trials(feedback, count=60):
    search = search_trials(AMOEBANET, code, feedback)
    return [next(search) for _ in range(count)]


def test_a_search_with_noise_as_feedback_reports_its_results_and_learns_nothing_from_them():
    informed, blind = ([trial.observations["loss"] for trial in trials(feedback)] for feedback in ("results", "noise"))
    population = AMOEBANET.algorithm.settings.get("population", 20)
    assert informed[:5] == blind[:5]  # drawn before there is anything to learn from
    assert np.mean(informed[population + 10 :]) < np.mean(blind[population + 10 :]) - 0.5
    for trial in trials("noise", 20):
        assert trial.observations == code(trial.suggestion, History())


def test_a_search_on_the_table_trains_no_network_twice():
    search = on_table(AMOEBANET, "results")
    trainings = [next(search) for _ in range(80)]
    assert len({(training.seen, training.true) for training in trainings}) == 80


def test_random_networks_are_as_good_as_random_search_is_exactly():
    best = [min(one.true for one in random_networks(seed, 50)) for seed in range(400)]
    assert np.mean(best) == pytest.approx(table().random_search(50), abs=4 * np.std(best) / 20)


def test_the_choice_looked_best_and_the_best_met_is_best():
    rows = [(0.3, 0.5, 1.0), (0.1, 0.4, 1.0), (0.2, 0.2, 1.0)]
    assert (choice(rows), best_met(rows)) == (0.4, 0.2)


def test_a_search_is_written_down_once_and_not_run_again(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    monkeypatch.setattr(nas_search, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(nas_search, "searched", lambda task: [(0.5 + task.seed, 0.25, 1.0)])
    tasks = missing(path, ["amoebanet"], 2)
    assert [(task.seed, task.feedback) for task in tasks] == [
        (0, "results"),
        (0, "noise"),
        (1, "results"),
        (1, "noise"),
    ]
    run(tasks[:3], path, workers=1)
    assert missing(path, ["amoebanet"], 2) == tasks[3:]
    assert read(path)[tasks[2].key()] == [[1.5, 0.25, 1.0]]


class InThisProcess:
    """An executor that runs each task at once, in this process."""

    def __init__(self, workers):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, task):
        future = Future()
        future.set_result(function(task))
        return future


def test_a_row_compares_the_seeds_that_have_both_kinds_and_leaves_out_other_settings():
    current = worlds()["digits"].digest("nash")

    def key(seed, feedback, digest=current):
        return Task("digits", "nash", seed, feedback, digest).key()

    results = {
        key(seed, feedback): [[1.0, 0.5 if feedback == "results" else 0.75, 0.5]] * 4
        for seed in range(2)
        for feedback in ("results", "noise")
    }
    results |= {key(7, "results"): [[1.0, 9.0, 9.0]], key(1, "noise", "other"): [[1.0, 9.0, 9.0]]}
    (row,) = (line for line in report(results).splitlines() if "`nash`" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["`nash`", "2", "2", "0.5000 (0.5000 to 0.5000)", "0.7500"]


@pytest.mark.slow
def test_a_search_on_digits_trains_children_from_what_they_inherit(monkeypatch):
    pytest.importorskip("torch")
    short = replace(worlds()["digits"], trainings=3)
    monkeypatch.setattr(nas_search, "worlds", lambda: {"digits": short})
    rows = searched(Task("digits", "network-morphism", 0, "results", short.digest("network-morphism")))
    assert len(rows) == 3
    assert min(row[0] for row in rows[1:]) < rows[0][0]
    assert all(row[2] == pytest.approx(0.3) for row in rows)  # three epochs of 300 images
