"""Real processes, as they come: tidy ones, silent ones, ones that hang, flood, fail or leave children behind."""

import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from katib_flow.history import Metric, State, Suggestion
from katib_flow.metrics import observe, thinning
from katib_flow.spec import Experiment
from katib_flow.trial import runner, user
from katib_flow.trial.functions import load_code
from katib_flow.trial.outcome import Outcome, StopTrial
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.runner import run_trial
from tests.kit import within

Run = Callable[..., Outcome]


def experiment(**changes: Any) -> Experiment:
    data = {
        "name": "runner",
        "objective": {"metric": "score", "direction": "maximize"},
        "additional_metrics": ["stats"],
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "limits": {"max_trials": 1},
        "trial": {"command": ["true"]},
    }
    return Experiment.parse(data | changes)


@pytest.fixture
def directory(tmp_path: Path) -> TrialDirectory:
    return TrialDirectory(tmp_path / "t00000")


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(directory: TrialDirectory) -> Run:
    def run(
        what: Any, *, stop: Any = lambda: None, assignment: Any = None, on_metrics: Any = None, **spec: Any
    ) -> Outcome:
        """Run a function, or the text of a Python program, as a trial."""
        function = what if callable(what) else None
        trial = (
            {"function": "m:f"}
            if function
            else {"command": [sys.executable, "-c", what] if isinstance(what, str) else what}
        )
        suggestion = Suggestion(0, assignment or {"x": 0.5})
        hooks = {"on_metrics": on_metrics or (lambda metrics: None), "stop": stop, "function": function}
        return run_trial(experiment(trial=trial, **spec), suggestion, directory, **hooks)

    return run


def test_a_programs_printed_metrics_are_its_observations(run: Run) -> None:
    outcome = run("print('hello'); print('score=0.25 step=1'); print('score=0.75 step=2')")
    assert (outcome.state, outcome.message, outcome.fault) == (State.SUCCEEDED, "", False)
    assert [(metric.name, metric.value, metric.step) for metric in outcome.metrics] == [
        ("score", 0.25, 1),
        ("score", 0.75, 2),
    ]


@pytest.mark.parametrize(
    ("program", "state", "message"),
    [
        ("pass", State.METRICS_UNAVAILABLE, "'score' was not reported: the trial printed nothing"),
        (
            "print('Score: 0.9')",
            State.METRICS_UNAVAILABLE,
            "'score' was not reported in 1 log line; a line has 'Score: 0.9'; print score=0.9, or set metrics.filter "
            'to find it; the last was "Score: 0.9"',
        ),
        ("print('score=1'); print('oops'); exit(3)", State.FAILED, 'exit code 3; its last line was "oops"'),
        ("exit(3)", State.FAILED, "exit code 3; it printed nothing"),
    ],
)
def test_how_a_program_may_end(run: Run, program: str, state: State, message: str) -> None:
    outcome = run(program)
    assert (outcome.state, outcome.message, outcome.fault) == (state, message, False)


NAMED = """
import json, os, pathlib
named = json.loads((pathlib.Path(os.environ["KATIB_FLOW_TRIAL_FILE"]).parent / "process.json").read_text())["pid"]
print(f"score={int(named == os.getpid())}", flush=True)
pathlib.Path("looked").touch()
"""


@pytest.mark.parametrize("program", [lambda x: exec(NAMED), NAMED], ids=["function", "command"])
def test_a_process_is_named_before_its_program_runs(run: Run, monkeypatch: pytest.MonkeyPatch, program: Any) -> None:
    """A worker that is killed right after it has started one cannot name it any more."""
    start = runner._start

    def slow(*arguments: Any) -> Any:
        process = start(*arguments)
        assert within(60, lambda: Path("looked").exists() or process.poll() is not None)
        return process

    monkeypatch.setattr(runner, "_start", slow)
    outcome = run(program)
    assert [metric.value for metric in outcome.metrics] == [1], outcome.message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_value_that_is_no_finite_number_is_recorded(run: Run, value: str) -> None:
    outcome = run(f"print('score={value}')")
    assert outcome.state is State.SUCCEEDED
    assert str(outcome.metrics[0].value) == value


def test_a_program_that_hangs_is_ended_when_its_time_is_over(run: Run) -> None:
    outcome = run(
        "import time; print('score=1', flush=True); time.sleep(600)", limits={"max_trials": 1, "trial_timeout": 0.3}
    )
    assert (outcome.state, outcome.message) == (State.FAILED, "reached limits.trial_timeout (0.3 s)")
    assert [metric.value for metric in outcome.metrics] == [1]


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace_period(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "GRACE_SECONDS", 0.2)
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('score=1', flush=True); time.sleep(600)"
    assert run(program, limits={"max_trials": 1, "trial_timeout": 0.5}).state is State.FAILED


