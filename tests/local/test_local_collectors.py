"""Collectors of the user's own on this machine: a program that reads the metrics when the trial has ended."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import spec

from katib_flow.errors import InvalidSpec
from katib_flow.history import State, Trial
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

SDK = str(Path(__file__).parents[1] / "katib_api" / "programs" / "reports_as_sdk.py")
TRAIN = "import sys; print('accuracy=99'); open(sys.argv[1] + '/out.bin', 'wb').write(bytes([3, 4])); sys.exit(int(sys.argv[2]))"
COLLECT = """\
import json, os, sys
trial = json.load(open(os.environ["KATIB_FLOW_TRIAL_FILE"]))
assert open(os.environ["KATIB_FLOW_ENDED"]).read() == "0\\n"
print("collecting", trial["trial"])
with open(os.environ["KATIB_FLOW_REPORT_FILE"], "a") as file:
    for step, value in enumerate(open(sys.argv[1] + "/out.bin", "rb").read()):
        print(json.dumps({"metrics": {"accuracy": value / 10, "size": 2}, "step": step}), file=file)
sys.exit(int(sys.argv[2]))
"""


def program(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trial]:
    monkeypatch.chdir(tmp_path)

    def run(collector: list[str], trial_exits: int = 0, **changes: Any) -> Trial:
        trial = {"command": program(TRAIN, "${trial.directory}", str(trial_exits))}
        metrics = {"source": "custom", "command": collector, "strategy": {"accuracy": "max"}}
        sections = {"trial": trial, "metrics": metrics, "limits": {"max_trials": 1, "max_failed_trials": 9}}
        store = Store(f"sqlite:///{tmp_path}/mlflow.db")
        result = run_experiment(Experiment.parse(spec(**(sections | changes))), store=store)
        return store.history(store.get(result.run_id), series=True)[0]

    return run


def test_a_collector_reads_what_the_trial_left(run: Any) -> None:
    trial = run(program(COLLECT, "${trial.directory}", "0"))
    assert trial.state is State.SUCCEEDED, trial.message
    assert [(item.value, item.step) for item in trial.series["accuracy"]] == [(0.3, 0), (0.4, 1)]
    assert trial.observations == {"accuracy": 0.4, "size": 2.0}


def test_a_collector_may_report_as_to_katib(run: Any) -> None:
    pytest.importorskip("grpc")
    trial = run([sys.executable, SDK, "accuracy=0.25", "accuracy=0.125"])
    assert trial.state is State.SUCCEEDED, trial.message
    assert trial.observations == {"accuracy": 0.25}


def test_a_collector_of_a_function_too(run: Any, tmp_path: Path) -> None:
    module = "import katib_flow as kf\ndef train(lr):\n    (kf.checkpoint_dir().parent / 'out.bin').write_bytes(bytes([5]))\n    return {'other': 1}\n"
    (tmp_path / "collected_module.py").write_text(module)
    trial = run(program(COLLECT, "${trial.directory}", "0"), trial={"function": "collected_module:train"})
    assert trial.observations["accuracy"] == 0.5


def test_a_trial_that_has_failed_is_not_collected(run: Any) -> None:
    trial = run(program(COLLECT, "${trial.directory}", "0"), trial_exits=3)
    assert trial.state is State.FAILED
    assert trial.message.startswith("exit code 3")
    assert trial.observations == {}


@pytest.mark.parametrize(
    ("collector", "message"),
    [
        (
            program(COLLECT, "${trial.directory}", "4"),
            'metrics.command ended with exit code 4; its last line was "collecting t00000"',
        ),
        (
            program("import os; os.kill(os.getpid(), 9)"),
            "metrics.command was killed by SIGKILL; it printed nothing",
        ),
    ],
)
def test_a_collector_that_fails_fails_the_trial(run: Any, collector: list[str], message: str) -> None:
    trial = run(collector)
    assert (trial.state, trial.message) == (State.FAILED, message)


def test_a_collector_that_reports_nothing_is_told(run: Any) -> None:
    trial = run(program("print('no idea')"))
    assert trial.state is State.METRICS_UNAVAILABLE
    assert trial.message.startswith("'accuracy' was not reported: metrics.command wrote no value to report.jsonl")
    assert trial.message.endswith('the last line of the log was "no idea"')


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            {"source": "custom", "container": {"image": "x", "command": ["y"]}},
            "metrics.command: found nothing, need the command of a program on this machine as well: a container runs only on a cluster",
        ),
        ({"source": "custom", "command": ["no-such-program"]}, "metrics.command[0]: found 'no-such-program', need "),
    ],
)
def test_a_collector_that_cannot_run_here_is_refused(metrics: dict[str, Any], said: str) -> None:
    of = Experiment.parse(spec(trial={"command": ["true"]}, metrics=metrics))
    with pytest.raises(InvalidSpec) as caught:
        run_experiment(of)
    assert said in str(caught.value)
