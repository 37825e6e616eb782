"""run-experiment: submit an experiment, wait for its end, write its best trial. A step of somebody's own workflow."""

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
reads: {SPEC_VARIABLE} (a spec, or a Katib manifest, as YAML or JSON), MLFLOW_TRACKING_URI, the pod's account's token
exit codes: 0 done, 1 the experiment failed, or its spec is wrong, 143 the pod was told to go, 2 anything else
example:
  run_experiment.py --uid 8c1f... --node pipeline.tune --out /kf
      writes best-parameters, best-value, best-model-uri, run-id
"""


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--uid", required=True, help="of the Workflow that this is a step of")
    parser.add_argument("--node", required=True, help="name of the step's node in it")
    parser.add_argument("--out", required=True, type=Path, help="directory to write into")
    args = parser.parse_args()

    def step() -> int:
        try:
            wanted = experiment.experiment_of(os.environ.get(SPEC_VARIABLE, ""))
            name = experiment.workflow_name(wanted, args.uid, args.node)
            return experiment.run(KubernetesCluster(), wanted, name, args.out, told=experiment.Told())
        except InvalidSpec as problem:  # trying again does not help
            print(problem, file=sys.stderr)
            return 1

    exit_after(step)


if __name__ == "__main__":
    main()
