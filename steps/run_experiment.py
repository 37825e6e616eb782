"""run-experiment: submit an experiment, wait for its end and write its best trial. It is a step for other workflows."""

import argparse
import os
import sys
from pathlib import Path

from katib_flow.argo.cluster import KubernetesCluster
from katib_flow.argo.names import SPEC_VARIABLE
from katib_flow.argo.steps import experiment
from katib_flow.argo.steps.context import exit_after
from katib_flow.errors import InvalidSpec

EXAMPLES = f"""\
reads: {SPEC_VARIABLE} (a spec, or a Katib manifest, as YAML or JSON), MLFLOW_TRACKING_URI, the pod's account token
exit codes: 0 success, 1 the experiment failed or its spec is invalid, 143 the pod received SIGTERM, 2 other errors
example:
  run_experiment.py --uid 8c1f... --node pipeline.tune --out /kf
      writes best-parameters, best-value, best-model-uri, run-id
"""


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--uid", required=True, help="uid of the Workflow that this step belongs to")
    parser.add_argument("--node", required=True, help="name of the step's node in that Workflow")
    parser.add_argument("--out", required=True, type=Path, help="directory to write into")
    args = parser.parse_args()

    def step() -> int:
        try:
            spec = experiment.experiment_of(os.environ.get(SPEC_VARIABLE, ""))
            name = experiment.workflow_name(spec, args.uid, args.node)
            return experiment.run(KubernetesCluster(), spec, name, args.out, termination=experiment.Termination())
        except InvalidSpec as problem:  # a retry would not help
            print(problem, file=sys.stderr)
            return 1

    exit_after(step)


if __name__ == "__main__":
    main()
