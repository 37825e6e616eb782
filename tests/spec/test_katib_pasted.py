"""Manifests in the forms that users paste into bug reports: each is read and compiled, or refused in words.

A file says in a comment what it is a case of; after ``# prints:`` stands a line of its program, which here a stand-in
prints that is given the arguments of the container.
"""

# ruff: noqa: E501 - a case of a table stands on one line or two

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from katib_manifests import notes

import katib_flow as kf
from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.errors import InvalidSpec, KatibFlowError
from katib_flow.history import State
from katib_flow.loop import read
from katib_flow.spec import Experiment

FOLDER = Path(__file__).parent / "pasted"
TAKEN: dict[str, tuple[str, list[str]]] = {
    "early-stopping": ("container", ["metrics.strategy: left out 'val'"]),
    "hyperband": ("container", ["budget: Katib lists num-epochs among", "limits: resumePolicy FromVolume"]),
    "kubectl-get": ("container", []),
    "kubectl-list": ("container", ["limits: resumePolicy LongRunning"]),
    "mpijob": ("resource", ["algorithm: left out the setting acq_func: 'LCB'"]),
    "numbers": ("container", ["parameters.batch: sorted here; not in ascending order in the manifest"]),
    "pytorchjob-elastic": (
        "resource",
        ["algorithm: left out the setting multivariate", "limits.max_failed_trials: without max"],
    ),
    "shell": (
        "container",
        ["parameters.lr: called '--lr' in Katib", "trial.container.command: a shell interprets this"],
    ),
    "tfjob": ("resource", []),
    "two-containers": ("resource", ["limits: resumePolicy LongRunning", "trial.resource: still a Job, because"]),
    "two-documents": ("container", []),
    "windows": ("container", []),
    "xgboostjob": ("resource", []),
}
REFUSED: dict[str, list[str]] = {
    "config-map": [":15: spec.trialTemplate.configMap.configMapName: "],
    "gotemplate": [
        ":15: spec.trialTemplate.goTemplate: found 'goTemplate', need a known key, one of retain, primaryPodLabels, "
        "primaryContainerName, successCondition, failureCondition, trialParameters, trialSpec, configMap; goTemplate is "
        "written trialSpec: {apiVersion: batch/v1, kind: Job, ...} with ${trialParameters.name} for a value here"
    ],
    "many-mistakes": [
        ":5: metadata.name: found 'First_Try', need ",
        ":7: spec.maxTrialCounts: found 'maxTrialCounts', need ",
        ":8: spec.parallelTrialCount: found 'two', need a whole number",
        ":10: spec.objective.type: found 'maximise', need 'minimize' or 'maximize'; did you mean 'maximize'?",
        ":13: spec.algorithm.algorithmName: found 'bayesianoptimisation', need the name of an algorithm of Katib or "
        "katib-flow; did you mean 'bayesianoptimization'?",
        ":16: spec.parameters[0].parameterType: found 'float', need 'double', 'int', 'categorical' or 'discrete'",
        ":20: spec.parameters[1].feasibleSpace.min: found '1.5', need a whole number as text, because it is an int",
        ":23: spec.parameters[2].feasibleSpace.min: found 0.0, need a number above 0, because scale is log",
        ":25: spec.trialTemplate.primaryContainerName: found 'trainer', need the name of a container of the Job: main",
        ":27: spec.trialTemplate.trialParameters[0].reference: found 'learning_rate', need ",
        ":32: spec.trialTemplate.trialSpec.metadata.name: found 'my-trial', need no name, because",
        ":39: spec.trialTemplate.trialSpec.spec.template.spec.containers[0].command[3]: found '${trialParameters.unit}', "
        "need a name in trialParameters: learningRate, units; did you mean 'units'?",
    ],
    "tabs": [":5: not readable as YAML: found character '\\t' that cannot start any token; use spaces"],
    "trial-object": [":3: kind: found 'Trial', need 'Experiment'"],
    "trial-spec-as-text": [":15: spec.trialTemplate.trialSpec: found 'apiVersion: batch/v1"],
    "v1alpha3": [
        ":2: apiVersion: found 'kubeflow.org/v1alpha3', need 'kubeflow.org/v1beta1'; convert the manifest first, its goTemplate "
        "becomes a trialSpec"
    ],
}
STAND_IN = """\
import sys
from pathlib import Path

assert not any("${trial" in argument for argument in sys.argv), sys.argv
text = Path(__file__).with_name("printed.txt").read_text()
Path("metrics.log").write_text(text)
print(text, flush=True)
print(*sys.argv[1:], sep="\\n", file=Path(__file__).with_name("arguments.txt").open("w"))
"""


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def printed(name: str) -> list[str]:
    return re.findall(r"^# prints: (.*?)\r?$", path_of(name).read_text(encoding="utf-8-sig"), re.MULTILINE)


