"""suggest: choose the trials that an iteration starts, or a lane's next trial. The first call opens the experiment."""

import json
from pathlib import Path

from katib_flow.argo.steps.algorithm import serve
from katib_flow.argo.steps.context import Context, exit_after, step_parser, write_output
from katib_flow.argo.steps.fate import connect
from katib_flow.argo.steps.suggest import suggest_iteration, suggest_lane

EXAMPLES = """\
also reads: the token of the pod's service account, in lanes mode, if the pod of a trial recorded no end
examples:
  suggest.py --run mnist-x7k2p --segment 0 --iteration 1 --out /kf          writes ids: ["t00000", "t00001"], or []
  suggest.py --run mnist-x7k2p --segment 0 --iteration 1 --lane 2 --lanes 4 --last 40 --out /kf
                                                                            writes id, go and handover
  suggest.py --run mnist-x7k2p --segment 0 --open                           opens the experiment, writes nothing
  suggest.py --run mnist-x7k2p --serve /kf-algorithm                        writes busybox and serve.sh, needs no MLflow
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("--open", action="store_true", help="open the experiment and exit")
    parser.add_argument("--serve", type=Path, help="write the files that run the user's algorithm program, and exit")
    parser.add_argument("--iteration", type=int, default=1, help="number of the iteration in the segment, from 1")
    parser.add_argument("--lane", type=int, help="number of the lane, from 0 (lanes mode)")
    parser.add_argument("--lanes", type=int, default=1, help="number of lanes")
    parser.add_argument("--last", type=int, default=1, help="iterations of a segment (lanes mode)")
    parser.add_argument("--out", type=Path, default=Path(), help="directory to write into")
    args = parser.parse_args()

    def step() -> None:
        if args.serve is not None:
            serve(args.serve)
            return
        context = Context.open(args.run, args.segment)
        if args.open:
            return
        if args.lane is None:
            write_output(args.out, "ids", json.dumps(suggest_iteration(context, args.iteration)))
            return
        turn = suggest_lane(context, args.iteration, args.lane, args.lanes, args.last, connect)
        write_output(args.out, "id", turn.trial or "")
        write_output(args.out, "go", "true" if turn.trial else "false")
        write_output(args.out, "handover", "true" if turn.hand_over else "false")

    exit_after(step)


if __name__ == "__main__":
    main()
