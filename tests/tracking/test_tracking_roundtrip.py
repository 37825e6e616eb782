"""What is written is read back, with its type, by each of the three ways to a store."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tracking_kit import BEGIN, ended, experiment, pending, reported, written

from katib_flow.errors import NotFound
from katib_flow.history import Kind, Metric, Origin, State, Suggestion, Trial
from katib_flow.tracking import Change, Record, Store

_indices = itertools.count(1000)
_examples = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
# every code point; two halves of a pair side by side are left out, which JSON takes for the one character they make
_texts = st.text(st.characters(), max_size=30).filter(
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") == text
)
_names = st.text(st.characters(), min_size=1, max_size=12) | st.sampled_from(
    [
        "a/b",
        "../up",
        ".",
        "/",
        "a//b",
        "a:3A:b",
        "::",
        "x\0y",
        "é/ü",
        "学習率",
        "\ud800",
        "a b",
        "a\n",
        "-",
        "%",
        "'\"`",
    ]
)
_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63, max_value=2**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts
)


def exactly(value: Any) -> tuple[type, Any]:
    return type(value), math.copysign(1, value) if isinstance(value, float) and value == 0 else value


def assert_same_assignment(found: Trial | None, expected: Trial) -> None:
    assert found is not None
    assert list(found.assignment) == list(expected.assignment)
    for name, value in expected.assignment.items():
        assert exactly(found.assignment[name]) == exactly(value), name


@_examples
@given(assignments=st.lists(st.dictionaries(_names, _values, max_size=6), min_size=1, max_size=4))
def test_parameters_read_back_with_their_type_and_value(store: Store, record: Record, assignments: Any) -> None:
    trials = [pending(next(_indices), assignment) for assignment in assignments]
    written(store, record, *trials)
    for trial in trials:
        assert_same_assignment(store.trial(record, trial.id), trial)


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, "é" * 10_000, "𝄞" * 10_000, "\0\ud800" * 100, " lead and trail ", "", "\n", 10**4000, -0.0, 1e-320],
    ids=lambda value: repr(value)[:12],
)
def test_a_value_too_odd_for_mlflow_reads_back(store: Store, record: Record, value: Any) -> None:
    trial = pending(0, {"x": value})
    written(store, record, trial)
    assert_same_assignment(store.trial(record, trial.id), trial)


def test_one_and_one_point_zero_and_true_and_text_stay_apart(store: Store, record: Record) -> None:
    trial = pending(0, {"int": 1, "float": 1.0, "bool": True, "text": "1", "none": None, "null": "null"})
    written(store, record, trial)
    assert_same_assignment(store.trial(record, trial.id), trial)


def test_more_parameters_than_one_call_takes_read_back(store: Store, record: Record) -> None:
    trial = pending(0, {f"p{number}": number for number in range(250)})
    written(store, record, trial)
    assert_same_assignment(store.trial(record, trial.id), trial)


def test_what_the_algorithm_noted_reads_back(store: Store, record: Record) -> None:
    suggestion = Suggestion(
        3, {"lr": 0.1}, budget=2.5, parent=0, info={"rung": 1, "deep": {"list": [1, None, "é"]}}, key="s1-b2-t3"
    )
    suggestion = replace(suggestion, origin=Origin(Kind.MODIFY, (2, 0), (1, 1)))
    written(store, record, Trial(suggestion))
    assert [trial.suggestion for trial in store.history(record)] == [suggestion]


def test_a_suggestion_without_anything_reads_back(store: Store, record: Record) -> None:
    suggestion = Suggestion(0, {}, budget=0, parent=0)
    written(store, record, Trial(suggestion))
    assert [trial.suggestion for trial in store.history(record)] == [suggestion]


def test_a_topology_reads_back_in_another_process(store: Store, record: Record) -> None:
    topology = {"version": 1, "vertices": [{"id": "é"}], "edges": [[0, 1, {"operation": "conv", "width": 3.0}]]}
    (trial,) = written(store, record, pending(0, topology=topology))
    assert Store(store.uri, store.experiment).history(record)[0].suggestion.topology == topology
    assert json.loads(store.read_artifact(trial.run_id, "topology.json").read_text()) == topology


def test_many_topologies_are_read_side_by_side(store: Store, record: Record) -> None:
    written(store, record, *(pending(index, topology={"number": index}) for index in range(12)))
    history = Store(store.uri, store.experiment).history(record)
    assert [trial.suggestion.topology for trial in history] == [{"number": index} for index in range(12)]


@pytest.mark.parametrize("state", State)
def test_a_state_reads_back(store: Store, record: Record, state: State) -> None:
    trial = replace(pending(0), state=state, message="why: é\n𝄞", retries=2, started=BEGIN)
    trial = replace(trial, ended=BEGIN + 7.125) if state.final else trial
    (trial,) = written(store, record, trial)
    assert store.history(record)[0] == trial


def test_a_pending_trial_has_not_started(store: Store, record: Record) -> None:
    written(store, record, pending(0))
    assert store.history(record)[0].started is None


def test_a_trial_that_is_started_again_forgets_its_end(store: Store, record: Record) -> None:
    (trial,) = written(store, record, replace(ended(0, 0.5, State.KILLED), message="cut short"))
    again = replace(trial, state=State.RUNNING, started=BEGIN + 60, ended=None, message="", observations={}, retries=1)
    written(store, record, again)
    assert store.history(record)[0] == again


@pytest.mark.parametrize("value", [0.1, -0.0, 1e308, 5e-324, math.inf, -math.inf, math.nan], ids=str)
def test_an_observation_reads_back(store: Store, record: Record, value: float) -> None:
    written(store, record, ended(0, value))
    found = store.history(record)[0].observations["accuracy"]
    assert repr(found) == repr(value)


@pytest.mark.parametrize("value", [0.1, -0.0, math.inf, -math.inf, math.nan], ids=str)
def test_a_metric_reads_back(store: Store, record: Record, value: float) -> None:
    store.write(record, [Change(ended(0, 0.5), reported([value]))])
    (found,) = store.history(record, series=True)[0].series["accuracy"]
    assert repr(found.value) == repr(value) or found.value == value == 0
    assert (found.step, found.timestamp_ms) == (0, int(BEGIN * 1000))


@_examples
@given(name=_names)
def test_a_metric_of_any_name_reads_back(store: Store, record: Record, name: str) -> None:
    trial = replace(ended(next(_indices), 0.5), observations={name: 0.25})
    (trial,) = store.write(record, [Change(trial, (Metric(name, 0.25, 3, 5),))])
    found = next(each for each in store.history(record, series=True) if each.run_id == trial.run_id)
    assert found.observations == {name: 0.25}
    assert found.series == {name: (Metric(name, 0.25, 3, 5),)}


def test_a_metric_whose_name_is_too_long_for_mlflow_reads_back(store: Store, record: Record) -> None:
    names = ["m" * 300 + end for end in ("a", "b")]
    trial = replace(ended(0, 0.5), observations=dict.fromkeys(names, 1.0))
    store.write(record, [Change(trial, tuple(Metric(name, 1.0) for name in names))])
    assert set(store.history(record, series=True)[0].series) == set(names)


def test_series_read_back_in_the_order_of_time(store: Store, record: Record) -> None:
    values = [0.5, 0.1, 0.9, 0.1, 0.1, 0.7]
    store.write(record, [Change(ended(0, 0.7), reported(values) + reported(values[::-1], "loss"))])
    series = store.history(record, series=True)[0].series
    assert [(metric.step, metric.value) for metric in series["accuracy"]] == list(enumerate(values))
    assert [(metric.step, metric.value) for metric in series["loss"]] == list(enumerate(values[::-1]))


def test_a_series_written_bit_by_bit_reads_back_whole(store: Store, record: Record) -> None:
    points = reported([number / 7 for number in range(30)])
    (trial,) = store.write(record, [Change(replace(pending(0), state=State.RUNNING, started=BEGIN), points[:1])])
    for point in points[1:]:
        store.write(record, [Change(trial, (point,))])
    assert store.history(record, series=True)[0].series == {"accuracy": points}


def test_a_series_of_more_values_than_one_call_takes_reads_back(store: Store, record: Record) -> None:
    points = reported([float(number) for number in range(2500)])
    store.write(record, [Change(ended(0, 0.5), points)])
    assert store.history(record, series=True)[0].series == {"accuracy": points}


def test_a_step_beyond_what_mlflow_counts_is_recorded_as_the_last_it_counts(store: Store, record: Record) -> None:
    store.write(record, [Change(ended(0, 0.5), (Metric("accuracy", 0.5, 10**30, 10**30),))])
    (found,) = store.history(record, series=True)[0].series["accuracy"]
    assert (found.step, found.timestamp_ms) == (2**63 - 1, 2**63 - 1)


def test_so_is_that_of_a_vector(store: Store, record: Record) -> None:
    store.write(record, [Change(ended(0, 0.5), (Metric("stats", (0.5, 1.0), 10**30, 10**30),))])
    (found,) = store.history(record, series=True)[0].series["stats"]
    assert (found.step, found.timestamp_ms) == (2**63 - 1, 2**63 - 1)


def test_vectors_read_back_with_the_numbers_between_them(store: Store, record: Record) -> None:
    vectors = (
        Metric("stats", (0.5, math.inf, -0.25), 0, 5),
        Metric("stats", (), 1, 6),
        Metric("accuracy", 0.5, 1, 7),
    )
    store.write(record, [Change(ended(0, 0.5), vectors)])
    series = store.history(record, series=True)[0].series
    assert series == {"stats": vectors[:2], "accuracy": vectors[2:]}


def test_a_vector_written_twice_is_there_once(store: Store, record: Record) -> None:
    (trial,) = written(store, record, pending(0))
    for _ in range(2):
        store.write(record, [Change(trial, (Metric("stats", (1.0, 2.0)),))])
    assert store.history(record, series=True)[0].series == {"stats": (Metric("stats", (1.0, 2.0)),)}


def test_without_series_none_is_read(store: Store, record: Record) -> None:
    store.write(record, [Change(ended(0, 0.5), reported([0.5]))])
    assert store.history(record)[0].series == {}


def test_the_log_and_other_files_are_kept(store: Store, record: Record, tmp_path: Path) -> None:
    log, folder = tmp_path / "log.txt", tmp_path / "weights"
    log.write_bytes(b"epoch 1\n\xff\xfe not text\n")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.bin").write_bytes(b"\0" * 100)
    (trial,) = store.write(record, [Change(ended(0, 0.5), (), log, {"model/weights": folder, "log copy.txt": log})])
    assert store.read_artifact(trial.run_id, "log.txt").read_bytes() == log.read_bytes()
    assert store.read_artifact(trial.run_id, "log copy.txt").read_bytes() == log.read_bytes()
    assert (store.read_artifact(trial.run_id, "model/weights") / "deep" / "a.bin").read_bytes() == b"\0" * 100


@pytest.mark.parametrize("content", [None, b""], ids=["gone", "empty"])
def test_a_log_without_anything_is_left_out(store: Store, record: Record, tmp_path: Path, content: Any) -> None:
    log = tmp_path / "log.txt"
    if content is not None:
        log.write_bytes(content)
    (trial,) = store.write(record, [Change(ended(0, 0.5), (), log)])
    with pytest.raises(NotFound, match=r"has no artifact 'log\.txt'"):
        store.read_artifact(trial.run_id, "log.txt")


def test_a_longer_log_takes_the_place_of_a_shorter_one(store: Store, record: Record, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("one\n")
    (trial,) = store.write(record, [Change(pending(0), (), log)])
    log.write_text("one\ntwo\n")
    store.write(record, [Change(trial, (), log)])
    assert store.read_artifact(trial.run_id, "log.txt").read_text() == "one\ntwo\n"


def test_the_spec_reads_back_as_it_was(store: Store) -> None:
    spec = experiment(parameters={"kind": {"type": "categorical", "values": [1, 1.0, "1", True, None, "é"]}})
    record = store.create(spec)
    assert store.get(record.run_id).experiment == spec


def test_a_spec_larger_than_a_tag_reads_back(store: Store) -> None:
    values = [f"value-{number:05d}" for number in range(1000)]
    spec = experiment(parameters={"kind": {"type": "categorical", "values": values}})
    assert store.get(store.create(spec).run_id).experiment == spec
