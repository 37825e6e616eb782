"""train: run one trial. `run` does all of it in one process; `prepare` and `collect` run beside any other image;
`watch` follows a Kubernetes object, and `metrics` reads the metrics that the object's pods do not print."""

from pathlib import Path

from katib_flow.argo.cluster import KubernetesCluster
from katib_flow.argo.steps import any_image, objects, sidecar, train
from katib_flow.argo.steps.context import Context, exit_after, spec_of_environment, step_parser

EXAMPLES = """\
exit codes of run, watch: 0 a recorded result, 42 the trial failed, 143 the pod received SIGTERM, 2 other errors
examples:
  train.py run     --run mnist-x7k2p --trial t00003 --directory /kf/trial
  train.py prepare --run mnist-x7k2p --trial t00003 --directory /kf/trial     writes /kf/busybox, wrap.sh, run.sh
  train.py collect --run mnist-x7k2p --trial t00003 --directory /kf/trial     reads /kf/out, rc; writes /kf/stop, done
  train.py watch   --run mnist-x7k2p --trial t00003 --directory /kf/trial --workflow mnist-x7k2p --uid 8c1f...
  train.py metrics --run - --trial - --directory /                            prints one report a line until SIGTERM
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("part", choices=["run", "prepare", "collect", "watch", "metrics"])
    parser.add_argument("--trial", required=True, help="id of the trial")
    parser.add_argument(
        "--directory", required=True, type=Path, help="the trial's directory; the pod shares its parent"
    )
    parser.add_argument("--workflow", help="watch: name of this Workflow, the owner of the trial's object")
    parser.add_argument("--uid", help="watch: uid of this Workflow")
    args = parser.parse_args()

    def step() -> int:
        if args.part == "metrics":
            sidecar.print_metrics(sidecar.source(spec_of_environment(), args.directory, args.trial))
            return 0
        context = Context.open(args.run)
        if args.part == "run":
            return train.run(context, args.trial, args.directory)
        if args.part == "watch":
            owner = objects.owner(args.workflow, args.uid)
            return objects.run(context, KubernetesCluster(), args.trial, args.directory, owner)
        part = {"prepare": any_image.prepare, "collect": any_image.collect}[args.part]
        part(context, args.trial, args.directory)
        return 0

    exit_after(step, always=0 if args.part in ("collect", "metrics") else None)


if __name__ == "__main__":
    main()
