"""Words that the compiler and the steps, which run in pods without Hera, must agree on."""

import os
from importlib.metadata import version

from katib_flow.spec.experiment import Experiment

LABEL = "katib-flow/experiment"
RUN_LABEL = "katib-flow/run"
TRIAL_LABEL = "katib-flow/trial"
LIMITS = "kf-limits"  # ConfigMap of a namespace: how many trials may run at a time, by key
IMAGE_VARIABLE = "KATIB_FLOW_IMAGE"
NAS_IMAGE_VARIABLE = "KATIB_FLOW_NAS_IMAGE"
SPEC_VARIABLE, NAMESPACE_VARIABLE = "KATIB_FLOW_SPEC", "KATIB_FLOW_NAMESPACE"
EXPERIMENT_FAILED = 1  # exit code of finish; Argo then fails the Workflow
BAD_INPUT = 2
TRY_LATER = 75  # a step could not reach MLflow for as long as it tried (EX_TEMPFAIL of sysexits.h)
TERMINATED = 143  # the pod got SIGTERM: no fault of the trial's, so it is retried
USER = 10001  # of every container of ours

UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
RESTRICTED = {
    **UNPRIVILEGED,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The securityContext of a container in a pod that says nothing itself."""


def segment_name(run: str, segment: int) -> str:
    """Name of a Workflow of an experiment, which is spread over segments; the first gave the run its name."""
    return f"{run}-s{segment}" if segment else run


def steps_image(experiment: Experiment | None = None) -> str:
    """The image of the steps: the spec's, else what the environment names, else that of this version.

    Experiments that build networks, or suggest with PyTorch, have one of their own, unless the environment names only
    the other.
    """
    if experiment and experiment.argo.image:
        return experiment.argo.image
    torch = experiment is not None and _needs_torch(experiment)
    named = (os.environ.get(NAS_IMAGE_VARIABLE) if torch else None) or os.environ.get(IMAGE_VARIABLE)
    return named or f"katib-flow{'-nas' if torch else ''}:{version('katib-flow')}"


def _needs_torch(experiment: Experiment) -> bool:
    from katib_flow.algorithms.registry import find_algorithm  # steps begin without algorithms

    entry = find_algorithm(experiment.algorithm.registered_name)
    return experiment.architecture is not None or (entry is not None and entry.extra == "nas")
