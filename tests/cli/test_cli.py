"""The command line as a user meets it: what it prints, where, and the exit code."""

import csv
import io
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from katib_flow.tracking import Store, summary

MODULE = """\
def square(x, kind):
    return {"loss": (x - 0.5) ** 2}

def two(x, kind):
    return {"loss": (x - 0.5) ** 2, "gain": x}

def fails(x, kind):
    raise ValueError("no good")

def nan(x, kind):
    return float("nan")
"""


def spec(function: str = "square", **changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "toy",
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": {
            "x": {"type": "float", "min": 0, "max": 1},
            "kind": {"type": "categorical", "values": ["a, b", 1]},
        },
        "algorithm": "random",
        "limits": {"max_trials": 3, "parallel_trials": 2},
        "trial": {"function": f"user_module:{function}"},
    }
    return data | changes


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "user_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def write(here: Path) -> Any:
    def write(data: Any) -> str:
        (here / "spec.yaml").write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        return "spec.yaml"

    return write


def test_a_run_prints_a_line_a_trial_and_a_table_of_the_best(call: Any, write: Any) -> None:
    done = call("run", write(spec()))
    assert (done.code, done.error) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines[:3]] == ["succeeded"] * 3
    assert "best trials of toy" in done.out
    assert "reached limits.max_trials (3): 3 succeeded" in done.out
    assert "katib-flow ui" in done.out


@pytest.mark.parametrize("group", ["katib-flow", "a group; of my own"])
def test_the_commands_that_an_experiment_shows_run_it_again(call: Any, write: Any, group: str) -> None:
    call("run", write(spec(tracking={"experiment": group})), "-q")
    record = Store(experiment=group).find("toy")
    for line in summary.reproduce(record):
        program, *words = shlex.split(line)
        assert program == "katib-flow"
        assert call(*words).code == 0
    again = Store(experiment=group).find("toy")
    assert again.run_id != record.run_id
    histories = [Store(experiment=group).history(each) for each in (record, again)]
    first, second = ([trial.assignment for trial in history] for history in histories)
    assert first == second
    _, *words = shlex.split(summary.command(record, "export"))
    assert call(*words).code == 0


def test_what_was_run_is_listed_ranked_and_exported(call: Any, write: Any, here: Path) -> None:
    ran = call("run", write(spec()), "-o", "json").json
    assert (ran["name"], ran["status"], ran["trials"]) == ("toy", "succeeded", 3)
    (listed,) = call("list", "-o", "json").json
    assert (listed["name"], listed["run_id"], listed["status"]) == ("toy", ran["run_id"], "succeeded")
    trials = call("trials", "toy", "-o", "json").json
    assert [trial["trial"] for trial in trials] == ["t00000", "t00001", "t00002"]
    best = call("best", "toy", "-o", "json").json
    assert best == ran["best"] == min(trials, key=lambda trial: trial["loss"])
    status = call("status", ran["run_id"][:8], "-o", "json").json
    assert (status["trials"], status["max_trials"], status["best"]) == ({"succeeded": 3}, 3, best)
    assert call("export", "toy", "--format", "json").json == trials
    table = list(csv.DictReader(io.StringIO(call("export", "toy").out)))
    assert [float(row["x"]) for row in table] == [trial["x"] for trial in trials]
    assert [row["kind"] for row in table] == [str(trial["kind"]) for trial in trials]
    assert call("export", "toy", "--format", "csv", "--out", "toy.csv").out == ""
    assert list(csv.DictReader((here / "toy.csv").open())) == table


