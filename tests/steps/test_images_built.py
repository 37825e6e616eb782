"""The steps' image, built from a Debian 12 base and run there against a real MLflow server.

Debian 12 has Python 3.11.2, which lacks what 3.11.4 brought; every pod of that image runs on it. The test takes root,
minutes, and the packages of Debian and PyPI, so it is a command of its own, `make image-test`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hand import Hand
from test_checkpoints import MODULE, kept, open_gates, series, start, until

from katib_flow.history import State
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store
from tests.tracking.tracking_kit import mlflow_server

ROOT = Path(__file__).parents[2]
CHROOT = ["--isolation", "chroot"]  # needs no more than root, and shares the network of this machine
OF_THE_MACHINE = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/xdg/pip"]  # how pip gets its packages


def obstacle() -> str:
    """Why no image can be built here; nothing where one can."""
    if not os.environ.get("KATIB_FLOW_BUILD_IMAGES"):
        return "builds an image, for minutes: make image-test"
    if os.geteuid() != 0:
        return "needs root, for debootstrap and buildah's chroot"
    absent = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    return f"needs {' and '.join(absent)}" if absent else ""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "never"),
]


def output(*command: str | Path) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}: {finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"
    return finished.stdout.strip()


def possible(*command: str | Path) -> str:
    """The output of a command that depends on the machine alone; where it fails, no image can be tested here."""
    try:
        return output(*command)
    except AssertionError as problem:
        pytest.skip(f"no image can be built here: {str(problem)[-500:]}")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an image of Debian 12 with its own Python, and little else."""
    folder, name = tmp_path_factory.mktemp("debian") / "root", f"localhost/katib-flow-test-debian:{os.getpid()}"
    options = ("--variant=minbase", "--include=ca-certificates,python3")
    possible("debootstrap", *options, "bookworm", folder)
    container = possible("buildah", "from", "scratch")
    possible("buildah", "add", "--quiet", container, folder, "/")
    possible("buildah", "run", *CHROOT, container, "--", "true")
    output("buildah", "commit", "--quiet", "--rm", container, name)
    shutil.rmtree(folder)
    yield name
    output("buildah", "rmi", name)


@pytest.fixture(scope="module")
def container(debian: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A working container of the steps' image, as `make images` builds it from the working tree."""
    context, name = tmp_path_factory.mktemp("context"), f"localhost/katib-flow-test:{os.getpid()}"
    shutil.copytree(ROOT / "dockerfiles", context / "dockerfiles")
    shutil.copy(ROOT / "constraints.txt", context)
    output(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", context / "dist", ROOT)
    shared = [f"--volume={path}:{path}:ro" for path in OF_THE_MACHINE if Path(path).exists()]
    dockerfile = context / "dockerfiles" / "steps.Dockerfile"
    output("buildah", "build", *CHROOT, *shared, f"--build-arg=BASE={debian}", "-f", dockerfile, "-t", name, context)
    started = output("buildah", "from", name)
    yield started
    output("buildah", "rm", started)
    output("buildah", "rmi", name)


@dataclass
class Pods(Hand):
    """A Workflow whose containers run in an image.

    Attributes:
        container: buildah's working container of it.
    """

    container: str = ""

    def _start(self, container: dict[str, Any], inputs: dict[str, str], directory: Path) -> "subprocess.Popen[bytes]":
        for folder in (directory, directory / "tmp"):
            folder.chmod(0o777)  # the image's user is not this one
        inside = Path("/kf")
        words = [
            self._substituted(word, inputs, inside) for word in [*container["command"], *container.get("args", [])]
        ]
        declared = {each["name"]: self._substituted(each["value"], inputs, inside) for each in container.get("env", [])}
        if "envFrom" in container:
            declared["MLFLOW_TRACKING_URI"] = self.uri
        variables = [f"--env={name}={value}" for name, value in declared.items()]
        mounts = [f"--volume={directory}:/kf", f"--volume={self.image}:/code:ro", "--workingdir=/code"]
        command = ["buildah", "run", *CHROOT, *mounts, *variables, self.container, "--", *words]
        with (directory / "pod.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    Store(f"sqlite:///{folder}/store.db")
    with mlflow_server(folder / "store.db", folder / "artifacts") as server:
        yield server.uri


def test_its_python_is_debians_own(container: str) -> None:
    assert output("buildah", "run", *CHROOT, container, "--", "python3", "-V") == "Python 3.11.2"


def test_a_killed_trial_goes_on_from_its_checkpoint_in_the_image(container: str, uri: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "user_module.py").write_text(MODULE)
    data: dict[str, Any] = {
        "name": "in-an-image",
        "objective": {"metric": "score", "direction": "maximize"},
        "metrics": {"strategy": {"score": "max"}},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "limits": {"max_trials": 1},
        "trial": {"function": "user_module:train"},
        "argo": {"image": "user:1", "checkpoints": {"every": 0.5}},
    }
    workflow = Pods(Experiment.parse(data), code, uri, tmp_path / "pods", run="in-an-image", container=container)
    suggested = workflow.pod("suggest", k="1")
    assert suggested.exit_code == 0, suggested.log
    store, record = workflow.store()
    [trial] = store.history(record)

    open_gates(workflow, 1)
    pod = start(workflow, id="t00000")
    until(lambda: kept(store, trial, "epoch") == b"2", "the checkpoint of epoch 2")
    pod.kill()
    open_gates(workflow, 2, 3, 4, 5, 6)
    retry = workflow.pod("trial", id="t00000")
    assert retry.exit_code == 0, retry.log
    assert workflow.pod("collect-metrics", k="1").outputs == {"go": "false"}
    finish = workflow.pod("finish")
    assert finish.exit_code == 0, finish.log

    store, record = workflow.store()
    [trial] = store.history(record, series=True)
    assert (record.status, trial.state, trial.retries) == (Status.SUCCEEDED, State.SUCCEEDED, 1)
    assert series(trial) == [(1, 0.1), (2, 0.9), (3, 0.3), (4, 0.4), (5, 0.5), (6, 0.6)]
    told = [metric.step for metric in store.reported([trial], ["score"])["t00000"]]
    assert told.count(1) == 1  # it did not begin anew
