"""What runs in pods: Python callables, found by the pod that asks for them."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.refusal import Unsupported


class Killed(BaseException):
    """Raised inside a program, by what it writes to, where the program's process would be gone."""


class ToldToGo(Exception):
    """Thrown into a program that waits, where its pod is told to go."""


@dataclass(frozen=True)
class Result:
    """How the containers of a pod ended.

    Attributes:
        exit_code: of the container named.
        files: text of each output file, by its path in the container.
        container: main, or the one that failed.
        printed: what main printed, as far as outputs.result wants it.
    """

    exit_code: int = 0
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    container: str = "main"
    printed: str | None = None


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        run: called once, at the moment at which the main container ends; it raises ``Killed`` where it was told, by
            ``pod.notes["halfway"]``, to die in the middle.
        seconds: how long the main container runs; it is asked when the container starts.
    """

    run: Callable[[Pod], Result]
    seconds: Callable[[Pod], float] = lambda pod: 1.0


@dataclass(frozen=True)
class Waiting:
    """A program that waits for what else happens.

    Attributes:
        steps: run when the main container starts; yields the seconds for which it waits, and ends with its result. It
            is closed where its process would be killed.
    """

    steps: Callable[[Pod], Generator[float, None, Result]]


class Programs(Protocol):
    """Which program a pod runs."""

    def __call__(self, pod: Pod) -> Program | Waiting: ...


@dataclass(frozen=True)
class ByTemplate:
    """Programs by the name of the template."""

    programs: Mapping[str, Program]

    def __call__(self, pod: Pod) -> Program:
        if pod.template not in self.programs:
            raise Unsupported(f"template {pod.template}", "a program for its pods")
        return self.programs[pod.template]
