"""The real programs of steps/ as programs of simulated pods, with what the manifest gives them and no more.

A pod is a directory: each ``emptyDir`` is a folder in it, and paths in arguments are mapped to where it is mounted. A
pod of one container that runs a step does so in this process, which is fast; any other container is its own process.
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
from katib_flow.testing.argo.programs import Killed, Program, Result, ToldToGo, Waiting
from katib_flow.testing.argo.waiting import Sleep, waiting
from katib_flow.testing.argo.workflow import Manifest
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Store
from katib_flow.trial.outcome import StopTrial

_STEP = "katib_flow.steps."
_WRITES = ("write", "summarise", "set_segment", "set_given")
_KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
PATIENCE_SECONDS = 120
_ENDED_BY_ARGO = (0, -15, -9, 143, 137)  # exit codes of a sidecar that fail no pod


def steps_directory() -> Path:
    """Where the programs are: in a clone beside the package, in an installation in it."""
    package = Path(katib_flow.__file__).parent
    return next(each for each in (package / "steps", package.parent / "steps") if (each / "suggest.py").exists())


@dataclass
class StepPrograms:
    """Programs of pods that were compiled.

    Attributes:
        cluster: ConfigMaps and Secrets are read from it, and handover creates Workflows in it.
        scratch: a directory for the pods.
        workdir: working directory of every container; the user's module is there.
        seconds: how long each pod is to have run, on the simulator's clock.
        wait: lets time pass for a program that waits for what the cluster does; it should be the simulator's time.
        evicted: by the end of a node's name, a file in the pod's directory: when it is there, the pod is told to go.
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
        """What the containers of a pod printed."""
        return (self.directories[pod.name] / "pod.log").read_text(errors="replace")

    def _files(self, pod: Pod) -> "_Files":
        self.count += 1
        directory = self.scratch / f"{self.count:04}-{pod.template}"
        directory.mkdir(parents=True)
        self.directories[pod.name] = directory
        return _Files(pod, directory)

    def _watch(self, pod: Pod) -> Generator[float, None, Result]:
        """The watcher of a trial that is an object, which sleeps on the simulator's clock."""
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

        def told_to_go() -> None:
            for each in watches:
                each.terminated = True

        steps = waiting(program, told_to_go)
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
            except ToldToGo as told:
                go_on = partial(steps.throw, told)
            except GeneratorExit:
                steps.close()
                raise

    def _run(self, pod: Pod) -> Result:
        files = self._files(pod)
        directory = files.directory
        inits = [each for each in pod.spec["initContainers"] if each["name"] != "init"]
        sidecars = [each for each in pod.spec["containers"] if each["name"] not in ("main", "wait")]
        signs = [sign for end, sign in self.evicted.items() if pod.node.endswith(end)]
        if signs:
            result = Result(self._told_to_go(pod.container(), files, directory / signs[0]))
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
                    found = self.cluster.peek(("v1", kind), source[key]["name"])
                    variables |= (found or {}).get("data", {})
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
        """This process as that of a container which runs a program of steps/."""
        argv = [program, *(files.word(each) for each in container.get("args", []))]
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

    def _told_to_go(self, container: Manifest, files: "_Files", sign: Path) -> int:
        """Run a container until a file is there, then send it what the kubelet sends; its exit code."""
        process = self._start(container, files)
        while not sign.exists() and process.poll() is None:
            time.sleep(0.02)
        process.terminate()
        return process.wait(PATIENCE_SECONDS)

    def _processes(self, inits: list[Manifest], main: Manifest, sidecars: list[Manifest], files: "_Files") -> Result:
        for each in inits:
            if code := self._start(each, files).wait(PATIENCE_SECONDS):
                return Result(code, container=each["name"])
        beside = {each["name"]: self._start(each, files) for each in sidecars}
        code = self._start(main, files).wait(PATIENCE_SECONDS)
        for process in beside.values():
            process.terminate()  # as Argo's executor does where main has ended
        ended = {name: process.wait(PATIENCE_SECONDS) for name, process in beside.items()}
        bad = next((name for name, each in ended.items() if each not in _ENDED_BY_ARGO), None)
        return Result(code) if code or bad is None else Result(ended[bad], container=bad)

    def _start(self, container: Manifest, files: "_Files") -> "subprocess.Popen[bytes]":
        argv = [files.word(each) for each in [*container["command"], *container.get("args", [])]]
        if program := _program(container):
            argv = [sys.executable, str(steps_directory() / f"{program}.py"), *argv[len(container["command"]) :]]
        with (files.directory / "pod.log").open("ab") as log:
            variables = self._variables(container, files)
            return subprocess.Popen(argv, env=variables, cwd=self.workdir, stdout=log, stderr=log)


class _ClockWatch(Watch):
    """A watch that looks when the simulator's clock says so, and hears of SIGTERM from the simulator."""

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
    """The program of steps/ that a container runs; nothing where it runs another."""
    command = container["command"]
    step = len(command) == 3 and command[:2] == ["python3", "-m"] and command[2].startswith(_STEP)
    return command[2].removeprefix(_STEP) if step else ""


class _Files:
    """The volumes of a pod."""

    def __init__(self, pod: Pod, directory: Path) -> None:
        self.pod, self.directory = pod, directory
        volumes = {each["name"] for each in pod.spec["volumes"] if "emptyDir" in each}
        mounts = [each for container in pod.containers() for each in container.get("volumeMounts", [])]
        self._mounts = {each["mountPath"]: directory / each["name"] for each in mounts if each["name"] in volumes}
        for path in self._mounts.values():
            path.mkdir(exist_ok=True)

    def mapped(self, path: str) -> Path:
        """Where a path in a container is."""
        for mount, place in self._mounts.items():
            if path == mount or path.startswith(f"{mount}/"):
                return place / path[len(mount) :].lstrip("/")
        return Path(path)

    def word(self, word: str) -> str:
        mapped = self.mapped(word)
        return word if mapped == Path(word) else str(mapped)

    def outputs(self) -> dict[str, str]:
        paths = [each["valueFrom"]["path"] for each in self.pod.declared_outputs]
        return {path: self.mapped(path).read_text() for path in paths if self.mapped(path).exists()}


@contextmanager
def _process(argv: list[str], variables: Mapping[str, str], workdir: Path) -> Generator[None]:
    """This process as a container's: its arguments, environment and working directory."""
    before, handler = os.getcwd(), signal.getsignal(signal.SIGTERM)  # noqa: PTH109 - what os.chdir takes back
    path = patch.object(sys, "path", list(sys.path))  # a trial's function is looked for in the working directory
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
    """Have the process die right after the first thing that it records."""
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
