"""Names shared by the compiler and the steps, which run in pods without Hera."""

import os
from importlib.metadata import version

from katib_flow.spec.experiment import Experiment

LABEL = "katib-flow/experiment"
RUN_LABEL = "katib-flow/run"
TRIAL_LABEL = "katib-flow/trial"
LIMITS = "kf-limits"  # ConfigMap of a namespace: the number of trials that may run at a time, by semaphore key
IMAGE_VARIABLE = "KATIB_FLOW_IMAGE"
NAS_IMAGE_VARIABLE = "KATIB_FLOW_NAS_IMAGE"
SPEC_VARIABLE, NAMESPACE_VARIABLE = "KATIB_FLOW_SPEC", "KATIB_FLOW_NAMESPACE"
EXPERIMENT_FAILED = 1  # exit code of finish; Argo then fails the Workflow
BAD_INPUT = 2
TRY_LATER = 75  # MLflow stayed unreachable for as long as the step tried (EX_TEMPFAIL of sysexits.h)
TERMINATED = 143  # the pod received SIGTERM, which is not the trial's fault, so it is retried
USER = 10001  # user id of all katib-flow containers

UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
RESTRICTED = {
    **UNPRIVILEGED,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The securityContext of a container in a pod without a security context of its own."""


def segment_name(run: str, segment: int) -> str:
    """Return the name of a segment's Workflow; segment 0 has the name of the run."""
    return f"{run}-s{segment}" if segment else run


def steps_image(experiment: Experiment | None = None) -> str:
    """Return the image of the steps: the spec's, else the environment's, else that of this version.

    Experiments that build networks or whose algorithm needs PyTorch use the NAS image, unless the environment names
    only the other one.
    """
    if experiment and experiment.argo.image:
        return experiment.argo.image
    torch = experiment is not None and _needs_torch(experiment)
    named = (os.environ.get(NAS_IMAGE_VARIABLE) if torch else None) or os.environ.get(IMAGE_VARIABLE)
    return named or f"katib-flow{'-nas' if torch else ''}:{version('katib-flow')}"


def _needs_torch(experiment: Experiment) -> bool:
    from katib_flow.algorithms.registry import find_algorithm  # keeps the start of a step fast

    entry = find_algorithm(experiment.algorithm.registered_name)
    return experiment.architecture is not None or (entry is not None and entry.extra == "nas")
