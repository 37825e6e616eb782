"""finish: the exit handler. Unless a newer segment exists, close all open runs and record how the experiment ended."""

from katib_flow.argo.names import EXPERIMENT_FAILED
from katib_flow.argo.steps.collect import finish
from katib_flow.argo.steps.context import Context, exit_after, step_parser
from katib_flow.argo.steps.fate import connect
from katib_flow.tracking import Status

EXAMPLES = """\
exit codes: 0 success, 1 the experiment failed, 2 this step failed
example:
  finish.py --run mnist-x7k2p --segment 0 --status Succeeded
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("--status", required=True, help="Argo's workflow.status: Succeeded, Failed or Error")
    parser.add_argument("--failures", default="", help="Argo's workflow.failures: the failed nodes as JSON")
    args = parser.parse_args()

    def step() -> int:
        context = Context.open(args.run, args.segment)
        status = finish(context, args.status, args.failures, connect)
        print(f"{args.run}: {status or 'continues in the next segment'}")
        return EXPERIMENT_FAILED if status is Status.FAILED else 0

    exit_after(step)


if __name__ == "__main__":
    main()
