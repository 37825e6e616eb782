"""What a trial prints, writes and serves, and what a store says of it: others wrote it."""

import gzip
import itertools
import json
import random
import shutil
import sqlite3
import struct
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from fuzz_mutate import SCALARS, as_json, changed, changed_bytes, changed_text
from kit import spec

from katib_flow.cli.output import Output, show, show_one
from katib_flow.cli.records import best, front_of, overview, replayed, standing
from katib_flow.errors import KatibFlowError
from katib_flow.foreign import from_json
from katib_flow.history import History, Metric, State, Suggestion, Trial
from katib_flow.local.worker import read_result
from katib_flow.loop import verdict
from katib_flow.metrics import LineParser
from katib_flow.metrics.lines import LineSplitter
from katib_flow.metrics.prometheus import samples
from katib_flow.metrics.tensorboard import EventFiles
from katib_flow.replay import replay
from katib_flow.spec import Experiment, dump_yaml
from katib_flow.tracking import Store
from katib_flow.tracking.encode import Row, suggestion_in, suggestion_out
from katib_flow.tracking.settled import Settled, packed, unpacked
from katib_flow.trial import tree
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.reader import Reader
from katib_flow.trial.table import rows

FIXTURE = Path(__file__).parents[1] / "tracking" / "fixtures" / "store.tar.gz"
LINES = (
    "epoch 3 loss=0.25 accuracy=0.91 step=3",
    "2026-01-02T03:04:05Z loss=1e-3, accuracy = +.5 | val/loss=3",
    "2026-01-02T03:04:05.123456+09:00 accuracy=[0.1, 0.2 0.3] loss=nan",
    '{"loss": 0.5, "accuracy": 1, "step": 7, "timestamp": 1700000000.5}',
    '{"accuracy": [1, 2.5, "nan"], "timestamp": "2026-01-02T03:04:05Z", "global_step": 3}',
    "\x1b[32m 50%|###   | 1/2 loss=0.5\x1b[0m\r100%|######| 2/2 loss=0.25",
    "loss: 0.5 accuracy: 99,5 % [loss] {accuracy: 3}",
    "loss=1,234.5 accuracy=3/4 loss=1_000 loss=0x1f accuracy=\u0663",
)
REPORTS = (
    '{"metrics": {"loss": 0.5, "accuracy": [1, 2]}, "step": 3}',
    '{"metrics": {"loss": "nan"}, "returned": "None", "left_out": {"model": "a list"}}',
    '{"metrics": {"loss": 1, "timestamp": 5}}',
    '[["metrics", {"loss": 1}]]',
)
RESULT = {
    "state": "succeeded",
    "observations": {"accuracy": 0.5},
    "metrics": [["accuracy", 0.5, 1, 1700000000000], ["loss", [1.0, 2.0], 2, 5]],
    "message": "",
    "started": 1700000000.0,
    "ended": 1700000000.5,
    "fault": False,
    "pid": 4000000,
    "born": 5,
    "boot": "another",
}
FILTERS = (
    [],
    [],
    [r"([\w|-]+)\s*:\s*([+-]?\d*(?:\.\d+)?(?:[Ee][+-]?\d+)?)"],
    [r"\[(\w+)\]()", r"{(\w+):\s*(\d+)}"],
)


def _experiment(**metrics: Any) -> Experiment:
    return Experiment.parse(spec(additional_metrics=["loss", "val/loss"], metrics=metrics))


