"""handover: create the experiment's next Workflow, which then takes over."""

from katib_flow.argo.cluster import KubernetesCluster
from katib_flow.argo.steps.context import Context, exit_after, step_parser
from katib_flow.argo.steps.handover import hand_over

EXAMPLES = """\
also reads: the token of the pod's service account
example:
  handover.py --namespace ml --workflow mnist-x7k2p --run mnist-x7k2p --segment 0     creates mnist-x7k2p-s1
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("--namespace", required=True, help="namespace of the Workflows")
    parser.add_argument("--workflow", required=True, help="name of this Workflow")
    args = parser.parse_args()

    def step() -> None:
        context, cluster = Context.open(args.run, args.segment), KubernetesCluster(args.namespace)
        print(hand_over(cluster, workflow=args.workflow, run=args.run, segment=args.segment))
        context.take_over(args.segment + 1)  # from now on, this segment's exit handler changes nothing

    exit_after(step)


if __name__ == "__main__":
    main()