def test_every_file_is_a_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*TAKEN, *REFUSED}
    assert len(TAKEN) + len(REFUSED) == 20


def test_the_files_are_as_they_were_pasted() -> None:
    """No editor and no checkout may mend them."""
    assert b"\r\n" in path_of("windows").read_bytes()
    assert path_of("windows").read_bytes().startswith(b"\xef\xbb\xbf")
    assert b"\n\t" in path_of("tabs").read_bytes()


@pytest.mark.parametrize("name", TAKEN)
def test_a_manifest_is_read_and_compiles(name: str) -> None:
    kind, told = TAKEN[name]
    parsed = read(path_of(name))
    assert parsed.experiment.trial.kind == kind
    lines = notes(parsed)
    assert len(lines) == len(told)
    assert all(line.startswith(start) for line, start in zip(lines, told, strict=True))
    assert "kind: Workflow" in to_yaml(compile_experiment(parsed.experiment))


@pytest.mark.parametrize("name", REFUSED)
def test_a_manifest_is_refused_with_every_mistake(name: str) -> None:
    with pytest.raises(KatibFlowError) as caught:
        read(path_of(name))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(REFUSED[name])
    for line, start in zip(lines, REFUSED[name], strict=True):
        assert line.removeprefix(str(path_of(name))).startswith(start)
    assert isinstance(caught.value, InvalidSpec) or name == "tabs"


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """The containers in an object, the first first."""
    if isinstance(node, dict):
        yield from node.get("containers", ())
        for inner in node.values():
            yield from containers(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from containers(inner)


def with_stand_in(experiment: Experiment) -> Experiment:
    """The experiment with trials that this machine can run: the stand-in in the place of the container's program."""
    data = experiment.to_dict()
    container = data["trial"].get("container") or next(containers(data["trial"]["resource"]["manifest"]))
    given = [*container.get("command", ()), *container.get("args", ())]
    data["trial"] = {"command": ["python", "stand_in.py", *given]}
    data["limits"] = {"max_trials": 1}
    if data["metrics"].get("source") == "file":
        data["metrics"]["path"] = str(Path.cwd() / "metrics.log")
    for section in ("early_stopping", "argo"):
        data.pop(section, None)
    return Experiment.parse(data)


@pytest.mark.parametrize("name", [name for name in TAKEN if printed(name)])
def test_a_trial_reports_what_its_program_prints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "printed.txt").write_text("\n".join(printed(name)))
    experiment = read(path_of(name)).experiment
    (trial,) = kf.run(with_stand_in(experiment)).trials
    assert (trial.state, trial.message) == (State.SUCCEEDED, "")
    objective = experiment.objective[0]
    assert trial.observations[objective.metric] in (0.25, 0.5, 0.75)
    assert trial.observations.keys() <= set(experiment.metric_names)
    arguments = (tmp_path / "arguments.txt").read_text()
    assert all(str(value) in arguments for value in trial.assignment.values())


def test_every_manifest_whose_program_has_a_command_is_run() -> None:
    assert {name for name in TAKEN if not printed(name)} == {"tfjob"}  # its metrics are in event files
