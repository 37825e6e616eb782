"""Latency by a table: a sum of what operations take, and what a table must have."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

pytest.importorskip("torch")
import torch

from katib_flow.models.build import build
from katib_flow.models.latency import latency_seconds, load_table, measured_table, operations_on_maps, tabulated
from katib_flow.training.trial import latency_of

SPACE = space_of(Architecture(space="mobile", settings={"blocks": 2, "channels": 4}))
CHAIN = space_of(Architecture(space="chain", settings={"layers": [4, 4, 6]})).initial


def test_a_network_takes_what_its_operations_take_each_as_often_as_it_stands_there():
    keys = [operation.entry for operation in operations_on_maps(CHAIN)]
    table = {key: 2.0**number for number, key in enumerate(dict.fromkeys(keys))}
    assert tabulated(CHAIN, table) == sum(table[key] for key in keys)
    assert "conv(c=4,order=conv-bn-relu) on 1x8x8" in table
    assert "conv(c=4,order=conv-bn-relu) on 4x4x4" in table  # the same operation on a smaller map is another entry


def test_a_table_that_was_measured_has_every_operation_of_its_networks():
    drawn = [SPACE.topology(SPACE.draw(np.random.default_rng(seed))) for seed in range(3)]
    table = measured_table(drawn, runs=3, warm_up=1)
    assert all(tabulated(topology, table) > 0 for topology in drawn)
    assert min(table.values()) > 0


def test_what_a_table_lacks_is_named():
    keys = list(dict.fromkeys(operation.entry for operation in operations_on_maps(CHAIN)))
    with pytest.raises(KatibFlowError) as caught:
        tabulated(CHAIN, {})
    missing = f"{', '.join(keys[:3])} and {len(keys) - 3} more"
    assert str(caught.value) == f"latency: the table has no entry for {missing}; measure them with measured_table"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a table of latencies"),
        ("[1.0]", "found None"),
        ('{"conv": "fast"}', "found 'fast'"),
        ('{"conv": -1}', "found -1"),
        ('{"conv": true}', "found True"),
        ('{"conv": NaN}', "found nan"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, said: str):
    path = tmp_path / "latency.json"
    path.write_text(text)
    with pytest.raises(KatibFlowError, match=said):
        load_table(path)
    with pytest.raises(KatibFlowError, match="not a table"):
        load_table(tmp_path / "absent.json")


def test_the_trainer_takes_the_latency_of_the_table_where_it_is_given_one(tmp_path: Path):
    keys = [operation.entry for operation in operations_on_maps(CHAIN)]
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(dict.fromkeys(keys, 0.25)))
    assert latency_of(build(CHAIN), str(path)) == 0.25 * len(keys)
    assert 0 < latency_of(build(CHAIN), True) != 0.25 * len(keys)


def test_one_supernet_gives_the_table_of_every_network_of_its_space():
    space = space_of(Architecture(space="mobile-chain", settings={"channels": 2, "layers": 2, "kernels": [3, 5]}))
    table = measured_table([space.supernet()], runs=1, warm_up=0)
    rng = np.random.default_rng(0)
    for network in (space.topology(space.draw(rng)) for _ in range(20)):
        assert tabulated(network, table) > 0
    assert not [name for name in table if name.startswith(("none", "identity", "mixed"))]
    assert len(table) == 2 + 4 * 3  # stem, head; four inverted residuals on each of three kinds of map


def test_latency_is_the_median_of_the_passes_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0, 50.0, 3.0, 1.0, 9.0, 2.0, 40.0]  # of each pass; the first two warm up
    network, clock, modes = build(CHAIN, seed=0), iter(np.cumsum(seconds)), []
    now = [0.0]

    def advance(module: Any, *_: Any) -> None:
        now[0] = float(next(clock))
        modes.append((module.training, torch.get_num_threads()))

    network.register_forward_hook(advance)
    monkeypatch.setattr("katib_flow.models.latency.time.perf_counter", lambda: now[0])
    assert latency_seconds(network, runs=5, warm_up=2) == 3.0
    assert set(modes) == {(False, 1)}
    assert network.training
