"""The loop as Argo Workflows; the only door to Hera, which is imported when a workflow is compiled and not before."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hera.workflows import Workflow

    from katib_flow.spec.experiment import Experiment

__all__ = ["compile_experiment", "to_yaml"]


def compile_experiment(experiment: "Experiment") -> "Workflow":
    """The self-contained Workflow of an experiment: `argo submit` of it is all it takes.

    Raises:
        InvalidSpec: with everything that keeps the experiment from running on a cluster.
        KatibFlowError: the spec is too large to travel in a Workflow, or needs what is not built yet.
    """
    from katib_flow.argo.compiler import compile_experiment

    return compile_experiment(experiment)


def to_yaml(workflow: "Workflow") -> str:
    """A workflow as YAML that every reader reads alike, Argo's YAML 1.1 among them; the same text every time."""
    from katib_flow.argo.manifest import write_yaml

    return write_yaml(workflow.to_dict())
