"""The messages of Katib's API, against the descriptor that Katib's SDK 0.19 ships, and over a real connection."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

grpc = pytest.importorskip("grpc")

from katib_flow.katib_api.calls import call, handlers  # noqa: E402
from katib_flow.katib_api.messages import message, number  # noqa: E402

KATIBS = descriptor_pb2.FileDescriptorProto.FromString(Path(__file__).with_name("katib-0.19-api.binpb").read_bytes())
Described = dict[str, tuple[Any, ...]]


def described(messages: Iterable[Any], outer: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Of each message, and of those within it, what decides how it is written on the wire."""
    for one in messages:
        name = f"{outer}{one.name}"
        fields = sorted((field.name, field.number, field.type_name, field.label, field.type) for field in one.field)
        enums = {enum.name: [(value.name, value.number) for value in enum.value] for enum in one.enum_type}
        yield name, (fields, one.options.map_entry, enums)
        yield from described(one.nested_type, f"{name}.")


def ours() -> Any:
    file = descriptor_pb2.FileDescriptorProto()
    message("Experiment").DESCRIPTOR.file.CopyToProto(file)
    return file


def test_the_messages_are_katibs() -> None:
    katibs, own = dict(described(KATIBS.message_type)), dict(described(ours().message_type))
    assert {name: katibs[name] for name in own} == own
    used = {name for name in katibs if not name.startswith("DeleteObservationLog")}
    assert set(own) == used


def test_the_enumerations_are_katibs() -> None:
    for enum in KATIBS.enum_type:
        for value in enum.value:
            assert number(enum.name, value.name) == value.number


def test_a_call_reaches_a_server_and_brings_its_reply() -> None:
    def reported(request: Any) -> Any:
        seen.append((request.trial_name, [log.metric.value for log in request.observation_log.metric_logs]))
        return message("ReportObservationLogReply")()

    seen: list[tuple[str, list[str]]] = []
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([handlers("DBManager", {"ReportObservationLog": reported})])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        request = message("ReportObservationLogRequest")(trial_name="t00001")
        request.observation_log.metric_logs.add(time_stamp="2026-01-01T00:00:00Z").metric.value = "0.5"
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call(channel, "DBManager", "ReportObservationLog", request, 10)
        server.stop(None).wait()
    assert seen == [("t00001", ["0.5"])]
