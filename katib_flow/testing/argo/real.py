"""The real programs of steps/ as programs of simulated pods, with only the inputs that the manifest gives them.

A pod is a directory: each ``emptyDir`` is a folder in it, and paths in arguments are mapped to these folders. A pod
whose only container runs a step does so in this process, which is fast; any other container is a process of its own.
"""

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import katib_flow
from katib_flow.argo.steps import experiment, objects
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.watch import CONTROL_SECONDS, Watch
from katib_flow.history import Trial
from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.programs import Killed, Program, Result, TerminationRequest, Waiting
from katib_flow.testing.argo.waiting import Sleep, waiting
from katib_flow.testing.argo.workflow import Manifest
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Store
from katib_flow.trial.outcome import StopTrial

_STEP = "katib_flow.steps."
_WRITES = ("write", "summarise", "set_segment", "set_given")
_KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
PATIENCE_SECONDS = 120
_ENDED_BY_ARGO = (0, -15, -9, 143, 137)  # exit codes of a sidecar that do not fail its pod


def steps_directory() -> Path:
    """The directory of the programs: beside the package in a clone of the repository, inside it if installed."""
    package = Path(katib_flow.__file__).parent
    return next(
        directory for directory in (package / "steps", package.parent / "steps") if (directory / "suggest.py").exists()
    )


@dataclass
class StepPrograms:
    """The programs of the pods of compiled Workflows.

    Attributes:
        cluster: has the ConfigMaps and Secrets, and gets the Workflows that ``handover`` creates.
        scratch: a directory for the pods.
        workdir: working directory of every container, with the user's module.
        seconds: how long each pod runs, on the simulator's clock.
        wait: lets time pass for a program that waits for the cluster, usually on the simulator's clock.
        evicted: for the end of a node's name, a file in the pod's directory; the pod is terminated once it exists.
        count: number of pods so far.
        directories: the directory of each pod, by its name.
    """

    cluster: FakeCluster
    scratch: Path
    workdir: Path
    seconds: Callable[[Pod], float] = lambda pod: 5.0
    evicted: Mapping[str, str] = field(default_factory=dict[str, str])
    wait: Callable[[float], None] = time.sleep
    count: int = 0
    directories: dict[str, Path] = field(default_factory=dict[str, Path])

    def __call__(self, pod: Pod) -> Program | Waiting:
        if _program(pod.container()) == "train" and pod.container()["args"][0] == "watch":
            return Waiting(self._watch)
        return Program(self._run, self.seconds)

    def log(self, pod: Pod) -> str:
        """The output of a pod's containers."""
        return (self.directories[pod.name] / "pod.log").read_text(errors="replace")

    def _files(self, pod: Pod) -> "_Files":
        self.count += 1
        directory = self.scratch / f"{self.count:04}-{pod.template}"
        directory.mkdir(parents=True)
        self.directories[pod.name] = directory
        return _Files(pod, directory)

    def _watch(self, pod: Pod) -> Generator[float, None, Result]:
        """The watcher of a trial that is a Kubernetes object, which sleeps on the simulator's clock."""
        files, container, watches = self._files(pod), pod.container(), list[_ClockWatch]()

        def watching(context: Context, trial: Trial) -> Watch:
            watches.append(_ClockWatch(context, trial, self.cluster.clock))
            return watches[-1]

        def program(sleep: Sleep) -> int:
            hooks: Any = {"sleep": sleep, "clock": self.cluster.clock, "watching": watching}
            with patch.dict(objects.run.__kwdefaults__, hooks):
                main = runpy.run_path(str(steps_directory() / "train.py"))["main"]
                try:
                    main()
                except SystemExit as ended:
                    return ended.code if isinstance(ended.code, int) else 0
            return 0

        def terminate() -> None:
            for watch in watches:
                watch.terminated = True

        steps = waiting(program, terminate)
        go_on: Callable[[], float] = partial(next, steps)
        while True:
            with self._container(container, files, "train"):
                try:
                    seconds = go_on()
                except StopIteration as ended:
                    return Result(ended.value)
            try:
                yield seconds
                go_on = partial(next, steps)
            except TerminationRequest as request:
                go_on = partial(steps.throw, request)
            except GeneratorExit:
                steps.close()
                raise

    def _run(self, pod: Pod) -> Result:
        files = self._files(pod)
        directory = files.directory
        inits = [container for container in pod.spec["initContainers"] if container["name"] != "init"]
        sidecars = [container for container in pod.spec["containers"] if container["name"] not in ("main", "wait")]
        signs = [sign for end, sign in self.evicted.items() if pod.node.endswith(end)]
        if signs:
            result = Result(self._terminated(pod.container(), files, directory / signs[0]))
        elif not inits and not sidecars and _program(pod.container()):
            with _dying(pod.notes.pop("halfway", False)):
                result = Result(self._in_process(pod.container(), files))
        else:
            result = self._processes(inits, pod.container(), sidecars, files)
        return Result(result.exit_code, files.outputs(), result.container)

    def _variables(self, container: Manifest, files: "_Files") -> dict[str, str]:
        variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
        variables["TMPDIR"] = str(files.mapped("/tmp"))  # noqa: S108 - a path in the container
        for source in container.get("envFrom", []):
            for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if key in source:
                    manifest = self.cluster.peek(("v1", kind), source[key]["name"])
                    variables |= (manifest or {}).get("data", {})
        return variables | {name: files.word(value) for name, value in files.pod.env(container["name"]).items()}

    def _in_process(self, container: Manifest, files: "_Files") -> int:
        name = _program(container)
        with (
            self._container(container, files, name),
            patch.dict(experiment.run.__kwdefaults__, sleep=self.wait),
        ):
            try:
                runpy.run_path(str(steps_directory() / f"{name}.py"), run_name="__main__")
            except SystemExit as ended:
                return ended.code if isinstance(ended.code, int) else 0
        return 0

    @contextmanager
    def _container(self, container: Manifest, files: "_Files", program: str) -> Generator[None]:
        """Make this process that of a container which runs a program of steps/."""
        argv = [program, *(files.word(word) for word in container.get("args", []))]
        cluster = self.cluster

        def connect(namespace: str | None = None, **options: Any) -> FakeCluster:
            return cluster

        with (
            (files.directory / "pod.log").open("a") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
            _process(argv, self._variables(container, files), self.workdir),
            patch("katib_flow.argo.cluster.KubernetesCluster", connect),
        ):
            yield

    def _terminated(self, container: Manifest, files: "_Files", sign: Path) -> int:
        """Run a container until a file exists, then send it SIGTERM as the kubelet does; return its exit code."""
        process = self._start(container, files)
        while not sign.exists() and process.poll() is None:
            time.sleep(0.02)
        process.terminate()
        return process.wait(PATIENCE_SECONDS)

    def _processes(self, inits: list[Manifest], main: Manifest, sidecars: list[Manifest], files: "_Files") -> Result:
        for init in inits:
            if code := self._start(init, files).wait(PATIENCE_SECONDS):
                return Result(code, container=init["name"])
        beside = {sidecar["name"]: self._start(sidecar, files) for sidecar in sidecars}
        code = self._start(main, files).wait(PATIENCE_SECONDS)
        for process in beside.values():
            process.terminate()  # as Argo's executor does once main has ended
        ended = {name: process.wait(PATIENCE_SECONDS) for name, process in beside.items()}
        bad = next((name for name, exit_code in ended.items() if exit_code not in _ENDED_BY_ARGO), None)
        return Result(code) if code or bad is None else Result(ended[bad], container=bad)

    def _start(self, container: Manifest, files: "_Files") -> "subprocess.Popen[bytes]":
        argv = [files.word(word) for word in [*container["command"], *container.get("args", [])]]
        if program := _program(container):
            argv = [sys.executable, str(steps_directory() / f"{program}.py"), *argv[len(container["command"]) :]]
        with (files.directory / "pod.log").open("ab") as log:
            variables = self._variables(container, files)
            return subprocess.Popen(argv, env=variables, cwd=self.workdir, stdout=log, stderr=log)


