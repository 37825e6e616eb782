"""How much is asked of a server: a call for an event, not for each metric, and never more than MLflow takes."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tracking_kit import BEGIN, Proxy, ended, experiment, pending, reported, written

from katib_flow.history import Metric, State
from katib_flow.tracking import Change, Store
from katib_flow.tracking.runs import MAX_BYTES, batches, covering

RUNNING = replace(pending(0), state=State.RUNNING, started=BEGIN)


def posts(proxy: Proxy) -> list[str]:
    """What was asked of the server since the last look, reads of the experiment left out."""
    asked = [path.removeprefix("/api/2.0/mlflow/") for _, path in proxy.requests]
    proxy.requests.clear()
    return sorted(asked)


def test_many_metrics_of_an_event_are_one_call(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group)
    record = store.create(experiment())
    (trial,) = written(store, record, RUNNING)
    posts(proxy)
    metrics = tuple(Metric(f"m{number}", number / 7, step, 5) for number in range(40) for step in range(20))
    store.write(record, [Change(trial, metrics)])
    assert posts(proxy) == ["runs/log-batch"]


def test_the_end_of_a_trial_is_two_calls(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group)
    record = store.create(experiment())
    (trial,) = written(store, record, RUNNING)
    posts(proxy)
    store.write(record, [Change(replace(ended(0, 0.5), run_id=trial.run_id), reported([0.1, 0.5]))])
    assert posts(proxy) == ["runs/log-batch", "runs/update"]


def test_a_new_running_trial_is_two_calls(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group)
    record = store.create(experiment())
    posts(proxy)
    written(store, record, RUNNING)
    assert posts(proxy) == ["runs/create", "runs/log-batch"]


def test_a_batch_of_new_trials_is_looked_for_in_one_search(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group)
    record = store.create(experiment())
    posts(proxy)
    store.write(record, [Change(pending(index)) for index in range(20)], lookup=True)
    assert posts(proxy).count("runs/search") == 1


def test_a_look_at_what_the_user_asks_for_is_one_call(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group)
    record = store.create(experiment())
    posts(proxy)
    store.control(record)
    assert posts(proxy) == ["runs/get"]


def test_to_find_an_experiment_by_its_key_is_one_call(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group)
    store.create(experiment(), key="k")
    posts(proxy)
    store.create(experiment(), key="k")
    assert posts(proxy) == ["runs/search"]


def test_texts_of_many_bytes_are_taken(store: Store) -> None:
    record = store.create(experiment())
    trial = pending(0, {f"p{number}": "𝄞" * 6000 for number in range(90)})
    written(store, record, trial)
    assert store.history(record)[0].assignment == trial.assignment


_items = st.lists(
    st.tuples(st.sampled_from(["metrics", "params", "tags"]), st.integers(), st.integers(1, MAX_BYTES)), max_size=30
)


@given(items=_items)
def test_batches_hold_every_item_in_order(items: list[tuple[str, int, int]]) -> None:
    found = list(batches(items))
    for kind in ("metrics", "params", "tags"):
        assert [item for batch in found for item in batch[kind]] == [item for each, item, _ in items if each == kind]


@given(sizes=st.lists(st.integers(1, MAX_BYTES), max_size=30))
def test_batches_stay_within_the_bytes_of_a_call(sizes: list[int]) -> None:
    for batch in batches([("params", size, size) for size in sizes]):
        assert 0 < sum(batch["params"]) <= MAX_BYTES


def test_batches_stay_within_the_numbers_of_a_call() -> None:
    items = [(kind, number, 1) for kind in ("metrics", "params", "tags") for number in range(2345)]
    found = list(batches(items))
    assert max(len(batch["params"]) for batch in found) == max(len(batch["tags"]) for batch in found) == 100
    assert max(len(batch["metrics"]) for batch in found) == 1000
    assert max(sum(map(len, batch.values())) for batch in found) == 1000


def test_nothing_is_no_batch() -> None:
    assert list(batches([])) == []


def test_ids_of_a_batch_are_covered_by_a_search_or_two() -> None:
    ids = [f"t{number:05d}" for number in range(9950, 10_050)]
    assert [where.text() for where in covering(ids)] == [
        f"tags.`katib_flow.trial_id` LIKE '{stem}%'" for stem in ("t099", "t100")
    ]


def test_an_id_that_stands_alone_is_asked_for_itself() -> None:
    texts = [where.text() for where in covering(["s1-b2-t3", "t00001", "t00001"])]
    assert texts == [f"tags.`katib_flow.trial_id` = '{trial_id}'" for trial_id in ("s1-b2-t3", "t00001")]


def test_an_estimate_of_bytes_is_never_too_low() -> None:
    from mlflow.entities import Metric as Point
    from mlflow.entities import RunTag

    from katib_flow.tracking.runs import _size

    tag, point = RunTag("k" * 9, "𝄞é\0" * 99), Point("k" * 9, -1.7976931348623157e308, 2**63 - 1, -(2**63))
    assert len(json.dumps({"key": tag.key, "value": tag.value})) <= _size(tag.key, tag.value)
    assert len(json.dumps(dict(point))) <= _size(point.key) + 150