@pytest.mark.parametrize(("strategy", "value"), [("latest", 0.5), ("min", -7.0), ("max", 9.0)])
def test_a_value_is_that_of_all_that_was_reported_however_much_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch, strategy: str, value: float
) -> None:
    monkeypatch.setattr(thinning, "WHOLE", 1000)
    monkeypatch.setattr(thinning, "LEVEL", 100)
    recorded: list[Metric] = []
    outcome = run(
        "for k in range(30_000): print('score', {21_000: -7, 22_001: 9, 29_999: 0.5}.get(k, 1), sep='=')",
        on_metrics=recorded.extend,
        metrics={"strategy": {"score": strategy}},
    )
    assert outcome.observations == {"score": value}
    assert observe(recorded, {"score": strategy}) == {"score": value}
    assert list(outcome.metrics) == recorded
    few = len(recorded)
    assert few < 3000
    assert outcome.state is State.SUCCEEDED
    assert outcome.message == (
        f"{few:,} of 30,000 reported numbers are recorded; latest, min and max take all of them into account"
    )


def test_a_death_by_a_real_time_signal_is_told_by_its_number(run: Run) -> None:
    outcome = run("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)")
    assert outcome.state is State.FAILED
    assert outcome.message == f"killed by signal {signal.SIGRTMIN + 3}; it printed nothing"


@pytest.mark.parametrize("file", ["report.jsonl", "error.json"])
def test_json_that_is_nested_too_deeply_is_no_more_than_noise(run: Run, file: str) -> None:
    program = f"import os, pathlib; pathlib.Path(os.environ['KATIB_FLOW_TRIAL_FILE']).with_name('{file}')"
    outcome = run(f"{program}.write_text('[' * 100_000); print('score=1'); exit(3)")
    assert (outcome.state, outcome.message) == (State.FAILED, 'exit code 3; its last line was "score=1"')


@pytest.mark.parametrize("trial", [{"command": ["echo", "${x}"]}, {"command": ["true"], "env": {"A": "${x}"}}])
def test_what_no_program_can_be_started_with_fails_the_trial_alone(directory: TrialDirectory, trial: Any) -> None:
    hooks: Any = {"on_metrics": lambda metrics: None, "stop": lambda: None}
    parameters = {"x": {"type": "categorical", "values": ["a\0b", "c"]}}
    of = experiment(trial=trial, parameters=parameters)
    outcome = run_trial(of, Suggestion(0, {"x": "a\0b"}), directory, **hooks)
    assert outcome.state is State.FAILED
    assert outcome.message.startswith("cannot be started: ")


