"""The compiled Workflow run by hand: a pod is a directory and OS processes, given what the manifest declares.

It stands for Argo where Argo only passes things along: substitutes parameters, starts containers, reads output files.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from forked import Forked

from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.spec import Experiment
from katib_flow.tracking import Record, Store

Process = subprocess.Popen[bytes] | Forked
STEPS = Path(__file__).parents[2] / "steps"


@dataclass
class Pod:
    """What came of a pod.

    Attributes:
        outputs: its output parameters.
    """

    exit_code: int
    outputs: dict[str, str]
    directory: Path
    log: str


@dataclass
class Hand:
    """One Workflow.

    Attributes:
        image: working directory of the containers; the user's module is there.
        forked: whether our programs are forked, to save time; else they are started as Argo does.
        uri: what the namespace's ConfigMap says of MLflow.
    """

    experiment: Experiment
    image: Path
    uri: str
    scratch: Path
    run: str = "by-hand-x7k2p"
    segment: int = 0
    started: int = 0
    forked: bool = True
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest = yaml.safe_load(to_yaml(compile_experiment(self.experiment)))
        self.templates = {each["name"]: each for each in self.manifest["spec"]["templates"]}
        given = {each["name"]: each["value"] for each in self.manifest["spec"]["arguments"]["parameters"]}
        self.parameters = given | {"run": self.run, "segment": str(self.segment)}

    def pod(self, name: str, **inputs: str) -> Pod:
        """Run a pod to its end."""
        self.started += 1
        directory = self.scratch / f"{self.started:03}-{name}"
        (directory / "tmp").mkdir(parents=True)
        template = self.templates[name]
        assert {each["name"] for each in template.get("inputs", {}).get("parameters", [])} == set(inputs)
        for container in template.get("initContainers", []):
            if self._start(container, inputs, directory).wait(60):
                return Pod(1, {}, directory, self._log(directory))
        sidecars = [self._start(each, inputs, directory) for each in template.get("sidecars", [])]
        exit_code = self._start(template["container"], inputs, directory).wait(60)
        assert [each.wait(60) for each in sidecars] == [0] * len(sidecars)
        return Pod(exit_code, self._outputs(template, directory), directory, self._log(directory))

    def start(self, name: str, **inputs: str) -> tuple[Process, Path]:
        """Start a pod of one container, and leave it running."""
        self.started += 1
        directory = self.scratch / f"{self.started:03}-{name}"
        (directory / "tmp").mkdir(parents=True)
        return self._start(self.templates[name]["container"], inputs, directory), directory

    def _start(self, container: dict[str, Any], inputs: dict[str, str], directory: Path) -> Process:
        words = [*container["command"], *container.get("args", [])]
        argv = [self._substituted(word, inputs, directory) for word in words]
        ours = argv[0] == "python3"
        if ours:
            argv = [sys.executable, str(STEPS / f"{argv[2].rpartition('.')[2]}.py"), *argv[3:]]
        declared = {
            each["name"]: self._substituted(each["value"], inputs, directory) for each in container.get("env", [])
        }
        if "envFrom" in container:
            declared["MLFLOW_TRACKING_URI"] = self.uri
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}  # where Python is
        environment = {**kept, "TMPDIR": str(directory / "tmp"), **declared}
        if ours and self.forked:
            return Forked(argv[1:], environment, self.image, directory / "pod.log")
        with (directory / "pod.log").open("ab") as log:
            return subprocess.Popen(argv, env=environment, cwd=self.image, stdout=log, stderr=log)

    def _substituted(self, text: str, inputs: dict[str, str], directory: Path) -> str:
        values = {f"inputs.parameters.{name}": value for name, value in inputs.items()}
        values |= {f"workflow.parameters.{name}": value for name, value in self.parameters.items()}
        values |= {"workflow.namespace": "team", "workflow.status": "Succeeded", "workflow.failures": '"null"'}
        text = re.sub(r"\{\{([^{}]+)\}\}", lambda match: values[match[1]], text)
        return re.sub(
            r"^/(kf|tmp)\b", lambda match: str(directory / ("tmp" if match[1] == "tmp" else "")), text
        ).rstrip("/")

    def _outputs(self, template: dict[str, Any], directory: Path) -> dict[str, str]:
        declared = template.get("outputs", {}).get("parameters", [])
        paths = {each["name"]: directory / each["valueFrom"]["path"].removeprefix("/kf/") for each in declared}
        return {name: path.read_text() for name, path in paths.items() if path.exists()}

    @staticmethod
    def _log(directory: Path) -> str:
        return (directory / "pod.log").read_text()

    def store(self) -> tuple[Store, Record]:
        store = Store(self.uri, self.experiment.tracking.experiment)
        return store, store.create(self.experiment, key=self.run)