def test_parquet_keeps_numbers_as_numbers(call: Any, write: Any, here: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    call("run", write(spec()), "-q")
    assert call("export", "toy", "--format", "parquet", "--out", "toy.parquet").code == 0
    frame = pandas.read_parquet(here / "toy.parquet")
    assert list(frame["trial"]) == ["t00000", "t00001", "t00002"]
    assert frame["loss"].dtype == float
    assert "need a file name" in call("export", "toy", "--format", "parquet").error


def test_resume_gives_a_finished_experiment_more_trials(call: Any, write: Any) -> None:
    call("run", write(spec()), "-q")
    assert call("resume", "toy", "--max-trials", "5", "-o", "json").json["trials"] == 5


def test_a_time_that_is_none_is_refused_in_words(call: Any) -> None:
    done = call("resume", "toy", "--timeout", "soon")
    assert done.code == 2
    assert "found 'soon', need a duration such as 90s, 10m, 2h" in " ".join(done.error.replace("│", "").split())


def test_an_experiment_that_failed_exits_1(call: Any, write: Any) -> None:
    done = call("run", write(spec("fails", limits={"max_trials": 9, "max_failed_trials": 0})))
    assert done.code == 1
    assert "ValueError: no good" in done.out
    assert "1 trial failed; limits.max_failed_trials allows 0" in done.out


def test_a_value_that_is_no_number_is_never_best(call: Any, write: Any) -> None:
    assert call("run", write(spec("nan"))).code == 1
    assert call("best", "toy").error == "error: toy: no trial has a finite value of 'loss' yet\n"
    assert call("trials", "toy", "-o", "json").json[0]["loss"] == "nan"


def test_of_several_objectives_the_front_is_shown(call: Any, write: Any) -> None:
    two = [{"metric": "loss", "direction": "minimize"}, {"metric": "gain", "direction": "maximize"}]
    run = call("run", write(spec("two", objective=two, limits={"max_trials": 8})), "-o", "json").json
    front = call("best", "toy", "-o", "json").json
    assert front == run["front"]
    trials = call("trials", "toy", "-o", "json").json
    expected = [
        one["trial"]
        for one in sorted(trials, key=lambda each: each["loss"])
        if not any(each["loss"] <= one["loss"] and each["gain"] > one["gain"] for each in trials)
    ]
    assert [each["trial"] for each in front] == expected
    assert "front of toy" in call("best", "toy").out
    refused = call("run", write(spec("two", objective=two, algorithm="tpe")))
    assert refused.code == 2
    several = "auto, gp, grid, mnasnet, nsga2, program, random, sobol"
    assert f"one objective for tpe; these algorithms support several: {several}" in refused.error


def test_what_matters_is_told_and_too_few_trials_are_said(call: Any, write: Any) -> None:
    call("run", write(spec(limits={"max_trials": 3})))
    few = call("importance", "toy")
    assert few.code == 2
    assert "found 3 trials with a finite value of 'loss', need at least 10" in few.error
    call("resume", "toy", "--max-trials", "16")
    found = call("importance", "toy", "-o", "json").json["loss"]
    assert found["trials"] == 16
    assert found["shares"]["x"] > found["shares"]["kind"]
    assert "importance for loss" in call("importance", "toy").out


def test_a_report_is_written_to_a_file(call: Any, write: Any, here: Path) -> None:
    pytest.importorskip("plotly", reason="a report needs Plotly, an extra")
    call("run", write(spec(limits={"max_trials": 12, "parallel_trials": 2})))
    done = call("report", "toy", "-o", "toy.html")
    assert (done.code, done.out) == (0, "wrote toy.html; open it in a browser, it needs no other files\n")
    text = (here / "toy.html").read_text(encoding="utf-8")
    best = call("best", "toy", "-o", "json").json
    assert f"The best is trial {best['trial']}, with loss {best['loss']:.6g}." in text
    assert "Which parameters matter" in text
    refused = call("report", "toy", "-o", "nowhere/toy.html")
    assert (refused.code, refused.error) == (
        2,
        "error: nowhere/toy.html: cannot be written: No such file or directory\n",
    )


def test_what_auto_chose_is_said_and_recorded(call: Any, write: Any) -> None:
    path = write(spec(algorithm="auto"))
    line = "gp, chosen by auto: 2 parameters (1 categorical), 3 trials: gp needs the fewest trials"
    assert line in call("validate", path).out
    assert call("run", path).out.startswith(f"algorithm {line}\n")
    assert call("list", "-o", "json").json[0]["algorithm"] == "gp"
    assert call("run", write(spec())).out.startswith("t0000")


def test_another_store_is_found_where_it_is_named(call: Any, write: Any, here: Path) -> None:
    data = spec(tracking={"experiment": "mine"})
    done = call("run", write(data), "--tracking-uri", "sqlite:///other.db")
    assert "katib-flow ui --tracking-uri sqlite:///other.db --tracking-experiment mine" in done.out
    assert call("list").out == "no experiments yet\n"
    where = ("--tracking-uri", "sqlite:///other.db", "--tracking-experiment", "mine")
    assert [row["name"] for row in call("list", "-o", "json", *where).json] == ["toy"]


@pytest.mark.parametrize("command", ["stop", "pause"])
def test_an_experiment_that_has_ended_cannot_be_ended(call: Any, write: Any, command: str) -> None:
    call("run", write(spec()), "-q")
    done = call(command, "toy")
    assert (done.code, done.error) == (2, "error: toy: has already ended, succeeded: reached limits.max_trials (3)\n")


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (
            spec(paramters={}),
            ["spec.yaml:19: paramters: found 'paramters', need a known key", "did you mean 'parameters'?"],
        ),
        (
            spec(parameters={"x": {"type": "float", "min": 2, "max": 1}}),
            ["parameters.x.min: found 2, need a number no greater than max, 1"],
        ),
        (spec("nope"), ["trial.function: found 'user_module:nope', need a function that can be imported from"]),
        (spec(algorithm="hyperbond"), ["algorithm.name: found 'hyperbond', need an algorithm: "]),
        (
            spec(limits={"max_trials": 0, "timeout": "soon"}, metrics={"source": "paper"}),
            ["limits.max_trials", "limits.timeout", "metrics.source"],
        ),
        ("name: [", ["spec.yaml:1: not readable as YAML"]),
        ("", ["spec.yaml: found nothing, need a spec"]),
        ("- 1", ["spec.yaml:1: found [1], need a mapping with the keys of a spec"]),
        ("\0", ["spec.yaml:1: not readable as YAML: U+0000"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "validate", "compile"])
def test_bad_input_is_one_clear_message_a_mistake_and_exits_2(
    call: Any, write: Any, here: Path, command: str, data: Any, messages: list[str]
) -> None:
    if command != "run" and "nope" in str(data):
        pytest.skip("only a run looks for the function: elsewhere it may live in an image")
    done = call(command, write(data))
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.error
    for message in messages:
        assert message in done.error
    assert not (here / "katib_flow.db").exists() or command == "run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: cannot be read: No such file or directory"),
        (("run", "."), ".: cannot be read: Is a directory"),
        (("status", "nope"), "katib_flow.db: no store exists yet"),
        (("list", "--tracking-uri", "http://127.0.0.1:9"), "MLflow at http://127.0.0.1:9 does not answer"),
        (("ui", "--tracking-uri", "sqlite:////proc/nowhere/x.db"), "/proc/nowhere/x.db: the MLflow store cannot be"),
        (("algorithms", "hyperbond"), "hyperbond: no such algorithm"),
        (("frobnicate",), "No such command"),
        (("run", "spec.yaml", "--fast"), "No such option"),
    ],
)
def test_what_is_not_there_is_named(call: Any, arguments: tuple[str, ...], message: str) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert message in done.error
    assert "Traceback" not in done.error


