"""Words that the compiler and the steps, which run in pods without Hera, must agree on."""

LABEL = "katib-flow/experiment"
SPEC_VARIABLE = "KATIB_FLOW_SPEC"
EXPERIMENT_FAILED = 1  # exit code of finish; Argo then fails the Workflow
BAD_INPUT = 2
TERMINATED = 143  # the pod got SIGTERM: no fault of the trial's, so it is retried
