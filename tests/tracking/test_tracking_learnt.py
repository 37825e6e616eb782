"""What an algorithm has learnt, in a store: the newest that is whole, few of them, and never an error."""

import hashlib
import itertools
import threading
from pathlib import Path

import pytest
from tracking_kit import experiment

from katib_flow.errors import TrackingError
from katib_flow.history import Learnt
from katib_flow.tracking import Record, Store
from katib_flow.tracking.artifacts import Artifacts, local_path
from katib_flow.tracking.learnt import FOLDER, _Entry, outdated


def learnt(lessons: int, content: bytes | None = None, digest: str = "d") -> Learnt:
    return Learnt(lessons, digest * 64, f"after {lessons}".encode() if content is None else content)


def names(store: Store, record: Record) -> list[str]:
    artifacts: Artifacts = store._artifacts
    return artifacts.names(record.artifact_uri, FOLDER)


def lessons(store: Store, record: Record) -> list[int]:
    return [each.lessons for each in store.learnings.find(record)]


def test_what_is_kept_is_found_as_it_was_the_newest_first(store: Store, record: Record) -> None:
    assert list(store.learnings.find(record)) == []
    for count in range(8, 12):
        store.learnings.keep(record, learnt(count, bytes(range(256)) * count))
        assert next(store.learnings.find(record)) == learnt(count, bytes(range(256)) * count)
    assert lessons(store, record) == [11, 10]  # the one before stays, for who read a shorter history


def test_its_name_is_what_it_was_learnt_from_and_what_it_is(store: Store, record: Record) -> None:
    store.learnings.keep(record, learnt(7))
    assert names(store, record) == [f"{FOLDER}/00000007-{'d' * 64}-{hashlib.sha256(b'after 7').hexdigest()}"]


def test_keeping_it_again_changes_nothing(store: Store, record: Record) -> None:
    for _ in range(2):
        store.learnings.keep(record, learnt(1))
    assert len(names(store, record)) == 1


def test_nothing_new_is_nothing_to_keep(store: Store, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Artifacts, "names", None)  # it would fail
    monkeypatch.setattr(Artifacts, "write", None)
    store.learnings.keep(record, None)


def test_a_writer_that_has_learnt_less_deletes_nothing_that_is_newer(store: Store, record: Record) -> None:
    for count in (5, 3, 6, 4, 2):
        store.learnings.keep(record, learnt(count))
    assert lessons(store, record)[:2] == [6, 5]
    store.learnings.keep(record, learnt(7))
    assert lessons(store, record) == [7, 6]


def test_a_damaged_one_is_told_and_passed_over_and_mended_by_the_next_that_learns(
    store: Store, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2):
        store.learnings.keep(record, learnt(count))
    damaged = tmp_path / Path(names(store, record)[1]).name
    damaged.write_bytes(b"after")
    store._artifacts.write(record.artifact_uri, names(store, record)[1], damaged)
    assert lessons(store, record) == [1]
    said = capsys.readouterr().err
    assert said == f"note: {names(store, record)[1]}: damaged (its SHA-256 differs from that in its name); " \
        "its content is learnt again\n"  # fmt: skip
    store.learnings.keep(record, learnt(2))
    assert lessons(store, record) == [2, 1]
    assert not capsys.readouterr().err


def test_what_lies_beside_them_is_left_alone(store: Store, record: Record) -> None:
    for name in ("notes.txt", "00000009-x-y", f"00000009-{'g' * 64}-{'0' * 64}"):
        store.log_text(record, "mine", f"{FOLDER}/{name}")
    store.learnings.keep(record, learnt(1))
    store.learnings.keep(record, learnt(2))
    store.learnings.keep(record, learnt(3))
    assert lessons(store, record) == [3, 2]
    assert len(names(store, record)) == 5


def test_a_store_that_cannot_keep_it_is_told_and_no_error(
    local: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = local.create(experiment())
    folder = local_path(record.artifact_uri)
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "katib_flow").write_text("a file where a folder should be")
    local.learnings.keep(record, learnt(1))
    assert "the learnt state could not be stored, and is learnt again when needed: " in capsys.readouterr().err
    assert list(local.learnings.find(record)) == []


def test_one_that_is_deleted_while_it_is_read_is_passed_over(store: Store, record: Record) -> None:
    for count in (1, 2):
        store.learnings.keep(record, learnt(count))
    found = store.learnings.find(record)
    assert next(found).lessons == 2
    store._artifacts.delete(record.artifact_uri, names(store, record)[0])
    assert list(found) == []


def test_one_that_cannot_be_deleted_stays_and_does_no_harm(
    store: Store, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise TrackingError("this store deletes nothing")

    monkeypatch.setattr(Artifacts, "delete", refused)
    for count in range(1, 5):
        store.learnings.keep(record, learnt(count))
    assert lessons(store, record) == [4, 3, 2, 1]
    monkeypatch.undo()
    store.learnings.keep(record, learnt(5))
    assert lessons(store, record) == [5, 4]


def test_many_writers_at_once_leave_the_newest_whole(store: Store, record: Record) -> None:
    def write(counts: range) -> None:
        for count in counts:
            store.learnings.keep(record, learnt(count))

    writers = [threading.Thread(target=write, args=(range(first, 12, 3),)) for first in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert next(store.learnings.find(record)) == learnt(11)
    store.learnings.keep(record, learnt(12))
    assert lessons(store, record) == [12, 11]


def test_of_several_with_as_many_lessons_one_is_left_whoever_comes_last() -> None:
    """Machines that add up differently write different ones; none deletes the one that the others leave."""
    entries = [_Entry(3, "d", content) for content in "abc"]
    for order in itertools.permutations(entries):
        assert entries[0] not in [other for writer in order for other in outdated(entries, writer)]
    assert outdated(entries, entries[0]) == entries[1:]
