"""`run --dry-run`: it shows what a run begins with, exactly, and leaves nothing behind."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from katib_flow.cli import main
from katib_flow.tracking import Store

MODULE = """\
print("imported")

def square(x, kind, epochs=1):
    return {"loss": (x - 0.5) ** 2}
"""
PROGRAM = """\
import json, os, sys
name = os.path.basename(os.path.dirname(os.environ["KATIB_FLOW_TRIAL_FILE"]))
facts = {"argv": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}
open(f"seen-{name}.json", "w").write(json.dumps(facts))
print("loss=1")
"""
SUGGESTS = """\
import json, sys
open("asked", "a").write("x")
asked = json.load(sys.stdin)
given = asked["indices"] if "indices" in asked else range(asked["start"], asked["start"] + asked["count"])
print(json.dumps({"suggestions": [{"assignment": {"x": 0.25, "kind": "a, b"}} for _ in given]}))
"""


def spec(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "toy",
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": {
            "x": {"type": "float", "min": 0, "max": 1},
            "kind": {"type": "categorical", "values": ["a, b", "c"]},
        },
        "algorithm": "random",
        "limits": {"max_trials": 3, "parallel_trials": 2},
        "trial": {"function": "user_module:square", "arguments": {"epochs": 4}},
    }
    return data | changes


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "user_module.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "suggests.py").write_text(SUGGESTS)
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.fixture
def call(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(data: Any, *options: str) -> tuple[int, str, str]:
        (here / "spec.yaml").write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        monkeypatch.setattr("sys.argv", ["katib-flow", "run", "spec.yaml", *options])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        return int(code or 0), *capsys.readouterr()

    return call


def shown(call: Any, data: Any, *options: str) -> dict[str, Any]:
    code, out, error = call(data, "--dry-run", "-o", "json", *options)
    assert code == 0, error
    return json.loads(out)


def test_it_shows_the_suggestions_that_a_run_starts_with_and_leaves_nothing(call: Any, here: Path) -> None:
    before = {path.name for path in here.iterdir()}
    found = shown(call, spec())
    assert {path.name for path in here.iterdir()} == before | {"spec.yaml"}
    assert call(spec(), "-q")[0] == 0
    history = Store().history(Store().find("toy"))
    assert [each["parameters"] for each in found["trials"]] == [dict(trial.assignment) for trial in history[:2]]
    assert [each["trial"] for each in found["trials"]] == ["t00000", "t00001"]
    assert [each["function"] for each in found["trials"]] == ["user_module:square"] * 2
    assert all(each["arguments"] == {"epochs": 4, **each["parameters"]} for each in found["trials"])
    assert found["limits"] | {"max_trials": 3, "parallel_trials": 2} == found["limits"]
    address = f"sqlite:///{here / 'katib_flow.db'}"
    assert found["recorded"] == {"store": address, "there": False, "experiment": "katib-flow"}
    assert shown(call, spec())["recorded"]["there"] is True


def test_no_more_are_shown_than_may_start(call: Any) -> None:
    assert len(shown(call, spec(limits={"max_trials": 1, "parallel_trials": 3}))["trials"]) == 1


def test_a_command_runs_with_the_very_arguments_directory_and_environment_that_were_shown(
    call: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-another")
    command = [sys.executable, "program.py", "--x=${x}", "${kind}", "${trial.checkpoint_dir}", "${trial.id}", "$${x}"]
    trial = {"command": command, "env": {"RATE": "r${x}"}}
    found = shown(call, spec(trial=trial))
    assert found["algorithm"]["asked"] == ""
    assert call(spec(trial=trial), "-q")[0] == 0
    record = Store().find("toy")
    runs = {trial.id: trial.run_id for trial in Store().history(record)}

    def known(text: str, of: str) -> str:
        """What was shown, with what is known since the experiment began."""
        known = {"<run>": record.key, "<its id>": record.mlflow_experiment_id, f"<run of {of}>": runs[of]}
        for unknown, there in known.items():
            text = text.replace(unknown, there)
        return text

    for each in found["trials"]:
        seen = json.loads((here / f"seen-{each['trial']}.json").read_text())
        assert [known(text, each["trial"]) for text in each["command"][2:]] == seen["argv"]
        assert each["working_directory"] == seen["cwd"]
        unset = ("LC_CTYPE", "LINES", "COLUMNS")  # what Python and readline set in this process and not in os.environ
        changes = {
            name: text
            for name, text in seen["environment"].items()
            if os.environ.get(name) != text and name not in unset
        }
        assert {
            name: known(text, each["trial"]) for name, text in each["environment"].items() if text is not None
        } == changes
        assert [name for name, text in each["environment"].items() if text is None] == ["MLFLOW_RUN_ID"]
        assert "MLFLOW_RUN_ID" not in seen["environment"]


def test_a_person_reads_one_block_a_trial(call: Any) -> None:
    trial = {"command": ["sh", "-c", "echo loss=${x}", "a b"], "env": {"MODE": "fast"}}
    code, out, error = call(spec(trial=trial), "--dry-run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "experiment   toy: minimize loss"
    assert "environment  MODE=fast" in lines
    assert sum("MODE=fast" in line for line in lines) == 1
    first = next(number for number, line in enumerate(lines) if line.startswith("t00000 "))
    assert "kind=" in lines[first]
    assert lines[first + 1].startswith("  command      sh -c 'echo loss=0.")
    assert lines[first + 1].endswith("' 'a b'")
    assert lines[-1] == "a dry run: no trial was started, and nothing was recorded"
    assert "note: parameters.kind" in error


def test_a_program_that_suggests_is_asked_once_and_this_is_said(call: Any, here: Path) -> None:
    data = spec(algorithm={"command": [sys.executable, "suggests.py"]})
    code, out, _ = call(data, "--dry-run")
    assert code == 0, out
    assert (here / "asked").read_text() == "x"
    assert f"asked        algorithm.command: {sys.executable} suggests.py" in out
    assert ", once, for 2 suggestions" in out
    assert shown(call, data)["trials"][0]["parameters"] == {"x": 0.25, "kind": "a, b"}


def test_a_module_prints_where_no_program_reads(call: Any) -> None:
    code, out, error = call(spec(), "--dry-run", "-o", "json")
    assert code == 0
    assert "imported" in error
    assert "imported" not in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trial": {"function": "user_module:sqare"}}, "trial.function: found 'user_module:sqare'"),
        ({"trial": {"command": ["no-such-program"]}}, "trial.command[0]: found 'no-such-program'"),
        ({"warm_start": ["earlier"]}, "so earlier cannot be read"),
        ({"algorithm": {"command": ["sh", "-c", "exit 3"]}}, "ended with exit code 3"),
    ],
)
def test_what_keeps_it_from_running_is_one_message(call: Any, here: Path, changes: Any, said: str) -> None:
    code, out, error = call(spec(**changes), "--dry-run")
    assert (code, out) == (2, "")
    assert said in error
    assert "Traceback" not in error
    assert not (here / "katib_flow.db").exists()


def test_a_module_that_runs_an_experiment_when_imported_runs_none(call: Any, here: Path) -> None:
    (here / "runs.py").write_text(
        "import katib_flow as kf\n"
        "@kf.experiment(parameters={'x': kf.Float(0, 1)}, minimize='loss', max_trials=1)\n"
        "def train(x):\n    return x\n"
        "train.run()\n"
    )
    code, _, error = call(spec(trial={"function": "runs:train"}), "--dry-run")
    assert code == 2
    assert 'put run() under if __name__ == "__main__"' in error
    assert not (here / ".katib_flow").exists()
    assert "KATIB_FLOW_WORKER" not in os.environ


def test_what_earlier_experiments_tell_is_learnt_from(call: Any) -> None:
    assert call(spec(name="earlier"), "-q")[0] == 0
    found = shown(call, spec(name="later", warm_start=["earlier"], algorithm="tpe"))
    assert len(found["trials"]) == 2
    assert [record.name for record in Store().records()] == ["earlier"]


def test_a_password_is_shown_nowhere(call: Any) -> None:
    trial = {"command": ["sh", "-c", "echo ${tracking.uri} ${x} ${kind}"]}
    code, out, error = call(spec(trial=trial), "--dry-run", "--tracking-uri", "http://me:secret@mlflow.example")
    assert code == 0
    assert "http://me:@mlflow.example" in out or "http://me@mlflow.example" in out
    assert "secret" not in out + error


def test_where_a_trial_reports_as_to_katib_its_port_is_named_as_not_known_yet(call: Any) -> None:
    pytest.importorskip("grpc")
    trial = {"command": ["sh", "-c", "echo ${x} ${kind}"]}
    found = shown(call, spec(trial=trial, metrics={"source": "katib"}))
    environment = found["trials"][0]["environment"]
    assert environment["KATIB_DB_MANAGER_ADDRESS"] == "127.0.0.1:<free port>"
    assert environment["KATIB_TRIAL_NAME"] == "toy-t00000"


def test_an_architecture_is_shown_by_the_size_of_its_network(call: Any) -> None:
    pytest.importorskip("torch")
    from katib_flow.history import History
    from katib_flow.loop import suggest
    from katib_flow.models import Topology
    from katib_flow.models.build import build
    from katib_flow.spec import Experiment

    data = spec(architecture={"space": "chain", "settings": {"shape": [1, 8, 8], "classes": 10}})
    del data["parameters"], data["trial"]
    found = shown(call, data)["trials"][0]
    (first,) = suggest(Experiment.parse(data), History(), 1)
    network = build(Topology.parse(first.topology), seed=0)
    assert found["network"]["parameters"] == sum(weights.numel() for weights in network.parameters())
    assert found["function"] == "katib_flow.nas:train"
    assert f"{found['network']['parameters']:,} parameters" in call(data, "--dry-run")[1]


MANIFEST = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: digits, namespace: ml}
spec:
  objective: {type: minimize, objectiveMetricName: loss}
  algorithm: {algorithmName: random}
  maxTrialCount: 4
  parallelTrialCount: 2
  parameters:
    - {name: lr, parameterType: double, feasibleSpace: {min: "0.01", max: "0.05"}}
  trialTemplate:
    primaryContainerName: training
    trialParameters:
      - {name: learningRate, reference: lr}
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            containers:
              - {name: training, image: "train:1", command: [train, "--lr=${trialParameters.learningRate}"]}
            restartPolicy: Never
"""


def test_a_katib_manifest_is_shown_with_its_values_and_where_it_can_run(call: Any) -> None:
    found = shown(call, MANIFEST)
    (kind,) = {"container", "resource"} & set(found["trials"][0])
    assert found["where"] == "cluster"
    for each in found["trials"]:
        assert f"--lr={json.dumps(each['parameters']['lr'])}" in json.dumps(each[kind])
    assert len(found["trials"]) == 2
    code, out, _ = call(MANIFEST, "--dry-run")
    assert code == 0
    assert out.splitlines()[-1].endswith(f"a {kind} trial runs only on a cluster: katib-flow submit SPEC")
    assert "MLflow server of the cluster" in out
