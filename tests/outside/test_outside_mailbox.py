"""A program in a container beside the one that asks: the busybox and script that it is run with, as processes here."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kit import needs_busybox

from katib_flow.errors import KatibFlowError
from katib_flow.outside import mailbox
from katib_flow.outside.process import MayPass

pytestmark = needs_busybox
TWICE = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read() * 2)"]
Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts what the program's container runs; gives the directory that both see."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str], seconds: float = 30) -> Path:
        busybox = shutil.which("busybox")
        assert busybox is not None
        directory = tmp_path / "a 'shared' $directory"
        directory.mkdir()
        shutil.copy(busybox, directory / "busybox")
        (directory / "serve.sh").write_text(mailbox.script(directory, command, seconds))
        argv = [str(directory / "busybox"), "sh", str(directory / "serve.sh")]
        processes.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        return directory

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(30) == 0  # as a container that is stopped should end


def test_each_question_has_its_answer(serve: Serve) -> None:
    directory = serve(TWICE)
    assert [mailbox.ask(directory, given, 30) for given in (b"a", b"", b"\xff\n")] == [b"aa", b"", b"\xff\n\xff\n"]


def test_no_word_of_a_command_is_looked_into(serve: Serve) -> None:
    words = ["$(touch x)", "a b", "'", "*", "\\", "; exit 3"]
    directory = serve([sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *words])
    assert json.loads(mailbox.ask(directory, b"", 30)) == words


def test_a_program_that_fails_is_quoted(serve: Serve) -> None:
    directory = serve([sys.executable, "-c", "import sys; sys.exit('no prior')"])
    with pytest.raises(KatibFlowError, match="ended with exit code 1; its standard error ends with: no prior"):
        mailbox.ask(directory, b"", 30)


def test_a_program_that_hangs_is_killed_and_answers_the_next_question(serve: Serve) -> None:
    hangs = "import sys, time; text = sys.stdin.read(); time.sleep(600 if text == 'hang' else 0); print(text, end='')"
    directory = serve([sys.executable, "-c", hangs], seconds=1)
    with pytest.raises(MayPass, match=r"did not answer within algorithm.timeout \(1 s\)$"):
        mailbox.ask(directory, b"hang", 1)
    assert mailbox.ask(directory, b"again", 1) == b"again"


def test_a_program_that_was_killed_may_be_asked_again(serve: Serve) -> None:
    directory = serve([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(MayPass, match=r"was killed by SIGKILL$"):
        mailbox.ask(directory, b"", 30)


def test_a_container_that_never_starts_ends_it_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "START_SECONDS", 0.2)
    with pytest.raises(MayPass, match=r"has not started within 0.2 s"):
        mailbox.ask(tmp_path, b"", 30)
