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
TERMINATED = 143  # the pod got SIGTERM: no fault of the trial's, so it is retried


def steps_image(experiment: Experiment | None = None) -> str:
    """The image of the steps: the spec's, else what the environment names, else that of this version."""
    named = experiment.argo.image if experiment else None
    return named or os.environ.get(IMAGE_VARIABLE) or f"katib-flow:{version('katib-flow')}"