def test_names_without_end_do_not_crowd_out_those_of_the_spec(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katib_flow.trial.reader.NAMES", 10)
    outcome = run(lambda x: [user.report({f"m{k}": k}) for k in range(20)] and user.report(score=0.5))
    assert outcome.observations == {**{f"m{k}": k for k in range(10)}, "score": 0.5}
    assert "10 reports were ignored" in outcome.message


@pytest.mark.slow
def test_a_hundred_megabytes_of_output_are_read_and_the_log_keeps_both_ends(
    run: Run, directory: TrialDirectory
) -> None:
    outcome = run("print('first'); [print('x' * 99_999) for _ in range(1000)]; print('score=0.5')")
    assert (outcome.state, outcome.metrics[0].value) == (State.SUCCEEDED, 0.5)
    log = directory.log.read_bytes()
    assert log.startswith(b"first\n")
    assert log.endswith(b"score=0.5\n")
    assert b"bytes left out here" in log
    assert len(log) < 9 << 20


def test_one_endless_line_does_not_fill_the_memory(run: Run) -> None:
    outcome = run("import sys; [sys.stdout.write('x' * 100_000) for _ in range(50)]; print(); print('score=0.5')")
    assert (outcome.state, len(outcome.metrics)) == (State.SUCCEEDED, 1)


def test_a_value_reaches_the_program_as_one_argument_whatever_it_holds(run: Run, tmp_path: Path) -> None:
    hostile = [
        "a b",
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "'\"\\",
        "-n",
        "",
        "${x}",
        "\n",
        "*",
        "ü\u2028",
    ]
    program = "import sys, json; json.dump(sys.argv[1:], open(sys.argv[1], 'w')); print('score=1')"
    names = [f"p{index}" for index in range(len(hostile))]
    outcome = run(
        [sys.executable, "-c", program, str(tmp_path / "got"), *(f"${{{name}}}" for name in names), "$${x}"],
        assignment=dict(zip(names, hostile, strict=True)),
        parameters={
            name: {"type": "categorical", "values": [value]} for name, value in zip(names, hostile, strict=True)
        },
    )
    assert outcome.state is State.SUCCEEDED
    assert json.loads((tmp_path / "got").read_text())[1:] == [*hostile, "${x}"]
    assert not list(Path().glob("pwned"))


def test_an_argument_that_names_an_inactive_parameter_is_left_out(run: Run, tmp_path: Path) -> None:
    parameters = {
        "kind": {"type": "categorical", "values": ["a", "b"]},
        "depth": {"type": "int", "min": 1, "max": 3, "when": {"kind": "b"}},
    }
    program = "import sys, json; json.dump(sys.argv[2:], open(sys.argv[1], 'w')); print('score=1')"
    command = [sys.executable, "-c", program, str(tmp_path / "got"), "--kind=${kind}", "--depth=${depth}", "end"]
    run(command, assignment={"kind": "a"}, parameters=parameters)
    assert json.loads((tmp_path / "got").read_text()) == ["--kind=a", "end"]


def test_the_trial_file_says_what_the_trial_is(run: Run, directory: TrialDirectory) -> None:
    program = "import os; print(open(os.environ['KATIB_FLOW_TRIAL_FILE']).read()); print('score=1')"
    budget = {"parameter": "epochs", "min": 1, "max": 9}
    assert run(program, budget=budget, assignment={"x": 0.25}).state is State.SUCCEEDED
    said = json.loads(directory.log.read_text().splitlines()[0])
    assert (said["trial"], said["experiment"], said["parameters"]) == ("t00000", "runner", {"x": 0.25})
    assert said["parent_checkpoint_dir"] is None
    assert Path(said["checkpoint_dir"]).is_dir()


def test_environment_variables_of_the_spec_reach_the_program(tmp_path: Path) -> None:
    trial = {"command": [sys.executable, "-c", "import os; print('score=' + os.environ['MY'])"], "env": {"MY": "0.125"}}
    directory = TrialDirectory(tmp_path / "t00000")
    spec = experiment(trial=trial)
    outcome = run_trial(spec, Suggestion(0, {"x": 0.5}), directory, on_metrics=lambda _: None, stop=lambda: None)
    assert outcome.metrics[0].value == 0.125


def test_a_program_that_is_not_there_is_a_failed_trial_that_says_so(run: Run) -> None:
    outcome = run(["no-such-program"])
    assert outcome.state is State.FAILED
    assert outcome.message.startswith("cannot be started: ")
    assert "no-such-program" in outcome.message


def test_metrics_are_handed_on_while_the_trial_runs(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "seen"
    program = f"""
import pathlib, time
print('score=0.1', flush=True)
while not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)
print('score=0.2')
"""
    outcome = run(program, on_metrics=lambda metrics: flag.touch(), limits={"max_trials": 1, "trial_timeout": 60})
    assert [metric.value for metric in outcome.metrics] == [0.1, 0.2]


@pytest.mark.parametrize("state", [State.KILLED, State.EARLY_STOPPED])
def test_a_trial_that_is_stopped_keeps_what_it_reported(run: Run, tmp_path: Path, state: State) -> None:
    heard: list[Any] = []
    program = "import time; print('score=0.1', flush=True); time.sleep(600)"
    outcome = run(program, on_metrics=heard.append, stop=lambda: StopTrial(state) if heard else None)
    assert (outcome.state, [metric.value for metric in outcome.metrics]) == (state, [0.1])


def test_what_a_program_left_running_is_ended_with_it(run: Run, tmp_path: Path) -> None:
    program = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', 'import time; print("chatter", flush=True); time.sleep(600)'])
print(f'score={child.pid}')
"""
    outcome = run(program)
    assert outcome.state is State.SUCCEEDED
    pid = int(outcome.metrics[0].value)  # type: ignore[arg-type]
    assert gone(pid)


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds; a zombie that nobody waits for has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_a_grandchild_that_writes_for_ever_in_a_session_of_its_own_holds_nothing_up(run: Run) -> None:
    program = """
import subprocess, sys
endless = 'import time\\nfor _ in range(2000): print("chatter", flush=True); time.sleep(0.005)'
subprocess.Popen([sys.executable, '-c', endless], start_new_session=True)
print('score=1')
"""
    outcome = run(program)
    assert outcome.state is State.SUCCEEDED
    assert outcome.ended - outcome.started < 9  # it writes for ten seconds


def test_a_program_that_closes_its_output_early_is_waited_for(run: Run, tmp_path: Path) -> None:
    program = """
import os, pathlib, time
print('score=1', flush=True)
os.close(1); os.close(2)
time.sleep(0.3)
pathlib.Path('late').touch()
"""
    assert run(program).state is State.SUCCEEDED
    assert (tmp_path / "late").exists()


def test_a_trial_killed_from_outside_is_the_machines_fault(run: Run) -> None:
    outcome = run("import os; print('score=1', flush=True); os.kill(os.getpid(), 9)")
    assert (outcome.state, outcome.fault) == (State.FAILED, True)
    assert outcome.message.startswith("killed by SIGKILL")
    assert not run("import os; os.abort()").fault


def test_a_metrics_file_is_read_instead_of_the_output(run: Run, directory: TrialDirectory) -> None:
    program = f"""
print('score=1')
with open({str(directory.path / "metrics.jsonl")!r}, 'w') as file: file.write('{{"score": 0.5, "step": 3}}')
"""
    outcome = run(program, metrics={"source": "file", "path": "metrics.jsonl", "format": "json"})
    assert [(metric.value, metric.step) for metric in outcome.metrics] == [(0.5, 3)]


def test_bytes_that_are_no_text_do_no_harm(run: Run) -> None:
    assert run(r"import os; os.write(1, b'\xff\xfe\x00\n\x1b[31mscore=1\n'); print('score=2')").state is State.SUCCEEDED


# functions


def test_a_function_may_return_a_number(run: Run) -> None:
    outcome = run(lambda x: x * 2)
    assert [(metric.name, metric.value) for metric in outcome.metrics] == [("score", 1.0)]


def test_a_function_may_return_metrics_and_vectors(run: Run) -> None:
    outcome = run(lambda x: {"score": x, "stats": [1.0, 2.0]})
    assert [(metric.name, metric.value) for metric in outcome.metrics] == [("score", 0.5), ("stats", (1.0, 2.0))]


def test_a_function_may_yield_a_step_at_a_time(run: Run) -> None:
    def steps(x: float) -> Any:
        yield {"score": x}
        yield 2 * x
        yield {"score": 3 * x, "step": 10}

    assert [(metric.value, metric.step) for metric in run(steps).metrics] == [(0.5, 0), (1.0, 1), (1.5, 10)]


def test_a_function_may_report_by_itself_and_its_prints_count_too(run: Run) -> None:
    def reports(x: float) -> None:
        import katib_flow as kf

        print("score=0.125 step=1")
        kf.report(score=x, stats=(1, 2), step=2)

    assert {(metric.name, metric.value, metric.step) for metric in run(reports).metrics} == {
        ("score", 0.125, 1),
        ("score", 0.5, 2),
        ("stats", (1.0, 2.0), 2),
    }


def test_an_exception_is_the_trials_message_and_its_traceback_is_in_the_log(
    run: Run, directory: TrialDirectory
) -> None:
    def fails(x: float) -> None:
        raise ValueError("too high")

    outcome = run(fails)
    assert (outcome.state, outcome.message, outcome.fault) == (State.FAILED, "ValueError: too high", False)
    assert "Traceback" in directory.log.read_text()


def test_a_message_of_an_earlier_attempt_is_not_told_again(run: Run) -> None:
    def fails(x: float) -> None:
        raise ValueError("too high")

    run(fails)
    assert run(lambda x: os._exit(4)).message == "exit code 4; it printed nothing"


@pytest.mark.parametrize(("code", "exit_code"), [(None, 0), (0, 0), (7, 7), ("words", 1)])
def test_sys_exit_in_a_function_is_its_exit_code(run: Run, code: Any, exit_code: int) -> None:
    def leaves(x: float) -> None:
        print("score=1", flush=True)
        sys.exit(code)

    outcome = run(leaves)
    assert outcome.state is (State.FAILED if exit_code else State.SUCCEEDED)
    assert not exit_code or outcome.message.startswith(f"exit code {exit_code};")


def test_a_generator_is_told_to_stop_between_its_steps(run: Run) -> None:
    def endless(x: float) -> Any:
        while True:
            time.sleep(0.01)
            yield x

    heard: list[Any] = []
    outcome = run(endless, on_metrics=heard.append, stop=lambda: StopTrial(State.EARLY_STOPPED) if heard else None)
    assert outcome.state is State.EARLY_STOPPED


def test_a_metric_that_is_no_number_is_refused_by_name(run: Run) -> None:
    outcome = run(lambda x: {"score": "high"})
    assert outcome.message == "the function returned the text 'high' for 'score', need one number"


def test_a_functions_world_is_its_own(run: Run) -> None:
    def changes(x: float) -> float:
        os.environ["CHANGED"] = "1"
        os.chdir("/")
        sys.path.clear()
        return x

    assert run(changes).state is State.SUCCEEDED
    assert "CHANGED" not in os.environ
    assert sys.path


def test_checkpoints_outlive_a_retry_and_reports_do_not(run: Run) -> None:
    def trains(x: float) -> dict[str, float]:
        import katib_flow as kf

        file = kf.checkpoint_dir() / "count"
        count = int(file.read_text()) + 1 if file.exists() else 1
        file.write_text(str(count))
        return {"score": count}

    assert [run(trains).metrics[0].value for _ in range(2)] == [1, 2]


# what is said of a metric that is missing


def unavailable(outcome: Outcome) -> str:
    assert outcome.state is State.METRICS_UNAVAILABLE
    return outcome.message


def test_a_function_that_gives_nothing_back_is_told_so(run: Run) -> None:
    assert unavailable(run(lambda x: print(x))) == (
        "'score' was not reported: the function returned None and did not call kf.report"
    )


def test_what_was_reported_instead_is_named(run: Run) -> None:
    assert unavailable(run(lambda x: {"Score": x, "note": "fine"})) == (
        "'score' was not reported: the trial reported 'Score'; names are case-sensitive"
    )


def test_a_vector_for_an_objective_is_told_as_a_vector(run: Run) -> None:
    assert unavailable(run("print('score=[1, 2]')")) == (
        "'score' was not reported: found a vector of 2 numbers, need one number"
    )


def test_one_number_in_a_vector_is_a_number_where_the_spec_names_the_metric(run: Run) -> None:
    outcome = run("print('score=[0.5]')")
    assert [(each.name, each.value) for each in outcome.metrics] == [("score", 0.5)]


def test_a_number_that_goes_on_is_told_with_all_of_it(run: Run) -> None:
    assert unavailable(run("print('score=1,234.5')")).startswith(
        "'score' was not reported: found '1,234.5', which is not a number: "
    )


def test_values_that_are_left_out_of_a_good_trial_are_told(run: Run) -> None:
    outcome = run("print('score=999.5'); print('score=1,000.5'); print('score=1,001')")
    assert (outcome.state, outcome.message) == (
        State.SUCCEEDED,
        "ignored: 2 texts in place of a number for 'score', the last '1,001'",
    )
    outcome = run(lambda x: {"score": x, "note": "fine"})
    assert (outcome.state, outcome.message) == (State.SUCCEEDED, "ignored: 'note', the text 'fine'")


def test_a_filter_that_never_matched_is_named(run: Run) -> None:
    outcome = run("print('score: 0.5')", metrics={"filter": r"([\\w|-]+)\\s*:\\s*((-?\\d+)(\\.\\d+)?)"})
    assert unavailable(outcome) == (
        "'score' was not reported: metrics.filter matched nothing in 1 line; the last was \"score: 0.5\""
    )


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("pass", "'score' was not reported: the trial wrote no file m.log"),
        ("open('m.log', 'w')", "'score' was not reported: the trial wrote nothing to m.log"),
        (
            "open('m.log', 'w').write('Score=1')",
            "'score' was not reported in 1 line of m.log; lines report 'Score';",
        ),
        ("open('m.log', 'w').write('score=1,5')", "'score' was not reported: found '1,5', which is not a number"),
    ],
)
def test_a_file_is_told_by_what_it_holds(run: Run, program: str, said: str) -> None:
    program = f"import os; os.chdir(os.path.dirname(os.environ['KATIB_FLOW_TRIAL_FILE'])); {program}"
    assert unavailable(run(program, metrics={"source": "file", "path": "m.log"})).startswith(said)


def test_event_files_and_endpoints_tell_what_they_have(run: Run, directory: TrialDirectory) -> None:
    assert "there are no event files in " in unavailable(run("pass", metrics={"source": "tensorboard", "path": "x"}))
    outcome = run("pass", metrics={"source": "prometheus", "port": 1})
    assert unavailable(outcome) == (
        "'score' was not reported: http://127.0.0.1:1/metrics did not answer while the trial ran"
    )


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [
        (137, "exit code 137, which in a shell means a program killed by SIGKILL; it", True),
        (143, "exit code 143, which in a shell means a program killed by SIGTERM; it printed nothing", True),
        (139, "exit code 139, which in a shell means a program killed by SIGSEGV; it printed nothing", False),
        (127, "exit code 127, which in a shell means that the command was not found; it printed nothing", False),
        (126, "exit code 126, which in a shell means that the command is not an executable program; it", False),
        (255, "exit code 255; it printed nothing", False),
    ],
)
def test_what_a_shell_makes_of_its_programs_end_is_told(run: Run, code: int, message: str, fault: bool) -> None:
    outcome = run(f"raise SystemExit({code})")
    assert (outcome.state, outcome.fault) == (State.FAILED, fault)
    assert outcome.message.startswith(message)


def test_a_character_that_no_terminal_can_show_is_shown_escaped(run: Run) -> None:
    def train(x: float) -> None:
        raise ValueError("bad \ud83d here")

    assert run(train).message == "ValueError: bad \\ud83d here"


def test_a_filter_that_takes_for_ever_fails_the_trial_and_ends_its_program(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("katib_flow.metrics.text.FILTER_SECONDS", 0.05)
    program = "import time; print('a' * 60 + '!', flush=True); time.sleep(600)"
    outcome = run(program, metrics={"filter": "((?:a+)+)=(1)"})
    assert outcome.state is State.FAILED
    assert outcome.message.startswith("metrics.filter: found a pattern that takes more than 0.05 s to search the line")


@pytest.mark.parametrize("source", [{}, {"source": "file", "path": "../m.log"}])
def test_what_was_read_before_a_line_that_a_filter_takes_too_long_for_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: dict[str, str]
) -> None:
    monkeypatch.setattr("katib_flow.metrics.text.FILTER_SECONDS", 0.05)
    lines = ["score=0.5", "score=0.75", "a" * 60 + "!", "score=0.25", ""]
    write = "open('m.log', 'w').write" if source else "print"
    program = f"{write}({chr(10).join(lines)!r})"
    outcome = run(program, metrics={"filter": ["(score)=(.*)", "((?:a+)+)=(1)"], **source})
    assert outcome.state is State.FAILED
    assert [metric.value for metric in outcome.metrics] == [0.5, 0.75]


def test_a_report_file_of_many_lines_is_taken_in_batches(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katib_flow.trial.reader.BATCH", 10)
    taken: list[int] = []
    outcome = run(
        "open('m.log', 'w').write('\\n'.join(f'score={k}' for k in range(95)))",
        metrics={"source": "file", "path": "../m.log"},
        on_metrics=lambda metrics: taken.append(len(metrics)),
    )
    assert outcome.observations == {"score": 94.0}
    assert (max(taken), sum(taken)) == (10, 95)


def test_code_in_a_spec_is_loaded_without_a_file_and_shows_in_tracebacks(
    run: Run, directory: TrialDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    function = load_code("inlined_here:train", "def train(x):\n    raise ValueError('too high')\n")
    outcome = run(function)
    assert outcome.message == "ValueError: too high"
    assert "raise ValueError('too high')" in directory.log.read_text()
    assert inspect.getsource(function).startswith("def train(x):")


SLOW = [sys.executable, "-c", "import time; print('at it', flush=True); time.sleep(60)"]


def test_a_collector_without_an_end_is_ended_and_fails_the_trial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "COLLECT_SECONDS", 0.3)
    outcome = run("pass", metrics={"source": "custom", "command": SLOW})
    assert outcome.state is State.FAILED
    assert outcome.message.startswith("metrics.command had not ended 300 s after the trial; ")


def test_a_trial_that_is_told_to_end_while_its_metrics_are_read_ends(run: Run, directory: TrialDirectory) -> None:
    def stop() -> StopTrial | None:
        return StopTrial(State.KILLED) if "at it" in directory.log.read_text() else None

    outcome = run("pass", stop=stop, metrics={"source": "custom", "command": SLOW})
    assert outcome.state is State.KILLED
    assert outcome.message == "interrupted before it finished, on request"


def test_a_collector_that_cannot_be_started_fails_the_trial(run: Run) -> None:
    outcome = run("pass", metrics={"source": "custom", "command": ["/nowhere/collect"]})
    assert outcome.state is State.FAILED
    assert outcome.message.startswith("metrics.command cannot be started: [Errno 2]")
