"""A person who opens only MLflow's page understands an experiment: how it stands, what is best, how to get it again."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tracking_kit import BEGIN, client_of, ended, experiment, pending, written

from katib_flow.history import History, Kind, Origin, State, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking import Record, Status, Store


def run_of(store: Store, record: Record) -> Any:
    return client_of(store).get_run(record.run_id)


def course(store: Store, record: Record, metric: str = "best/accuracy") -> list[tuple[int, float]]:
    points = client_of(store).get_metric_history(record.run_id, metric)
    return sorted((point.step, point.value) for point in points)


def history_of(*trials: Trial) -> History:
    return History(trials)


@pytest.mark.parametrize(
    ("status", "mlflow"),
    [
        (Status.RUNNING, "RUNNING"),
        (Status.PAUSED, "RUNNING"),
        (Status.SUCCEEDED, "FINISHED"),
        (Status.FAILED, "FAILED"),
        (Status.STOPPED, "KILLED"),
        (Status.INTERRUPTED, "KILLED"),
    ],
)
def test_a_status_is_one_of_mlflow_too(store: Store, record: Record, status: Status, mlflow: str) -> None:
    found = store.summarise(record, history_of(), status, "because")
    assert (found.status, found.reason) == (status, "because")
    assert (found.ended is not None) == status.final
    assert run_of(store, record).info.status == mlflow
    assert store.get(record.run_id) == found


@pytest.mark.parametrize(
    ("state", "mlflow"),
    [
        (State.PENDING, "SCHEDULED"),
        (State.RUNNING, "RUNNING"),
        (State.SUCCEEDED, "FINISHED"),
        (State.EARLY_STOPPED, "FINISHED"),
        (State.FAILED, "FAILED"),
        (State.METRICS_UNAVAILABLE, "FAILED"),
        (State.KILLED, "KILLED"),
    ],
)
def test_a_state_is_a_status_of_mlflow_too(store: Store, record: Record, state: State, mlflow: str) -> None:
    (trial,) = written(store, record, replace(pending(0), state=state, ended=BEGIN if state.final else None))
    assert client_of(store).get_run(trial.run_id).info.status == mlflow


def test_without_a_status_a_summary_leaves_it_alone(store: Store, record: Record) -> None:
    store.summarise(record, history_of(), Status.PAUSED, "paused by ada")
    found = store.summarise(record, history_of(ended(0, 0.5)))
    assert (found.status, found.reason) == (Status.PAUSED, "paused by ada")


def test_an_experiment_that_runs_again_is_not_ended(store: Store, record: Record) -> None:
    store.summarise(record, history_of(), Status.STOPPED, "by ada")
    found = store.summarise(record, history_of(), Status.RUNNING)
    assert (found.status, found.reason, found.ended) == (Status.RUNNING, "", None)
    assert run_of(store, record).info.status == "RUNNING"


def test_a_status_that_mlflow_has_not_heard_of_is_told_to_it_again(store: Store, record: Record) -> None:
    client_of(store).set_tag(record.run_id, "katib_flow.status", "succeeded")  # and then its process was killed
    store.summarise(record, history_of(), Status.SUCCEEDED, "done")
    assert run_of(store, record).info.status == "FINISHED"


def test_the_best_is_a_metric_over_the_index_of_trials(store: Store, record: Record) -> None:
    values = [0.3, 0.2, 0.5, math.nan, 0.4, 0.7]
    store.summarise(record, history_of(*(ended(index, value) for index, value in enumerate(values))))
    assert course(store, record) == [(0, 0.3), (2, 0.5), (5, 0.7)]


def test_a_loss_gets_better_as_it_falls(store: Store) -> None:
    record = store.create(experiment(objective={"metric": "accuracy", "direction": "minimize"}))
    store.summarise(record, history_of(*(ended(index, value) for index, value in enumerate([0.3, 0.5, 0.2]))))
    assert course(store, record) == [(0, 0.3), (2, 0.2)]


def test_trials_that_fail_are_never_the_best(store: Store, record: Record) -> None:
    store.summarise(record, history_of(ended(0, 0.3), ended(1, 0.9, State.FAILED), ended(2, math.inf)))
    assert course(store, record) == [(0, 0.3)]


def test_the_latest_value_of_the_best_is_the_best_however_trials_end(store: Store, record: Record) -> None:
    trials = [ended(5, 0.4, after=1), ended(2, 0.6, after=2), ended(0, 0.5, after=3)]
    for count in range(1, 4):
        store.summarise(record, history_of(*trials[:count]))
    assert run_of(store, record).data.metrics["best/accuracy"] == 0.6


def test_a_summary_written_again_adds_nothing(store: Store, record: Record) -> None:
    history = history_of(ended(0, 0.3), ended(1, 0.5))
    for each in (store, store, Store(store.uri, store.experiment)):
        each.summarise(record, history, Status.SUCCEEDED, "done")
    assert course(store, record) == [(0, 0.3), (1, 0.5)]
    assert course(store, record, "trials/succeeded") == [(2, 2.0)]


def test_the_course_of_the_best_goes_on_to_the_last_trial(store: Store, record: Record) -> None:
    history = history_of(*(ended(index, value) for index, value in enumerate([0.3, 0.5, 0.2, 0.1])))
    store.summarise(record, history, Status.SUCCEEDED, "done")
    assert course(store, record) == [(0, 0.3), (1, 0.5), (3, 0.5)]


def test_every_objective_has_its_best(store: Store) -> None:
    objectives = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "loss", "direction": "minimize"}]
    record = store.create(experiment(objective=objectives, additional_metrics=[]))
    trials = [replace(ended(index, 0.5), observations={"accuracy": 0.5, "loss": 1.0 - index}) for index in range(2)]
    store.summarise(record, history_of(*trials))
    assert course(store, record, "best/loss") == [(0, 1.0), (1, 0.0)]


def test_counts_by_state_are_metrics(store: Store, record: Record) -> None:
    states = [State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.KILLED]
    running = replace(pending(4), state=State.RUNNING, started=BEGIN)
    store.summarise(record, history_of(*(ended(index, 0.5, state) for index, state in enumerate(states)), running))
    counts = {name: value for name, value in run_of(store, record).data.metrics.items() if name.startswith("trials/")}
    assert counts == {"trials/succeeded": 2, "trials/failed": 1, "trials/killed": 1, "trials/running": 1}


def test_counts_are_right_after_a_killed_trial_began_again(store: Store, record: Record) -> None:
    killed = ended(1, 0.5, State.KILLED)
    store.summarise(record, history_of(ended(0, 0.5), killed), Status.INTERRUPTED, "interrupted")
    store.summarise(record, history_of(ended(0, 0.5), replace(killed, state=State.RUNNING)), Status.RUNNING)
    metrics = run_of(store, record).data.metrics
    assert (metrics["trials/killed"], metrics["trials/running"], metrics["trials/succeeded"]) == (0, 1, 1)


def test_the_page_compares_experiments_by_params(store: Store) -> None:
    record = store.create(
        experiment(
            budget={"parameter": "epochs", "min": 1, "max": 27, "eta": 3},
            algorithm={"name": "random", "seed": 7, "settings": {"distinct": True, "é": [1, 2]}},
        )
    )
    params = run_of(store, record).data.params
    expected = {
        "algorithm": "random",
        "seed": "7",
        "algorithm.distinct": "true",
        "algorithm.é": "[1, 2]",
        "objective.accuracy": "maximize",
        "goal.accuracy": "0.99",
        "limits.max_trials": "20",
        "limits.parallel_trials": "4",
        "budget.parameter": "epochs",
        "budget.min": "1",
        "budget.max": "27",
        "trial": "function",
    }
    assert {name: params.get(name) for name in expected} == expected


def test_the_spec_is_a_file_that_can_be_run_again(store: Store, record: Record) -> None:
    text = store.read_artifact(record.run_id, "spec.yaml").read_text()
    assert Experiment.parse(yaml.safe_load(text)) == record.experiment


def test_the_description_tells_how_it_stands_and_what_is_best_and_how_to_get_it_again(
    store: Store, record: Record
) -> None:
    first, best = written(store, record, ended(0, 0.5), replace(ended(1, 0.75), message="odd | text"))
    store.summarise(record, history_of(first, best), Status.SUCCEEDED, "reached limits.max_trials (2)")
    note = run_of(store, record).data.tags["mlflow.note.content"]
    assert note.startswith("**succeeded**: reached limits.max\\_trials (2)")
    assert "(2 succeeded)" in note
    assert f"[t00001](#/experiments/{record.mlflow_experiment_id}/runs/{best.run_id}): accuracy = 0.75" in note
    assert "| lr | 0.5 |" in note
    assert f"katib-flow spec {record.run_id} -o spec.yaml\n" in note
    assert "katib-flow run spec.yaml" in note
    assert "katib-flow resume digits" in note


def test_the_description_of_an_experiment_without_a_value_says_so(store: Store, record: Record) -> None:
    store.summarise(record, history_of(ended(0, math.nan)))
    assert "No trial has a finite value of the objective yet." in run_of(store, record).data.tags["mlflow.note.content"]


def test_a_description_is_cut_where_mlflow_would_refuse_it(store: Store) -> None:
    assignment = {f"parameter-{number}": "x|" * 500 for number in range(60)}
    record = store.create(experiment(description="d" * 9000))
    found = store.summarise(record, history_of(replace(ended(0, 0.5), suggestion=pending(0, assignment).suggestion)))
    assert found.status is Status.RUNNING


def test_a_trial_lies_below_its_experiment_with_its_parameters_and_metrics(store: Store, record: Record) -> None:
    (trial,) = written(store, record, replace(pending(3, {"lr": 0.5, "n": 2, "act": "relu"}, budget=9.0, parent=1)))
    run = client_of(store).get_run(trial.run_id)
    assert run.info.run_name == "t00003"
    assert run.data.params == {"lr": "0.5", "n": "2", "act": "relu"}
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == record.run_id
    assert (tags["katib_flow.trial_id"], tags["katib_flow.state"]) == ("t00003", "pending")
    assert (tags["katib_flow.budget"], tags["katib_flow.parent_trial"]) == ("9.0", "1")
    (bred,) = written(store, record, pending(4, origin=Origin(Kind.MODIFY, (2, 0))))
    assert client_of(store).get_run(bred.run_id).data.tags["katib_flow.parent_trial"] == "2"


def test_files_are_kept_with_the_experiment(store: Store, record: Record, tmp_path: Path) -> None:
    (tmp_path / "plot.svg").write_text("<svg/>")
    store.log_artifact(record, tmp_path / "plot.svg")
    store.log_artifact(record, tmp_path / "plot.svg", "plots/é one.svg")
    store.log_text(record, "<html/>\r\n", "report.html")
    assert store.read_artifact(record.run_id, "plot.svg").read_text() == "<svg/>"
    assert store.read_artifact(record.run_id, "plots/é one.svg").read_text() == "<svg/>"
    assert store.read_artifact(record.run_id, "report.html").read_bytes() == b"<html/>\r\n"


def test_a_value_in_the_description_is_text_and_no_markdown(store: Store) -> None:
    record = store.create(experiment())
    assignment = {"lr": "<img src=x> [here](javascript:1) *b* `c` a|b\nnew"}
    store.summarise(record, history_of(replace(ended(0, 0.5), suggestion=pending(0, assignment).suggestion)))
    note = run_of(store, record).data.tags["mlflow.note.content"]
    assert r"| lr | \<img src=x\> \[here\](javascript:1) \*b\* \`c\` a\|b new |" in note
