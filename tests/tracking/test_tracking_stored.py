"""A store as an earlier version wrote it opens and goes on: ``fixtures/make_store.py`` made it, once and for all."""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from katib_flow.history import State
from katib_flow.local import resume_experiment
from katib_flow.models.topology import Topology
from katib_flow.replay import replay
from katib_flow.reports.stored import write_report
from katib_flow.spaces import search_space
from katib_flow.tracking import Status, Store

FIXTURES = Path(__file__).parent / "fixtures"
MODULE = "def bowl(x, k):\n    return {'loss': (x - 0.5) ** 2 + k}\n"


@pytest.fixture(params=sorted(FIXTURES.glob("*.tar.gz")), ids=lambda path: path.name)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy, with the addresses of its artifacts where they are now."""
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, **safe)
    with closing(sqlite3.connect(tmp_path / "katib_flow.db")) as connection:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, '/store', ?)", (str(tmp_path),))
        connection.commit()
    (tmp_path / "stored_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Store(f"sqlite:///{tmp_path}/katib_flow.db")


def test_it_lists_its_experiments_and_has_their_trials(store: Store) -> None:
    assert {record.name: record.status for record in store.records()} == {
        "bowl": Status.SUCCEEDED,
        "cells": Status.SUCCEEDED,
    }
    for name in ("bowl", "cells"):
        record = store.find(name)
        history = store.history(record, series=True)
        space = search_space(record.experiment)
        assert [trial.id for trial in history] == ["t00000", "t00001", "t00002"]
        assert {trial.state for trial in history} == {State.SUCCEEDED}
        assert all(trial.assignment in space for trial in history)
        assert all([metric.value for metric in trial.reported] == [trial.observations["loss"]] for trial in history)
        assert len(replay(record.experiment, history)) == 3
    for trial in store.history(store.find("bowl")):
        x, k = (float(str(trial.assignment[name])) for name in ("x", "k"))
        assert trial.observations == {"loss": (x - 0.5) ** 2 + k}
    assert all(Topology.parse(trial.suggestion.topology).parameters for trial in store.history(store.find("cells")))


def test_a_finished_experiment_goes_on_and_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katib_flow.local.conclusion.keep_report", lambda *_: None)  # it is written below
    before = list(store.history(store.find("bowl")))
    result = resume_experiment(store, "bowl", max_trials=5)
    assert (result.status, result.reason) == (Status.SUCCEEDED, "reached limits.max_trials (5)")
    after = store.history(store.find("bowl"))
    assert list(after[:3]) == before
    assert [trial.state for trial in after[3:]] == [State.SUCCEEDED] * 2
    pytest.importorskip("plotly", reason="a report needs Plotly, an extra")
    for name in ("bowl", "cells"):
        write_report(store, store.find(name), Path(f"{name}.html"))
        assert "t00002" in Path(f"{name}.html").read_text(encoding="utf-8")


def test_what_is_kept_is_small() -> None:
    sizes = [path.stat().st_size for path in FIXTURES.glob("*.tar.gz")]
    assert sizes
    assert max(sizes) < 60_000
