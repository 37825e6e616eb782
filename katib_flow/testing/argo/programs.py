"""The programs that run in simulated pods: Python callables, looked up by pod."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.refusal import Unsupported


class Killed(BaseException):
    """Raised inside a program, by the store that it writes to, when its process would be killed."""


class TerminationRequest(Exception):
    """Thrown into a waiting program when its pod gets SIGTERM."""


@dataclass(frozen=True)
class Result:
    """The end of a pod's containers.

    Attributes:
        exit_code: the exit code of ``container``.
        files: the text of each output file, by its path in the container.
        container: main, or the container that failed.
        printed: main's output, for ``outputs.result``; None to have no result.
    """

    exit_code: int = 0
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    container: str = "main"
    printed: str | None = None


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        run: called once, when the main container ends; with ``pod.notes["halfway"]`` set, it must raise ``Killed`` in
            the middle of its work.
        seconds: how long the main container runs; called when the container starts.
    """

    run: Callable[[Pod], Result]
    seconds: Callable[[Pod], float] = lambda pod: 1.0


@dataclass(frozen=True)
class Waiting:
    """A program that waits while other events happen.

    Attributes:
        steps: called when the main container starts; yields the seconds for which it waits, and returns its result. It
            is closed when its process would be killed.
    """

    steps: Callable[[Pod], Generator[float, None, Result]]


class Programs(Protocol):
    """Looks up the program of a pod."""

    def __call__(self, pod: Pod) -> Program | Waiting: ...


@dataclass(frozen=True)
class ByTemplate:
    """Programs by the name of the template."""

    programs: Mapping[str, Program]

    def __call__(self, pod: Pod) -> Program:
        if pod.template not in self.programs:
            raise Unsupported(f"template {pod.template}", "a program for its pods")
        return self.programs[pod.template]