class _ClockWatch(Watch):
    """A watch on the simulator's clock, which gets SIGTERM from the simulator."""

    def __init__(self, context: Context, trial: Trial, clock: Callable[[], float]) -> None:
        self._clock = clock
        super().__init__(context, trial)

    def _begin(self) -> None:
        self._due = self._clock() + CONTROL_SECONDS

    def __call__(self) -> StopTrial | None:
        if self._clock() >= self._due:
            self._due = self._clock() + CONTROL_SECONDS
            self.look()
        return super().__call__()


def _program(container: Manifest) -> str:
    """The program of steps/ that a container runs; "" if it runs another program."""
    command = container["command"]
    step = len(command) == 3 and command[:2] == ["python3", "-m"] and command[2].startswith(_STEP)
    return command[2].removeprefix(_STEP) if step else ""


class _Files:
    """The volumes of a pod."""

    def __init__(self, pod: Pod, directory: Path) -> None:
        self.pod, self.directory = pod, directory
        volumes = {volume["name"] for volume in pod.spec["volumes"] if "emptyDir" in volume}
        mounts = [mount for container in pod.containers() for mount in container.get("volumeMounts", [])]
        self._mounts = {mount["mountPath"]: directory / mount["name"] for mount in mounts if mount["name"] in volumes}
        for path in self._mounts.values():
            path.mkdir(exist_ok=True)

    def mapped(self, path: str) -> Path:
        """The path on this machine for a path in a container."""
        for mount, directory in self._mounts.items():
            if path == mount or path.startswith(f"{mount}/"):
                return directory / path[len(mount) :].lstrip("/")
        return Path(path)

    def word(self, word: str) -> str:
        mapped = self.mapped(word)
        return word if mapped == Path(word) else str(mapped)

    def outputs(self) -> dict[str, str]:
        paths = [output["valueFrom"]["path"] for output in self.pod.declared_outputs]
        return {path: self.mapped(path).read_text() for path in paths if self.mapped(path).exists()}


@contextmanager
def _process(argv: list[str], variables: Mapping[str, str], workdir: Path) -> Generator[None]:
    """Give this process the arguments, environment and working directory of a container's process."""
    before, handler = os.getcwd(), signal.getsignal(signal.SIGTERM)  # noqa: PTH109 - as os.chdir takes it back
    path = patch.object(sys, "path", list(sys.path))  # a trial's function is looked up in the working directory
    with path, patch.object(sys, "argv", argv), patch.dict(os.environ, variables, clear=True):
        os.chdir(workdir)
        try:
            yield
        finally:
            os.chdir(before)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)


@contextmanager
def _dying(on: bool) -> Generator[None]:
    """Make the process die right after its first write to the store."""
    if not on:
        yield
        return

    def then_die(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Store, *args: Any, **kwargs: Any) -> Any:
            result = method(self, *args, **kwargs)
            if threading.current_thread() is threading.main_thread():
                raise Killed
            return result

        return call

    with contextlib.ExitStack() as stack:
        for name in _WRITES:
            stack.enter_context(patch.object(Store, name, then_die(getattr(Store, name))))
        yield
