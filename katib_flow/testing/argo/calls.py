"""Calls of templates: what they consist of, what they need of the cluster, and what can prevent them."""

from dataclasses import dataclass
from typing import Protocol

from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.templates import Library, TemplateError
from katib_flow.testing.argo.workflow import Manifest, Workflow


class ParallelismReached(Exception):
    """The limit of parallelism is reached, so nothing more may start now."""


class TooDeep(TemplateError):
    """Calls of templates are nested more deeply than Argo allows."""


class Controller(Protocol):
    """What an operation needs of the cluster; ``now`` is in seconds since the epoch."""

    now: float

    def pod(self, workflow: Workflow, node: str) -> Pod | None:
        """The pod of a node, if it exists."""
        ...

    def pods(self, workflow: Workflow) -> list[Pod]:
        """The pods of a Workflow that exist now."""
        ...

    def start(self, workflow: Workflow, pod: Pod) -> None:
        """Start a pod."""
        ...

    def terminate(self, pod: Pod) -> None:
        """Terminate a pod; nobody reads its result."""
        ...

    def forget(self, pod: Pod) -> None:
        """Drop a pod whose result has been read."""
        ...

    def look_again(self, workflow: Workflow, at: float) -> None:
        """Schedule another operation on a Workflow, at the earliest at a time."""
        ...

    def acquire(self, workflow: Workflow, node: str, synchronization: Manifest) -> str:
        """Take all locks of a template for a node, or none; return the name of a lock that is not free, or ""."""
        ...

    def release(self, workflow: Workflow, node: str) -> None:
        """Release the locks of a node, or with "" those of all nodes of a Workflow."""
        ...

    def fetch(self, name: str, cluster_wide: bool) -> Manifest | None:
        """The spec of a WorkflowTemplate, if it exists."""
        ...


@dataclass(frozen=True)
class Call:
    """A call of a template.

    Attributes:
        holder: the task, step or hook that names the template.
        arguments: its ``parameters``, resolved.
        library: where to look up the holder's template.
        boundary: the name of the DAG or Steps node that the call belongs to.
        on_exit: whether it belongs to the exit handler, at any depth.
        hooked: whether it is the exit handler itself.
    """

    holder: Manifest
    arguments: Manifest
    library: Library
    boundary: str = ""
    on_exit: bool = False
    hooked: bool = False
