"""collect-metrics: close the trials whose pods have ended, and decide whether the experiment continues."""

from pathlib import Path

from katib_flow.argo.steps.collect import collect_metrics
from katib_flow.argo.steps.context import Context, exit_after, step_parser, write_output
from katib_flow.argo.steps.fate import connect

EXAMPLES = """\
example:
  collect_metrics.py --run mnist-x7k2p --segment 0 --iteration 1 --out /kf     writes go: true or false
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("--iteration", type=int, help="number of the iteration in the segment, from 1 (barrier mode)")
    parser.add_argument("--out", required=True, type=Path, help="directory to write into")
    args = parser.parse_args()

    def step() -> None:
        context = Context.open(args.run, args.segment)
        go = collect_metrics(context, connect, args.iteration)
        write_output(args.out, "go", "true" if go else "false")

    exit_after(step)


if __name__ == "__main__":
    main()
