"""A trial that reports more than is kept: its observations are those of all of it."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from katib_flow.history import Metric
from katib_flow.metrics import observe, thinning
from katib_flow.metrics.thinning import Thinning


def thinned(values: list[float], name: str = "a") -> tuple[Thinning, list[Metric]]:
    some = Thinning()
    kept = some.take(Metric(name, value, step) for step, value in enumerate(values))
    return some, [*kept, *some.end()]


def test_all_is_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(thinning, "WHOLE", 50)
    some, kept = thinned([float(k) for k in range(50)])
    assert ([metric.step for metric in kept], some.reported, some.kept) == (list(range(50)), 50, 50)


@given(st.lists(st.floats(), min_size=1, max_size=300))
def test_what_is_kept_has_the_same_observations_as_all(values):
    with_few = (thinning.WHOLE, thinning.LEVEL)
    thinning.WHOLE, thinning.LEVEL = 5, 10
    try:
        _, kept = thinned(values)
    finally:
        thinning.WHOLE, thinning.LEVEL = with_few
    for strategy in ("latest", "min", "max"):
        whole = observe([Metric("a", value) for value in values], {"a": strategy})
        assert repr(observe(kept, {"a": strategy})) == repr(whole)
    assert [metric.step for metric in kept] == sorted({metric.step for metric in kept})


def test_what_is_kept_grows_by_the_logarithm_of_what_comes(monkeypatch):
    monkeypatch.setattr(thinning, "WHOLE", 100)
    monkeypatch.setattr(thinning, "LEVEL", 20)
    draw = random.Random(3)
    some, kept = thinned([draw.random() for _ in range(100_000)])
    assert some.reported == 100_000
    assert len(kept) == some.kept < 100 + 20 * math.log2(100_000)


def test_metrics_that_come_in_turn_are_thinned_apart(monkeypatch):
    monkeypatch.setattr(thinning, "WHOLE", 0)
    some = Thinning()
    kept = some.take(Metric("ab"[k % 2], float(k), k) for k in range(16)) + some.end()
    assert [(metric.name, metric.step) for metric in kept] == [("a", 0), ("a", 14), ("b", 1), ("b", 15)]


def test_of_vectors_the_last_is_kept(monkeypatch):
    monkeypatch.setattr(thinning, "WHOLE", 0)
    some = Thinning()
    assert some.take(Metric("v", (float(k), 1.0), k) for k in range(8)) == [Metric("v", (7.0, 1.0), 7)]
    assert (some.reported, some.kept) == (16, 2)