def test_validate_says_how_large_the_search_is(call: Any, write: Any) -> None:
    data = spec(
        parameters={"x": {"type": "int", "min": 1, "max": 3}, "kind": {"type": "categorical", "values": [1, 2]}}
    )
    assert call("validate", write(data)).out == "spec.yaml: valid; 2 parameters, 6 points, algorithm random\n"


def test_what_an_algorithm_suggests_with_is_told_where_it_is_not_installed(
    call: Any, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To validate, it is a note: the experiment may be for a cluster. Here it does not run, and nothing is recorded."""
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch", None)  # as if there were none
    path = write(spec(algorithm="nas-rl"))
    what = (
        "need{} torch, which is not installed here: pip install 'katib-flow[nas]'; on Argo, an argo.image that has it"
    )
    done = call("validate", path)
    assert done.code == 0
    assert done.error == f"note: algorithm.name: nas-rl {what.format('s')}\n"
    assert "valid; 2 parameters" in done.out
    done = call("run", path)
    assert done.code == 2
    assert done.error == f"error: toy: algorithm.name: found 'nas-rl', {what.format('')}\n"
    assert not Path("katib_flow.db").exists()
    assert call("validate", write(spec(algorithm="tpe"))).error == ""


def test_validate_names_a_constant_that_the_function_does_not_take(call: Any, write: Any, here: Path) -> None:
    (here / "with_constants.py").write_text("print('imported')\ndef train(x, kind, epochs=1): return x\n")
    trial = {"function": "with_constants:train", "arguments": {"epoch": 3}}
    done = call("validate", write(spec(trial=trial)))
    assert (done.code, done.out) == (2, "")
    assert "trial.arguments.epoch: found 'epoch', need an argument of with_constants:train" in done.error
    assert "did you mean 'epochs'?" in done.error


def test_the_schema_accepts_what_a_user_writes_and_no_unknown_key(call: Any) -> None:
    schema = call("validate", "--schema").json
    validator = jsonschema.validators.validator_for(schema)(schema)
    for file in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")):
        data = yaml.safe_load(file.read_text())
        validator.validate(data)
        assert not validator.is_valid({**data, "paramters": {}})


def test_compile_prints_a_workflow_or_writes_it(call: Any, write: Any, here: Path) -> None:
    file = write(spec(argo={"image": "toy:1"}))
    done = call("compile", file)
    assert yaml.safe_load(done.out)["kind"] == "Workflow"
    assert call("compile", file, "-o", "workflow.yaml").out == ""
    assert (here / "workflow.yaml").read_text() == done.out
    assert "cannot be written" in call("compile", file, "-o", "no/where.yaml").error


def test_compile_without_an_image_takes_the_modules_text_along_and_says_so(call: Any, write: Any, here: Path) -> None:
    (here / "user_module.py").write_text(f"import sklearn\n{MODULE}")
    done = call("compile", write(spec()))
    assert done.error.splitlines() == [
        "note: argo.image: not set, so the Workflow contains the code of user_module, and trials run in katib-flow's "
        "own image; use --image for an image with the code and its dependencies",
        "note: trial.packages: line 1 imports sklearn, which is not in katib-flow's own image; add scikit-learn here "
        "for pip to install it first",
    ]
    assert "def square(x, kind)" in done.out
    named = call("compile", write(spec()), "--image", "mine:1")
    assert (named.error, "def square(x, kind)" in named.out) == ("", False)
    inline = call(
        "compile", write(spec(trial={"function": "user_module:square", "packages": ["scikit-learn"]})), "--inline"
    )
    assert inline.error == ""


def test_every_algorithm_says_what_it_is_and_what_can_be_set(call: Any) -> None:
    listed = call("algorithms", "-o", "json").json
    assert {"grid", "random", "sobol"} <= {each["name"] for each in listed}
    for each in listed:
        assert len(each["summary"]) > 20
        described = call("algorithms", each["name"], "-o", "json").json
        assert all(setting["about"] for setting in described["settings"]), each["name"]


def test_the_schema_of_programs_that_suggest_is_one_of_json(call: Any) -> None:
    schema = call("algorithms", "--schema").json
    assert schema["version"] == 1
    for part in ("request", "reply"):
        jsonschema.Draft202012Validator.check_schema(schema[part])
    reply = jsonschema.Draft202012Validator(schema["reply"])
    assert reply.is_valid({"suggestions": [{"assignment": {"lr": 0.1}}]})
    assert not reply.is_valid({"suggestions": [{"assignment": {"lr": [0.1]}}]})


def test_algorithms_end_with_the_table_of_systems_of_architecture_search(call: Any) -> None:
    text = call("algorithms").out
    assert all(word in text for word in ("generation", "modification", "whole network", "in 22 of its 22 places"))
    assert r"\n" not in text
    assert any(line.split() == ["│", "│", "mnasnet", "│", "nasnet", "│"] for line in text.splitlines())
    place = {each["name"]: (each["strategy"], each["scope"]) for each in call("algorithms", "-o", "json").json}
    assert place["darts"] == ("modification", ["cell"])
    assert place["tpe"] == (None, [])


def test_help_answers_without_what_is_slow_to_import() -> None:
    program = """
import sys
from katib_flow.cli import main
sys.argv = ["katib-flow", "--help"]
try:
    main()
except SystemExit:
    pass
print([name for name in ("mlflow", "torch", "hera", "numpy", "pydantic", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in (
        "run",
        "validate",
        "compile",
        "spec",
        "list",
        "status",
        "trials",
        "best",
        "report",
        "export",
        "resume",
        "stop",
        "ui",
    ):
        assert f" {command} " in done.stdout


def test_a_pipe_that_closes_early_is_no_error(write: Any, call: Any) -> None:
    call("run", write(spec()), "-q")
    command = f"{sys.executable} -m katib_flow trials toy -o json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[\n", "")


def test_a_port_that_is_taken_is_named(call: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port: found {port}, need a free port" in call("ui", "--port", str(port)).error