class Lines:
    """What a trial prints: bytes that come in portions, in every format and with filters."""

    def __init__(self) -> None:
        self.corpus = [line.encode() for line in LINES]

    def make(self, rng: random.Random) -> Any:
        text = "\n".join(rng.choices(LINES, k=rng.randint(1, 4)))
        data = changed_text(rng, text, LINES).encode("utf-8", "surrogatepass")
        data = changed_bytes(rng, data, self.corpus) if rng.random() < 0.3 else data
        return data, rng.randint(1, 200), rng.choice(("text", "json")), rng.choice(FILTERS)

    def take(self, given: Any) -> None:
        data, size, format_, filters = given
        experiment = _experiment(format=format_, **({"filter": filters} if filters and format_ == "text" else {}))
        parser, splitter = LineParser.of(experiment), LineSplitter()
        size = max(size, len(data) // 200)
        portions = [data[start : start + size] for start in range(0, len(data), size)]
        lines = [line for portion in portions for line in splitter.split(portion)] + splitter.split(b"", end=True)
        whole = LineSplitter()
        assert lines == [*whole.split(data), *whole.split(b"", end=True)] or len(data) > 1 << 20
        for line in lines:
            _sound(parser.parse(line), experiment.metric_names)


def _sound(metrics: list[Metric], names: Any = None) -> None:
    for metric in metrics:
        values = metric.value if isinstance(metric.value, tuple) else (metric.value,)
        assert all(type(value) is float for value in values)
        assert names is None or metric.name in names
        assert type(metric.step) is int
        assert abs(metric.step) < 2**63
        assert type(metric.timestamp_ms) is int
        assert abs(metric.timestamp_ms) < 2**63


class Reports:
    """Report files, event files of TensorBoard, answers of a Prometheus endpoint."""

    def __init__(self) -> None:
        self.events = [_event(0.25, 3), _event(float("nan"), 2**62), _event(1e30, 0) * 3, _event(0.5, 1, float("inf"))]
        self.samples = [
            '# HELP loss a\nloss{phase="val"} 0.5 1700000000000\naccuracy 1e-3\nloss NaN\n',
            'accuracy{a="b\\"c",d="e"} +Inf -5\n',
        ]
        self.reports = [line.encode() for line in REPORTS]

    def make(self, rng: random.Random) -> Any:
        match rng.randrange(7):
            case 0:
                return "tensorboard", changed_bytes(rng, rng.choice(self.events), self.events)
            case 1:
                return "prometheus", changed_text(rng, rng.choice(self.samples), self.samples)
            case 3:
                return "results", as_json(changed(rng, RESULT, [RESULT])).encode("utf-8", "surrogatepass")
            case 2:
                datas = [json.loads(line) for line in REPORTS]
                return "report", as_json(changed(rng, rng.choice(datas), datas)).encode()
            case _:
                text = "\n".join(rng.choices(REPORTS, k=rng.randint(1, 3)))
                data = changed_text(rng, text, REPORTS).encode("utf-8", "surrogatepass")
                return "report", changed_bytes(rng, data, self.reports) if rng.random() < 0.3 else data

    def take(self, given: Any) -> None:
        kind, content = given
        with tempfile.TemporaryDirectory() as name:
            if kind == "prometheus":
                _sound([Metric(name, value, 0, at or 0) for name, value, at in samples(content)])
            elif kind == "results":
                self._results(Path(name), content)
            elif kind == "tensorboard":
                (Path(name) / "x.tfevents.1").write_bytes(content)
                _sound(EventFiles(Path(name), ["loss"]).read(end=True), ["loss"])
            else:
                self._report(Path(name), content)

    def _results(self, folder: Path, content: bytes) -> None:
        """The files that a worker leaves in the directory of a trial, which the trial may write itself."""
        directory = TrialDirectory(folder)
        for file in (directory.result, folder / "error.json", folder / tree.NAME):
            file.write_bytes(content)
        tree.end_left_over(directory)
        if (outcome := read_result(directory)) is not None:
            assert isinstance(outcome.state, State)
            assert isinstance(outcome.message, str)
            _sound(list(outcome.metrics))
            assert all(type(value) is float for value in outcome.observations.values())
            outcome.applied_to(Trial(Suggestion(0, {})))

    def _report(self, folder: Path, content: bytes) -> None:
        directory = TrialDirectory(folder)
        directory.report_file.write_bytes(content)
        with BoundedLog(directory.log) as log:
            reader = Reader(_experiment(), directory, log, lambda metrics: None)
            reader.read_on(end=True)
        kept, observations = reader.concluded()
        _sound(kept)
        assert all(type(value) is float for value in observations.values())


def _event(value: float, step: int, seconds: float = 1.7e9) -> bytes:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    scalar = field(1, b"loss") + bytes([2 << 3 | 5]) + struct.pack("<f", value)
    number = bytes([2 << 3]) + b"".join(
        bytes([step >> shift & 0x7F | (0x80 if step >> shift > 0x7F else 0)])
        for shift in range(0, max(7, step.bit_length()), 7)
    )
    event = bytes([1 << 3 | 1]) + struct.pack("<d", seconds) + number + field(5, field(1, scalar))
    return struct.pack("<Q", len(event)) + b"\0\0\0\0" + event + b"\0\0\0\0"


SUGGESTIONS: tuple[Any, ...] = (
    {"index": 3, "assignment": {"lr": 0.1, "layers": 2, "act": "relu", "x": None, "b": True}},
    {
        "index": 0,
        "assignment": {},
        "budget": 9.0,
        "parent": 1,
        "info": {"rung": 2, "deep": [1, {"a": None}]},
        "key": "t-1",
    },
    {
        "index": 5,
        "assignment": {"lr": 1},
        "origin": {"kind": "modify", "parents": [3, 1], "repeats": [2]},
        "basis": {"start": 5, "count": 2, "trials": "0-4", "unfinished": {"running": "3-4"}, "earlier": 2},
    },
)


class Suggestions:
    """Suggestions as a store has them; what is read must be of use to all that use it."""

    def make(self, rng: random.Random) -> Any:
        return changed(rng, rng.choice(SUGGESTIONS), SUGGESTIONS)

    def take(self, given: Any) -> None:
        try:
            suggestion = suggestion_in(from_json(as_json(given)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KatibFlowError(f"suggestion: {error!r}") from error
        again = suggestion_in(json.loads(json.dumps(suggestion_out(suggestion))))
        assert repr(again) == repr(suggestion)  # NaN is not itself
        assert isinstance(suggestion.id, str)
        assert all(type(index) is int for index in (*suggestion.origin.parents, *suggestion.origin.repeats))
        made = _experiment()
        history = History((Trial(suggestion, State.SUCCEEDED, {"accuracy": 0.5}),))
        verdict(made, history)
        rows(made, list(history))
        dump_yaml(suggestion.to_dict())


class Settleds:
    """The copy of a long history that lies beside it: damaged, it is as if it were not there."""

    def __init__(self) -> None:
        row = Row(
            "a" * 32, 5, 6, {"katib_flow.state": "succeeded", "katib_flow.trial_id": "t00000"}, "file:///x", ("loss",)
        )
        self.corpus = [packed(Settled({row.run_id: row}, ("b",), 7))]
        self.data = [json.loads(gzip.decompress(self.corpus[0]))]

    def make(self, rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return gzip.compress(as_json(changed(rng, self.data[0], self.data)).encode("utf-8", "surrogatepass"), 1)
        return changed_bytes(rng, self.corpus[0], self.corpus)

    def take(self, given: bytes) -> None:
        part = unpacked(given)
        assert packed(unpacked(packed(part)))[10:] == packed(part)[10:]  # but for the time that it was packed
        for row in part.rows.values():
            assert isinstance(row.tags.get("katib_flow.state", ""), str)
            assert isinstance(row.start_ms, int)
        assert isinstance(part.since_ms, int)
        assert all(isinstance(run_id, str) for run_id in part.open)


FURTHER = ("segment", "stop", "pause", "max_trials", "timeout", "spent", "resumed", "lease", "started", "retries")
FURTHER += ("vectors", "topology", "message", "suggestion.1")
POINTS = "UPDATE OR IGNORE metrics SET key = ?, value = ?, timestamp = ?, step = ? WHERE run_uuid = ?"
LATEST = "UPDATE OR IGNORE latest_metrics SET key = (SELECT key FROM metrics WHERE run_uuid = ?) WHERE run_uuid = ?"


def stored(folder: Path) -> Path:
    """A store that an earlier version wrote, in a folder; the file."""
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    database = folder / "katib_flow.db"
    with closing(sqlite3.connect(database)) as connection:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, '/store', ?)", (str(folder),))
        connection.commit()
    return database


class Stores:
    """An SQLite store that was edited and damaged: rows of it, and artifacts; all that the command line reads."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clean = folder, stored(folder)
        self.artifacts, self.kept = folder / "katib_flow_artifacts", folder / "kept"
        with closing(sqlite3.connect(self.clean)) as connection:
            self.tags = connection.execute(
                "SELECT key, value, run_uuid FROM tags WHERE key LIKE 'katib_flow%'"
            ).fetchall()
        shutil.copytree(self.artifacts, self.kept)
        self.numbers = itertools.count()
        self.files = sorted(path.relative_to(self.kept) for path in self.kept.rglob("*.json"))

    def make(self, rng: random.Random) -> Any:
        return [edit for _ in range(rng.choice((1, 1, 2, 3))) for edit in self._edits(rng)]

    def _edits(self, rng: random.Random) -> list[tuple[str, Any]]:
        """Statements of SQL and their values, or the name of an artifact and its content."""
        key, value, run_id = rng.choice(self.tags)
        match rng.randrange(8):
            case 0:
                return [("DELETE FROM tags WHERE key = ? AND run_uuid = ?", (key, run_id))]
            case 1:
                times = (_number(rng), _number(rng), run_id)
                return [("UPDATE runs SET start_time = ?, end_time = ? WHERE run_uuid = ?", times)]
            case 2:
                tag = (f"katib_flow.{rng.choice(FURTHER)}", _tag(rng, value), run_id)
                return [("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", tag)]
            case 3:
                point = (_tag(rng, "a:FFFFFFFF:b"), rng.random(), _number(rng), _number(rng), run_id)
                return [(POINTS, point), (LATEST, (run_id, run_id))]
            case 4:
                file = rng.choice(self.files)
                content = (self.kept / file).read_bytes()
                return [(str(file), changed_bytes(rng, content, [content]))]
            case _:
                tag = (_tag(rng, value), key, run_id)
                return [("UPDATE tags SET value = ? WHERE key = ? AND run_uuid = ?", tag)]

    def take(self, given: Any) -> None:
        touched: list[str] = []
        database = self.folder / f"{next(self.numbers)}.db"  # a new one each, as a store keeps its file open
        shutil.copyfile(self.clean, database)
        with closing(sqlite3.connect(database)) as connection:
            for statement, values in given:
                if isinstance(values, bytes):
                    (self.artifacts / statement).write_bytes(values)
                    touched.append(statement)
                else:
                    connection.execute(statement, values)
            connection.commit()
        try:
            self._read(database)
        finally:
            for file in self.folder.glob(f"{database.name}*"):
                file.unlink()
            for file in touched:
                shutil.copyfile(self.kept / file, self.artifacts / file)

    def _read(self, database: Path) -> None:
        store = Store(f"sqlite:///{database}")
        show([overview(record) for record in store.records()], Output.JSON)
        for name in ("bowl", "cells"):
            record = store.find(name)
            errors: list[KatibFlowError] = []
            for part in (self._standing, self._series, self._segment, self._replayed):
                try:
                    part(store, record)
                except KatibFlowError as error:  # one is no reason not to look at the others
                    errors.append(error)
            if errors:
                raise errors[0]

    def _standing(self, store: Store, record: Any) -> None:
        history, control = store.history(record), store.control(record)
        for output in (Output.JSON, Output.TABLE):
            show_one(standing(record, history, control), output)
            show(rows(record.experiment, list(history)), output)
        best(record.experiment, history)
        front_of(record.experiment, history)
        verdict(
            record.experiment,
            history,
            elapsed_seconds=control.running_seconds(record, 2e9),
            max_trials=control.max_trials,
            timeout=control.timeout,
            stop=control.stop,
        )

    def _series(self, store: Store, record: Any) -> None:
        for trial in store.history(record, series=True):
            _sound(trial.reported)

    def _segment(self, store: Store, record: Any) -> None:
        store.segment(record)
        str(record.lease)

    def _replayed(self, store: Store, record: Any) -> None:
        if len(store.history(record)) < 5:
            replayed(record, replay(record.experiment, store.history(record), began=record.started))


def _number(rng: random.Random) -> Any:
    return rng.choice((0, -1, 1, 2**62, -(2**63), 2**63 - 1, 1.5, "x", None, 1700000000000))


def _tag(rng: random.Random, value: str) -> Any:
    """Another value of a tag: JSON that was changed as such, or a text that was."""
    value = value or ""
    if rng.random() < 0.05:
        return rng.choice((None, 7, 1.5, b"\xff\xfe", b"{}"))  # SQLite keeps in a column what it is given
    try:
        data = json.loads(value)
    except ValueError:
        data = value
    if rng.random() < 0.6:
        text = as_json(changed(rng, data, [data, *SUGGESTIONS]))
    else:
        text = changed_text(rng, value, [value]) if rng.random() < 0.7 else str(rng.choice(SCALARS))
    return text.encode("utf-8", "replace").decode()
