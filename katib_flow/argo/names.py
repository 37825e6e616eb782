"""Words that the compiler and the steps, which run in pods without Hera, must agree on."""

import os
from importlib.metadata import version

from katib_flow.spec.experiment import Experiment

LABEL = "katib-flow/experiment"
RUN_LABEL = "katib-flow/run"
TRIAL_LABEL = "katib-flow/trial"
LIMITS = "kf-limits"  # ConfigMap of a namespace: how many trials may run at a time, by key
IMAGE_VARIABLE = "KATIB_FLOW_IMAGE"
SPEC_VARIABLE = "KATIB_FLOW_SPEC"
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
    """The image of the steps: the spec's, else what the environment names, else that of this version."""
    named = experiment.argo.image if experiment else None
    return named or os.environ.get(IMAGE_VARIABLE) or f"katib-flow:{version('katib-flow')}"
