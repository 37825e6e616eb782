"""Metrics from files that grow, TensorBoard's event files and a Prometheus endpoint."""

import math
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment

from katib_flow.metrics import prometheus
from katib_flow.metrics.prometheus import Endpoint, samples
from katib_flow.metrics.sources import source_of
from katib_flow.metrics.tensorboard import EventFiles
from katib_flow.metrics.text import now_ms


def proto() -> Any:
    """TensorFlow's Event, of its published field numbers, by Google's own protocol buffers."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")

    def message(name: str, **fields: tuple[int, int, bool, str]) -> None:
        made = file.message_type.add(name=name)
        if name == "Value":  # one of its fields is set, and then written whatever it is
            made.oneof_decl.add(name="value")
        for key, (number, kind, repeated, of) in fields.items():
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            made.field.add(name=key, number=number, type=kind, label=label, type_name=f".t.{of}" if of else None)
            if name == "Value" and key != "tag":
                made.field[-1].oneof_index = 0

    message("Dim", size=(1, field.TYPE_INT64, False, ""))
    message("Shape", dim=(2, field.TYPE_MESSAGE, True, "Dim"))
    message(
        "Tensor",
        dtype=(1, field.TYPE_INT32, False, ""), shape=(2, field.TYPE_MESSAGE, False, "Shape"),
        content=(4, field.TYPE_BYTES, False, ""), floats=(5, field.TYPE_FLOAT, True, ""),
        doubles=(6, field.TYPE_DOUBLE, True, ""),
    )  # fmt: skip
    message(
        "Value",
        tag=(1, field.TYPE_STRING, False, ""), simple=(2, field.TYPE_FLOAT, False, ""),
        image=(4, field.TYPE_BYTES, False, ""), tensor=(8, field.TYPE_MESSAGE, False, "Tensor"),
    )  # fmt: skip
    message("Summary", value=(1, field.TYPE_MESSAGE, True, "Value"))
    message(
        "Event",
        wall_time=(1, field.TYPE_DOUBLE, False, ""), step=(2, field.TYPE_INT64, False, ""),
        file_version=(3, field.TYPE_STRING, False, ""), summary=(5, field.TYPE_MESSAGE, False, "Summary"),
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


Event = proto()


def record(**fields: Any) -> bytes:
    data = Event(**fields).SerializeToString()
    return struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)


def simple(tag: str, value: float, step: int, wall_time: float = 1.5) -> bytes:
    return record(wall_time=wall_time, step=step, summary={"value": [{"tag": tag, "simple": value}]})


def tensor(tag: str, step: int, **fields: Any) -> bytes:
    return record(wall_time=2.0, step=step, summary={"value": [{"tag": tag, "tensor": fields}]})


def test_scalars_of_old_and_new_writers_are_read_with_step_and_time(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(
        record(wall_time=1.0, file_version="brain.Event:2")
        + simple("accuracy", 0.5, 1)
        + tensor("accuracy", 2, dtype=1, content=struct.pack("<f", 0.75))
        + tensor("accuracy", 3, dtype=1, floats=[0.875])
        + tensor("accuracy", 4, dtype=2, doubles=[0.1])
        + tensor("accuracy", 5, dtype=1, shape={"dim": [{"size": 2}]}, floats=[1, 2])
        + simple("other", 1, 6)
    )
    found = EventFiles(tmp_path, ["accuracy"]).read()
    assert [(metric.value, metric.step) for metric in found] == [(0.5, 1), (0.75, 2), (0.875, 3), (0.1, 4)]
    assert [metric.timestamp_ms for metric in found] == [1500, 2000, 2000, 2000]


def test_a_tag_is_told_apart_by_the_directory_of_its_file(tmp_path: Path) -> None:
    for folder, value in (("train", 0.9), ("test", 0.8)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "events.out.tfevents.1").write_bytes(simple("accuracy", value, 1))
    found = EventFiles(tmp_path, ["test/accuracy", "train/accuracy", "loss"]).read()
    assert {(metric.name, round(metric.value, 6)) for metric in found} == {  # type: ignore[call-overload]
        ("test/accuracy", 0.8), ("train/accuracy", 0.9),
    }  # fmt: skip
    only = EventFiles(tmp_path / "test" / "events.out.tfevents.1", ["test/accuracy"]).read()
    assert [metric.name for metric in only] == ["test/accuracy"]


@given(
    values=st.lists(st.tuples(st.floats(width=32), st.integers(0, 2**62)), min_size=1, max_size=6), cut=st.integers(0)
)
def test_a_file_that_is_read_while_it_is_written_gives_each_scalar_once(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, int]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.out.tfevents.1"
    whole = b"".join(simple("a", value, step) for value, step in values)
    reader, cut = EventFiles(path.parent, ["a"]), cut % len(whole)
    path.write_bytes(whole[:cut])
    found = reader.read()
    path.write_bytes(whole)
    found += reader.read(end=True) + reader.read(end=True)
    assert len(found) == len(values)
    for metric, (value, step) in zip(found, values, strict=True):
        assert metric.step == step
        assert metric.value == value or math.isnan(value)


@given(st.binary(max_size=200))
def test_what_is_no_event_file_is_no_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "events.out.tfevents.1"
    path.write_bytes(struct.pack("<QI", len(data), 0) + data + b"\0\0\0\0" + data)
    EventFiles(path.parent, ["a"]).read(end=True)
    assert EventFiles(path.parent / "nowhere", ["a"]).read() == []


class Served:
    """What an endpoint answers, next."""

    text = ""


@pytest.fixture
def endpoint() -> Iterator[tuple[int, Served]]:
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(served.text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, served
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_endpoint_gives_a_point_whenever_a_value_has_changed(endpoint: tuple[int, Served]) -> None:
    port, served = endpoint
    now = [0.0]
    source = Endpoint(port, None, ["accuracy", 'loss{phase="val"}'], clock=lambda: now[0])
    found = []
    texts = ["accuracy 0.5", "accuracy 0.5", '# HELP accuracy x\naccuracy 0.75 123\nloss{phase="val"} 1e-3\nx y']
    for served.text in texts:
        found += source.read()
        found += source.read()  # not yet due
        now[0] += 1
    assert [(metric.name, metric.value, metric.step) for metric in found] == [
        ("accuracy", 0.5, 0), ("accuracy", 0.75, 1), ('loss{phase="val"}', 0.001, 0),
    ]  # fmt: skip
    assert found[1].timestamp_ms == 123
    assert Endpoint(port, "elsewhere", ["accuracy"]).read() == []


def test_of_a_page_that_is_too_long_no_part_of_a_number_is_read(
    endpoint: tuple[int, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, served = endpoint
    served.text = "loss 0.25\naccuracy 0.975\n"
    monkeypatch.setattr(prometheus, "_LARGEST_BYTES", len("loss 0.25\naccuracy 0.9"))
    read = Endpoint(port, None, ["accuracy", "loss"]).read()
    assert [(metric.name, metric.value) for metric in read] == [("loss", 0.25)]


def test_samples_may_be_any_number_and_lines_anything() -> None:
    text = 'a NaN\nb{le="+Inf"} +Inf 1395066363000\nc\n{} 1\nd 1 2 3\n'
    assert [(name, str(value), time) for name, value, time in samples(text)] == [
        ("a", "nan", None), ('b{le="+Inf"}', "inf", 1395066363000),
    ]  # fmt: skip


def test_nobody_listens_is_no_error() -> None:
    assert Endpoint(1, None, ["a"]).read(end=True) == []


def test_a_file_of_lines_by_several_filters(tmp_path: Path) -> None:
    filters = [r"{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)}", r"(\w+\s\w+)\s:\s((-?\d+)(\.\d+)?)"]
    source = source_of(
        experiment(additional_metrics=["test loss"], metrics={"source": "file", "path": "m.log", "filter": filters}),
        tmp_path,
    )
    assert source is not None
    assert list(source.read()) == []
    (tmp_path / "m.log").write_text(
        "{metricName: accuracy, metricValue: 0.5}\n[3] test loss : 0.25\nhalf {metricName: acc"
    )
    assert [(metric.name, metric.value) for metric in source.read()] == [("accuracy", 0.5), ("test loss", 0.25)]


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_an_event_at_a_time_that_no_calendar_has_is_of_now(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(simple("accuracy", 0.5, 1, seconds))
    (found,) = EventFiles(tmp_path, ["accuracy"]).read()
    assert abs(found.timestamp_ms - now_ms()) < 60_000


def test_a_sample_at_a_time_that_no_calendar_has_is_of_no_time() -> None:
    assert [time for _, _, time in samples(f"a 1 -5\nb 1 {'9' * 300}\n")] == [None, None]
