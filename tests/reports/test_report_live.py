"""The server of a live report: who is answered, when a report is made anew, and what a fault of the store does."""

import http.client
from collections.abc import Iterator
from threading import Thread

import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.reports.blocks import Report, Section, Text
from katib_flow.reports.live import Newest, Server, Snapshot

pytest.importorskip("plotly", reason="a report needs Plotly, an extra")


class Experiment:
    """An experiment that tests change, and a clock that they move."""

    def __init__(self) -> None:
        self.version, self.final, self.away, self.reports, self.now = "1", False, False, 0, 0.0
        self.cost = 0.0

    def look(self) -> Snapshot:
        if self.away:
            raise KatibFlowError("the store does not answer")
        return Snapshot(self.version, self.final, self.report)

    def report(self) -> Report:
        self.reports += 1
        self.now += self.cost
        return Report("<b>evil</b>", "running", f"edition {self.version}", "", [Section("Outcome", [Text("&")])])


@pytest.fixture
def experiment() -> Experiment:
    return Experiment()


@pytest.fixture
def newest(experiment: Experiment) -> Newest:
    return Newest(experiment.look, clock=lambda: experiment.now)


@pytest.fixture
def server(newest: Newest) -> Iterator[Server]:
    with Server(0, newest) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def asked(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": f"127.0.0.1:{server.port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def test_the_page_asks_its_own_server_and_no_other(server: Server) -> None:
    status, headers, page = asked(server, "/")
    assert status == 200
    assert "&lt;b&gt;evil&lt;/b&gt;" in page
    assert "<b>evil" not in page
    assert "connect-src 'self'" in page
    assert "<body data-live>" in page
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]:{port}"]
)
def test_a_request_by_another_name_is_refused(server: Server, host: str) -> None:
    status, _, text = asked(server, "/", Host=host.format(port=server.port))
    assert status == 421
    assert "edition" not in text


def test_it_is_known_as_localhost_too(server: Server) -> None:
    assert asked(server, "/content", Host=f"LOCALHOST:{server.port}")[0] == 200


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/etc/passwd", 404), ("GET", "/../report.html", 404), ("POST", "/", 501), ("PUT", "/content", 501),
])  # fmt: skip
def test_there_is_nothing_else_to_ask_for(server: Server, method: str, path: str, status: int) -> None:
    assert asked(server, path, method)[0] == status


def test_what_is_known_is_not_sent_again(server: Server, experiment: Experiment) -> None:
    status, headers, text = asked(server, "/content")
    assert (status, headers["X-Status"]) == (200, "running")
    assert "edition 1" in text
    assert asked(server, "/content", If_None_Match=headers["ETag"])[0] == 304
    experiment.version, experiment.final, experiment.now = "2", True, 100.0
    status, headers, text = asked(server, "/content", If_None_Match=headers["ETag"])
    assert (status, headers["X-Status"]) == (200, "final")
    assert "edition 2" in text


def test_a_report_is_made_only_where_something_is_new_and_not_too_often(newest: Newest, experiment: Experiment) -> None:
    newest.get()
    experiment.now += 100
    newest.get()
    assert experiment.reports == 1
    experiment.version, experiment.cost = "2", 10.0
    experiment.now += 100
    newest.get()
    assert experiment.reports == 2
    experiment.version = "3"
    experiment.now += 15  # after one that took 10 seconds
    assert newest.get().version == "2"
    experiment.now += 10
    assert newest.get().version == "3"


def test_while_the_store_is_away_the_report_stays_as_it_was(server: Server, experiment: Experiment) -> None:
    asked(server, "/content")
    experiment.away, experiment.now = True, 100.0
    status, headers, text = asked(server, "/content")
    assert (status, headers["X-Trouble"]) == (200, "yes")
    assert "edition 1" in text
    experiment.away, experiment.now = False, 200.0
    assert "X-Trouble" not in asked(server, "/content")[1]


def test_a_store_that_never_answered_is_an_error(server: Server, experiment: Experiment) -> None:
    experiment.away = True
    status, _, text = asked(server, "/")
    assert (status, text) == (503, "the store does not answer\n")
