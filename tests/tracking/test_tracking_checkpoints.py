"""A running trial's checkpoint in a store: the newest whole archive, alone, and of the try that runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracking_kit import pending, written

from katib_flow.errors import TrackingError
from katib_flow.history import State
from katib_flow.tracking import Record, Store
from katib_flow.tracking.artifacts import Artifacts


def begun(store: Store, record: Record, at: float = 1000.0) -> Any:
    [trial] = written(store, record, pending(0))
    [trial] = written(store, record, replace(trial, state=State.RUNNING, started=at))
    return trial


def archive(folder: Path, name: str) -> Path:
    (folder / name).write_text(f"content of {name}")
    return folder / name


def found(store: Store, trial: Any) -> str | None:
    file = store.checkpoints.find(trial.run_id)
    return file.read_text() if file else None


def test_the_newest_archive_counts_and_the_others_go(store: Store, record: Record, tmp_path: Path) -> None:
    trial = begun(store, record)
    assert found(store, trial) is None
    for name in ("1.tar", "2.tar", "3.tar"):
        assert store.checkpoints.keep(trial, archive(tmp_path, name))
        assert found(store, trial) == f"content of {name}"
    artifacts: Artifacts = store._artifacts
    assert artifacts.names(store._address(trial.run_id), "checkpoint") == ["checkpoint/3.tar"]
    assert store.checkpoints.keep(trial, None)
    assert found(store, trial) is None


def test_an_upload_that_was_cut_off_leaves_the_one_before(
    store: Store, record: Record, tmp_path: Path, monkeypatch
) -> None:
    trial = begun(store, record)
    store.checkpoints.keep(trial, archive(tmp_path, "1.tar"))
    write = Artifacts.write

    def half(self: Artifacts, uri: str, name: str, content: Path, patience_seconds: float | None = None) -> None:
        content.write_text(content.read_text()[:5])
        write(self, uri, name, content, patience_seconds)
        raise TrackingError("the pod is gone")

    second = archive(tmp_path, "2.tar")
    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "write", half)
        with pytest.raises(TrackingError):
            store.checkpoints.keep(trial, second)
    assert found(store, trial) == "content of 1.tar"
    store.checkpoints.keep(trial, archive(tmp_path, "3.tar"))
    assert found(store, trial) == "content of 3.tar"


def test_a_pod_that_was_given_up_does_not_speak_for_the_one_that_took_over(
    store: Store, record: Record, tmp_path: Path
) -> None:
    lost = begun(store, record)
    assert store.checkpoints.keep(lost, archive(tmp_path, "1.tar"))
    [other] = written(store, record, replace(lost, started=1060.5, retries=1))
    assert store.checkpoints.keep(other, archive(tmp_path, "2.tar"))
    assert not store.checkpoints.keep(lost, archive(tmp_path, "3.tar"))
    assert found(store, other) == "content of 2.tar"
    again = store.trial(record, lost.id)  # as a container beside it reads the trial
    assert again is not None
    assert store.checkpoints.keep(again, archive(tmp_path, "4.tar"))
