"""Experiments as Argo Workflows. Only this package uses Hera, and it imports Hera only to compile a workflow."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hera.workflows import Workflow

    from katib_flow.spec.experiment import Experiment

__all__ = ["compile_experiment", "to_yaml"]


def compile_experiment(experiment: "Experiment") -> "Workflow":
    """Compile an experiment into a self-contained Workflow, ready for ``argo submit``.

    Raises:
        InvalidSpec: the experiment cannot run on a cluster; the error lists every problem.
        KatibFlowError: the spec is too large for a Workflow.
    """
    from katib_flow.argo.compiler import compile_experiment

    return compile_experiment(experiment)


def to_yaml(workflow: "Workflow") -> str:
    """Write a workflow as YAML that YAML 1.1 parsers (Argo's) and YAML 1.2 parsers read alike. The text is stable."""
    from katib_flow.argo.manifest import write_yaml

    return write_yaml(workflow.to_dict())
