"""The endpoint that a trial reports to as to Katib's DB manager: what it takes, what it refuses, how it ends."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment, within

grpc = pytest.importorskip("grpc")

from katib_flow.errors import KatibFlowError  # noqa: E402
from katib_flow.katib_api.calls import Refusal, call  # noqa: E402
from katib_flow.katib_api.messages import message  # noqa: E402
from katib_flow.katib_api.reports import LONGEST_NAME, MOST_BYTES, MOST_NUMBERS, checked  # noqa: E402
from katib_flow.metrics.katib import READ_BYTES, KatibReports, reports_of  # noqa: E402

METHOD = "/api.v1.beta1.DBManager/ReportObservationLog"


def request(*logs: tuple[str, str, str], trial: str = "digits-t00001") -> Any:
    built = message("ReportObservationLogRequest")(trial_name=trial)
    for name, value, time_stamp in logs:
        log = built.observation_log.metric_logs.add(time_stamp=time_stamp)
        log.metric.name, log.metric.value = name, value
    return built


def refusal(of: Any) -> str:
    with pytest.raises(Refusal) as caught:
        checked(of, "digits-t00001")
    return str(caught.value)


@pytest.mark.parametrize(
    ("stated", "time_ms"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01T00:00:00.250000Z", 1_767_225_600_250),
        ("2026-01-01T00:00:00.123456789Z", 1_767_225_600_123),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
        ("2026-01-01T00:00:00", 1_767_225_600_000),
        ("", None),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_a_time_is_that_of_the_metric(stated: str, time_ms: int | None) -> None:
    assert checked(request(("a", "1", stated)), "digits-t00001") == [("a", "1", time_ms)]


@pytest.mark.parametrize(
    "stated", ["yesterday", "2026-01-01", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "2026-13-01T00:00:00Z"]
)
def test_a_time_that_is_none_is_refused(stated: str) -> None:
    assert refusal(request(("a", "1", ""), ("a", "1", stated))).startswith(
        f"metric_logs[1].time_stamp: found {stated!r}, need a time"
    )


@pytest.mark.parametrize(
    "value",
    ["0.5", "-1", "+2.", ".5", "1e-5", "1E+300", "nan", "NaN", "inf", "-Infinity", "+Inf", " 1 ", "unavailable"],
)
def test_what_python_and_go_write_as_a_number_is_one(value: str) -> None:
    ((_, text, _),) = checked(request(("a", value, "")), "digits-t00001")
    assert text == value.strip()
    assert text == "unavailable" or isinstance(float(text), float)


@pytest.mark.parametrize(
    "value", ["", "high", "1_000", "1,5", "٣", "0x10", "1 2", "1e", ".", "true", "[1]", "9" * 801, "nan()"]
)
def test_what_is_no_number_is_refused(value: str) -> None:
    assert refusal(request(("a", value, ""))).startswith("metric_logs[0].metric.value: found ")


@given(st.text(max_size=12) | st.floats().map(str) | st.integers().map(str))
def test_whatever_is_taken_is_a_number(value: str) -> None:
    try:
        ((_, text, _),) = checked(request(("a", value, "")), "digits-t00001")
    except Refusal:
        assert not value.isascii() or not value.isdigit()
    else:
        assert text == "unavailable" or isinstance(float(text), float)


@pytest.mark.parametrize(("name", "good"), [("", False), ("a" * LONGEST_NAME, True), ("a" * (LONGEST_NAME + 1), False)])
def test_a_name_has_a_length(name: str, good: bool) -> None:
    if good:
        assert checked(request((name, "1", "")), "digits-t00001")
    else:
        assert refusal(request((name, "1", ""))).startswith("metric_logs[0].metric.name: found ")


@pytest.mark.parametrize("trial", ["", "digits-t00002", "digits-t00001 ", "x" * 5000])
def test_another_trial_is_refused_in_few_words(trial: str) -> None:
    said = refusal(request(("a", "1", ""), trial=trial))
    assert said.startswith("trial_name: found ")
    assert said.endswith("need 'digits-t00001', because no other trial reports here")
    assert len(said) < 200


def test_a_report_has_so_many_numbers_at_most() -> None:
    assert len(checked(request(*[("a", "1", "")] * MOST_NUMBERS), "digits-t00001")) == MOST_NUMBERS
    assert refusal(request(*[("a", "1", "")] * (MOST_NUMBERS + 1))).startswith(
        f"metric_logs: found {MOST_NUMBERS + 1} items"
    )


@pytest.fixture
def reports() -> Iterator[KatibReports]:
    with KatibReports("digits-t00001", ["accuracy"]) as built:
        yield built


def send(reports: KatibReports, of: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{reports.port}") as channel:
        call(channel, "DBManager", "ReportObservationLog", of, 30)


def test_what_was_acknowledged_is_there_to_be_read(reports: KatibReports) -> None:
    send(reports, request(("accuracy", "0.5", "2026-01-01T00:00:00Z"), ("loss", "2", "")))
    (first,) = reports.read()
    assert (first.name, first.value, first.step, first.timestamp_ms) == ("accuracy", 0.5, 0, 1_767_225_600_000)
    send(reports, request(("accuracy", "nan", "")))
    (second,) = reports.read(end=True)
    assert math.isnan(second.value)
    assert second.step == 1
    assert list(reports.read(end=True)) == []


def test_of_a_report_that_is_refused_nothing_counts(reports: KatibReports) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(reports, request(("accuracy", "0.5", ""), ("accuracy", "high", "")))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("metric_logs[1].metric.value: found 'high'")
    assert list(reports.read()) == []
    assert "the last refused report: metric_logs[1].metric.value: found 'high'" in reports.absence("accuracy")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\x02\xff\xfe", grpc.StatusCode.INVALID_ARGUMENT),  # text that is no UTF-8
        (b"", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a" + bytes(MOST_BYTES), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["no message", "no UTF-8", "nothing", "too long"],
)
def test_bytes_that_are_no_report_are_refused_and_it_goes_on(reports: KatibReports, data: bytes, code: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{reports.port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(data, timeout=30)
        assert caught.value.code() is code
    send(reports, request(("accuracy", "1", "")))
    assert [metric.value for metric in reports.read()] == [1.0]


@pytest.mark.parametrize("method", ["GetObservationLog", "DeleteObservationLog"])
def test_it_has_no_other_method(reports: KatibReports, method: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{reports.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/api.v1.beta1.DBManager/{method}")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_flood_waits_until_it_is_read(reports: KatibReports) -> None:
    many = request(*[("accuracy", f"0.{'1' * 390}", "2026-01-01T00:00:00Z")] * 9000).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{reports.port}") as channel:
        sent = [channel.unary_unary(METHOD).future(many, timeout=60) for _ in range(3)]
        counts: list[int] = []
        assert within(60, lambda: counts.append(len(list(reports.read()))) or sum(counts) == 27_000)
        assert max(counts) * 390 < READ_BYTES + (1 << 23)  # who reads comes back to what else there is to do
        assert [item.result() for item in sent] == [b""] * 3


def test_who_reads_comes_back_even_where_reports_never_end(reports: KatibReports) -> None:
    line = b'[["accuracy", "0.5", 0]]\n'
    portions = iter([line * 1000] * 400)

    def filled() -> bytes:
        portion = next(portions)
        reports._rest += portion
        return portion

    reports._fill = filled  # pyright: ignore[reportAttributeAccessIssue]
    assert len(list(reports.read())) * len(line) < READ_BYTES + len(line) * 1000
    assert next(portions)


def test_nobody_else_reaches_it(reports: KatibReports) -> None:
    with socket.socket() as own:
        own.connect(("127.0.0.1", reports.port))
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", reports.port))


def test_a_port_in_use_is_told(reports: KatibReports) -> None:
    with pytest.raises(KatibFlowError, match=f"cannot listen at 127.0.0.1:{reports.port}; is the port in use"):
        KatibReports("digits-t00001", ["accuracy"], reports.port)


def test_it_ends_with_who_started_it(tmp_path: Path) -> None:
    script = "from katib_flow.metrics.katib import KatibReports; import os, sys; r = KatibReports('t', []); print(r._process.pid, flush=True); sys.stdin.read(); os._exit(0)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    assert within(30, lambda: not running(pid))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_grpc_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError('no grpc', name='grpc')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(KatibFlowError, match=r"needs grpc, which is not installed: pip install 'katib-flow\[katib\]'"):
        KatibReports("digits-t00001", ["accuracy"])


def test_only_a_trial_that_reports_as_to_katib_has_one() -> None:
    assert reports_of(experiment(), "t", 0) is None
    of = experiment(metrics={"source": "katib"})
    built = reports_of(of, "t", 0)
    assert built is not None
    built.close()
    assert built.variables()["KATIB_DB_MANAGER_ADDRESS"] == f"127.0.0.1:{built.port}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(KatibFlowError, match=f"cannot listen at 127.0.0.1:{port};"):
            reports_of(experiment(metrics={"source": "katib", "port": port}), "t", 0)
