"""Algorithms in programs of the user's own: in Python, in POSIX shell with awk, and in Node, all three alike."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from kit import spec

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec, KatibFlowError
from katib_flow.history import History, Learnt, State, Suggestion, Trial
from katib_flow.loop import answer, proposed, suggest
from katib_flow.outside import process, protocol
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

HERE = Path(__file__).parent / "programs"
PROGRAMS: dict[str, list[str]] = {
    "python": [sys.executable, str(HERE / "halton.py")],
    "shell": ["sh", str(HERE / "halton.sh")],
    "node": ["node", str(HERE / "halton.js")],
}
PARAMETERS: dict[str, Any] = {
    "lr": {"type": "float", "min": 0.001, "max": 1.0},
    "layers": {"type": "int", "min": 1, "max": 8},
    "optimizer": {"type": "categorical", "values": ["sgd", "adam", "lion"]},
}

GOOD: Mapping[str, Any] = {"lr": 0.5, "layers": 3, "optimizer": "sgd"}


def search(command: Sequence[str], **sections: Any) -> Experiment:
    return Experiment.parse(spec(**{"parameters": PARAMETERS, "algorithm": {"command": list(command)}, **sections}))


def says(reply: object, *, code: int = 0, error: str = "") -> list[str]:
    """A program that writes a reply, text as it is and anything else as JSON, and ends."""
    text = reply if isinstance(reply, str) else json.dumps(reply)
    body = f"sys.stdout.write({text!r}); sys.stderr.write({error!r}); sys.exit({code})"
    return [sys.executable, "-c", f"import sys; {body}"]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> list[str]:
    command = PROGRAMS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    return command


def digits_mirrored(number: int, base: int) -> float:
    """The radical inverse by its definition: the digits of a number, behind the point in reverse."""
    digits = []
    while number:
        number, digit = divmod(number, base)
        digits.append(digit)
    return sum(digit / base ** (place + 1) for place, digit in enumerate(digits))


def test_a_program_in_any_language_suggests_what_it_computes(program: list[str]) -> None:
    for suggestion in suggest(search(program), History(), 12):
        number = suggestion.index + 1
        assert suggestion.assignment["lr"] == pytest.approx(0.001 + 0.999 * digits_mirrored(number, 2), rel=1e-12)
        assert suggestion.assignment["layers"] == 1 + int(8 * digits_mirrored(number, 3))
        assert suggestion.assignment["optimizer"] == ["sgd", "adam", "lion"][int(3 * digits_mirrored(number, 5))]


def test_its_state_comes_back_to_it(program: list[str]) -> None:
    experiment, kept = search(program), list[Learnt]()
    for first in (0, 2, 4):
        reply = answer(experiment, History(), 2, start=first, kept=kept)
        assert reply.learnt is not None
        kept.insert(0, reply.learnt)
    assert [json.loads(learnt.content) for learnt in kept] == [{"asked": 3}, {"asked": 2}, {"asked": 1}]
    again = answer(experiment, History(), 2, start=2, kept=kept).learnt  # what was to record its answer was killed
    assert again is not None
    assert json.loads(again.content) == {"asked": 2}


def test_it_reads_all_trials(tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    writes = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read()); print('{\"suggestions\": []}')"
    history = History(
        (
            Trial(Suggestion(0, {**GOOD, "lr": 0.1}), State.SUCCEEDED, {"accuracy": 0.75}),
            Trial(Suggestion(1, {**GOOD, "lr": 0.2}), State.FAILED),
            Trial(Suggestion(2, {**GOOD, "lr": 0.3}), State.SUCCEEDED, {"accuracy": float("nan")}),
        )
    )
    command = [sys.executable, "-c", writes, str(seen)]
    algorithm = {"command": command, "seed": 7, "settings": {"width": 0.5, "names": ["a"]}}
    assert suggest(search(command, algorithm=algorithm), history, 2) == []
    asked = json.loads(seen.read_text())
    Draft202012Validator(protocol.schema()["request"]).validate(asked)
    assert (asked["seed"], asked["settings"], asked["indices"]) == (7, {"width": 0.5, "names": ["a"]}, [3, 4])
    assert asked["parameters"] == PARAMETERS
    told = [(past["index"], past["state"], past["observations"]) for past in asked["trials"]]
    assert told == [(0, "succeeded", {"accuracy": 0.75}), (1, "failed", {}), (2, "succeeded", {})]


def test_the_published_schema_takes_what_the_programs_answer(program: list[str]) -> None:
    space = search_space(search(program))
    asked = protocol.request(search(program), space, History(), range(3), History(), None)
    reply = json.loads(process.run(program, asked, 60, {"PATH": "/usr/local/bin:/usr/bin:/bin"}))
    Draft202012Validator(protocol.schema()["reply"]).validate(reply)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("", "wrote nothing to its standard output"),
        ("loading...\n{}", "wrote 'loading...\\n{}'"),
        ("[" * 100_000, "need one JSON object"),
        ('{"suggestions": [], "state": NaN}', "NaN is not a number in JSON"),
        ([], "wrote an invalid reply"),
        ({"suggestion": []}, "suggestion"),
        ({"suggestions": "many"}, "suggestions: found 'many'"),
        ({"suggestions": [{"lr": 0.5}]}, "suggestions[0].assignment: found nothing"),
        ({"suggestions": [{"assignment": {"lr": [0.5]}}]}, "suggestions[0].assignment.lr"),
        ({"suggestions": [{"assignment": GOOD}] * 3}, "suggested 3 trials, but 2 requested"),
        (
            {"suggestions": [{"assignment": {**GOOD, "lr": 5.0}}]},
            "lr has a value that is not in this space (5.0)",
        ),
        (
            {"suggestions": [{"assignment": {**GOOD, "layers": 2.5}}]},
            "not in this space (2.5)",
        ),
        (
            {"suggestions": [{"assignment": {**GOOD, "layers": True}}]},
            "not in this space (True)",
        ),
        ({"suggestions": [{"assignment": {"lr": 0.5, "layers": 3}}]}, "optimizer has no value"),
        ({"suggestions": [{"assignment": {**GOOD, "wd": 0.1}}]}, "wd is not a parameter of this space (0.1)"),
        ({"suggestions": [{"assignment": dict(GOOD), "parent": 7}]}, "suggestions[0].parent: found 7"),
        ({"suggestions": [{"assignment": dict(GOOD), "budget": -1}]}, "suggestions[0].budget"),
        ({"suggestions": [], "version": 2}, "version: found 2"),
    ],
)
def test_an_unsound_reply_is_told_by_what_is_wrong_with_it(reply: object, words: str) -> None:
    with pytest.raises(KatibFlowError) as error:
        proposed(search(says(reply)), History(), 2)
    assert words in str(error.value)
    assert str(error.value).startswith("algorithm.command: ")


def test_a_program_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(
        KatibFlowError, match=r"ended with exit code 3; its standard error ends with: no such file: prior\.json"
    ):
        proposed(search(says("", code=3, error="no such file: prior.json\n")), History(), 1)


def test_a_program_that_cannot_be_started_is_told() -> None:
    with pytest.raises(KatibFlowError, match=r"no-such-program cannot be started: .*No such file"):
        proposed(search(["no-such-program"]), History(), 1)


def test_a_program_that_hangs_is_killed_and_asked_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    hangs = f"import time, os; open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    experiment = search([], algorithm={"command": [sys.executable, "-c", hangs], "timeout": 0.5})
    with pytest.raises(KatibFlowError, match=r"within algorithm.timeout \(0.5 s\); tried 3 times"):
        proposed(experiment, History(), 1)
    pids = [int(line) for line in log.read_text().split()]
    assert len(pids) == 3
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_program_that_was_killed_is_asked_again(tmp_path: Path) -> None:
    once = tmp_path / "once"
    reply = json.dumps({"suggestions": [{"assignment": dict(GOOD)}]})
    body = (
        f"import os, pathlib; once = pathlib.Path({str(once)!r}); first = not once.exists(); once.touch(); "
        f"first and os.kill(os.getpid(), 9); print({reply!r})"
    )
    (suggestion,) = suggest(search([sys.executable, "-c", body]), History(), 1)
    assert suggestion.assignment == GOOD


def test_what_a_program_has_started_ends_with_it_and_does_not_hold_it_up(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    reply = json.dumps({"suggestions": []})
    starts = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(note)!r}, 'w').write(str(child.pid)); print({reply!r})"
    )
    assert suggest(search([sys.executable, "-c", starts]), History(), 1) == []
    assert (
        not Path(f"/proc/{note.read_text()}/cmdline").exists()
        or not Path(f"/proc/{note.read_text()}/cmdline").read_bytes()
    )


@pytest.mark.parametrize("size", [1, 2**20], ids=["small", "more than a pipe holds"])
def test_a_program_is_not_waited_for_while_a_daemon_of_its_own_holds_its_streams(tmp_path: Path, size: int) -> None:
    pid_file = tmp_path / "pid"
    starts = (
        "import subprocess; daemon = subprocess.Popen(['sleep', '600'], start_new_session=True); "
        f"open({str(pid_file)!r}, 'w').write(str(daemon.pid)); print('done')"
    )
    try:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        assert process.run([sys.executable, "-c", starts], b"x" * size, 60, environment) == b"done\n"
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_program_that_writes_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_BYTES", 2**20)
    with pytest.raises(KatibFlowError, match="wrote more than 1 MiB to its standard output"):
        proposed(search([sys.executable, "-c", "while True: print('x' * 10000)"]), History(), 1)


def test_a_float_may_be_written_as_a_whole_number_and_a_step_with_rounding() -> None:
    parameters = {"x": {"type": "float", "min": 0, "max": 2}, "y": {"type": "float", "min": 0, "max": 1, "step": 0.1}}
    reply = {"suggestions": [{"assignment": {"x": 1, "y": 0.1 + 0.2}}]}
    (suggestion,) = suggest(search(says(reply), parameters=parameters), History(), 1)
    assert suggestion.assignment == {"x": 1.0, "y": 0.3}
    assert type(suggestion.assignment["x"]) is float


@pytest.mark.parametrize(
    ("algorithm", "where", "words"),
    [
        ({"name": "program"}, "algorithm.command", "a program"),
        ({"command": []}, "algorithm.command", "1 or more items"),
        ({"container": {"image": "x"}}, "algorithm.container.command", "required"),
        ({"command": ["x"], "service": "here:1"}, "algorithm.service", "one of them"),
        ({"name": "tpe", "timeout": "5s"}, "algorithm.timeout", "command, container or service"),
        ({"service": "here:1"}, "algorithm.name", "the name of an algorithm"),
        ({"name": "tpe", "service": {"port": 1}}, "algorithm.service", "address"),
        ({"name": "tpe", "service": "http://here"}, "algorithm.service", "host:port"),
    ],
)
def test_a_section_that_says_too_little_or_too_much_is_refused(algorithm: Any, where: str, words: str) -> None:
    try:
        problems = list(check_algorithm(Experiment.parse(spec(algorithm=algorithm))))
    except InvalidSpec as error:
        problems = error.problems
    assert [problem.where for problem in problems] == [where]
    assert words in str(problems[0])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["suggestions", "assignment", "lr", "state"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(content=st.binary(max_size=200) | _json.map(lambda data: json.dumps(data).encode()))
def test_any_reply_is_sound_or_refused_in_words(content: bytes) -> None:
    experiment = search(["unused"])
    try:
        reply = protocol.read_reply(content)
        suggestions = protocol.suggestions(reply.suggestions, search_space(experiment), History(), range(2))
    except KatibFlowError:
        return
    assert all(suggestion.assignment in search_space(experiment) for suggestion in suggestions)


def test_the_answer_does_not_depend_on_the_order_of_history_and_survives_failures(program: list[str]) -> None:
    experiment = search(program)
    first = suggest(experiment, History(), 4)
    trials = [
        Trial(Suggestion(s.index, s.assignment), State.FAILED if s.index == 1 else State.SUCCEEDED) for s in first
    ]
    forwards = suggest(experiment, History(tuple(trials)), 2)
    assert forwards == suggest(experiment, History(tuple(reversed(trials))), 2)
    assert [suggestion.index for suggestion in forwards] == [4, 5]
