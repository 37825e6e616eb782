"""The files of an experiment on this machine, and names for them that others could have written."""

import os
import pickle
from pathlib import Path

import pytest

from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.history import Suggestion
from katib_flow.local.run import FUNCTION_FILE
from katib_flow.local.spool import Spool
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.faults import Faults


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", ["../elsewhere", "/tmp/x", "", ".", "..", "a/b", "a\nb", "é", "x" * 300, ".hidden"])
def test_a_key_that_is_no_plain_name_makes_no_directory(here: Path, key: str) -> None:
    with pytest.raises(KatibFlowError, match=r"katib_flow\.key: found"):
        Spool(key)
    assert list(here.iterdir()) == []


def test_what_is_kept_is_the_users_alone_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        spool = Spool.new()
        spool.keep(FUNCTION_FILE, b"code")
    finally:
        os.umask(before)
    paths = [spool.path.parent, spool.path, spool.path / FUNCTION_FILE, spool.path / "lock"]
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o700, 0o700, 0o600, 0o600]
    assert spool.kept(FUNCTION_FILE) == b"code"
    spool.close()


@pytest.mark.parametrize("case", ["file", "directory", "link", "owner"])
def test_no_code_is_loaded_that_somebody_else_may_have_put_there(
    here: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    spool = Spool.new()
    spool.keep(FUNCTION_FILE, pickle.dumps(print))
    if case == "file":
        (spool.path / FUNCTION_FILE).chmod(0o662)
    elif case == "directory":
        spool.path.chmod(0o777)
    elif case == "link":
        (spool.path / FUNCTION_FILE).rename(here / "theirs")
        (spool.path / FUNCTION_FILE).symlink_to(here / "theirs")
    else:
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(KatibFlowError, match=r"need a path that only you can write|cannot be read"):
        spool.kept(FUNCTION_FILE)
    spool.close()


@pytest.mark.parametrize(
    "suggestion",
    [
        {"index": 0, "assignment": {}, "key": "../../x"},
        {"index": 0, "assignment": {}, "key": "/tmp/x"},
        {"index": 0, "assignment": {}, "key": ["x"]},
        {"index": "../x", "assignment": {}},
        {"index": -1, "assignment": {}},
        {"index": True, "assignment": {}},
    ],
)
def test_a_suggestion_whose_id_would_be_a_path_is_none(suggestion: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Suggestion.from_dict(suggestion)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "checkpoint/../../x", "a\\b"])
def test_the_name_of_an_artifact_that_leads_out_is_refused(here: Path, name: str) -> None:
    artifacts = Artifacts("", Faults("", 0))
    root = (here / "run").as_uri()
    for call in (
        lambda: artifacts.get(root, name),
        lambda: artifacts.write(root, name, "x"),
        lambda: artifacts.delete(root, name),
    ):
        with pytest.raises(TrackingError, match="found a path that leaves its run's artifacts"):
            call()
    assert list(here.iterdir()) == []


def test_a_removal_that_is_cut_short_is_ended_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    spool, suggestion = Spool.new(), Suggestion(0, {"x": 0.5})
    spool.add(suggestion)
    directory = spool.directory(suggestion)
    directory.checkpoint.mkdir()
    for name in ("a", "b"):
        (directory.path / name).write_text("")
    removed: list[Path] = []

    def cut_short(path: Path) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)

    with monkeypatch.context() as patch:
        patch.setattr("katib_flow.local.spool._remove", cut_short)
        with pytest.raises(KeyboardInterrupt):
            spool.remove(suggestion)
    assert [left.index for left in spool.suggestions()] == [0]
    spool.remove(suggestion)
    assert not directory.path.exists()
    directory.path.mkdir()  # a kill between the last file and its directory
    assert list(spool.suggestions()) == []
    assert not directory.path.exists()
    spool.close()


@pytest.mark.parametrize("kept", ["model", "checkpoint"])
def test_a_model_and_a_checkpoint_outlive_their_trial(kept: str) -> None:
    spool, suggestion = Spool.new(), Suggestion(0, {"x": 0.5})
    spool.add(suggestion)
    directory = spool.directory(suggestion)
    path = directory.path / kept / "weights"
    path.parent.mkdir()
    path.write_text("1")
    spool.remove(suggestion)
    assert path.read_text() == "1"
    assert list(spool.suggestions()) == []
    spool.close()
