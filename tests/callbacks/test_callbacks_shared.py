"""What the callbacks share: checkpoints that are whole, numbers among what is logged, a library that is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from katib_flow.callbacks.shared import Checkpoints, library, numbers
from katib_flow.errors import KatibFlowError


def test_a_library_that_is_missing_is_named_with_what_to_install() -> None:
    with pytest.raises(KatibFlowError, match=r"needs no_such_library, .*: pip install no-such-library"):
        library("no-such-library", "no_such_library", "another_that_is_missing")


def test_numbers_are_taken_and_the_rest_is_left() -> None:
    logged = {"loss": np.float32(0.5), "epoch": 2, "name": "adam", "done": True, "weights": [1, 2], "none": None}
    assert numbers(logged) == {"loss": 0.5, "epoch": 2.0}
    assert numbers(None) == {}


def test_the_newest_checkpoint_replaces_the_older_ones(around: Any) -> None:
    checkpoints = Checkpoints("epoch", ".txt")
    assert (checkpoints.latest(), checkpoints.count()) == (None, 0)
    for count in (9, 10):
        checkpoints.keep(count, lambda path, count=count: Path(path).write_text(str(count)))
    latest = checkpoints.latest()
    assert latest is not None
    assert (latest.read_text(), checkpoints.count()) == ("10", 10)
    assert [path.name for path in latest.parent.iterdir()] == ["epoch-000010.txt"]


def test_a_checkpoint_that_could_not_be_written_leaves_the_last_one(around: Any) -> None:
    def fail(path: str) -> None:
        Path(path).write_text("half")
        raise OSError("no space left on device")

    checkpoints = Checkpoints("epoch", ".txt")
    checkpoints.keep(1, lambda path: Path(path).write_text("1"))
    with pytest.raises(OSError, match="no space"):
        checkpoints.keep(2, fail)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.read_text() == "1"


def test_a_directory_without_its_last_file_is_no_checkpoint(around: Any) -> None:
    checkpoints = Checkpoints("checkpoint", contains="state.json")
    for name in ("checkpoint-5", "checkpoint-10", "checkpoint-best"):
        (around.directory / "checkpoint" / name).mkdir(parents=True)
    (around.directory / "checkpoint" / "checkpoint-5" / "state.json").touch()
    assert checkpoints.count() == 5


def test_a_trial_goes_on_from_its_parent_until_it_has_its_own(around: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints("epoch", ".txt")
    checkpoints.keep(3, lambda path: Path(path).write_text("of the parent"))
    child = around.of_child(monkeypatch)
    assert checkpoints.count() == 3
    checkpoints.keep(4, lambda path: Path(path).write_text("of the child"))
    assert checkpoints.latest() == child.directory / "checkpoint" / "epoch-000004.txt"
    assert (around.directory / "checkpoint" / "epoch-000003.txt").exists()
