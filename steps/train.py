"""train: one trial. `run` is the whole of it in one process; `prepare` and `collect` stand beside any other image."""

from pathlib import Path

from katib_flow.argo.steps import any_image, train
from katib_flow.argo.steps.context import Context, exit_after, step_parser

EXAMPLES = """\
exit codes of run: 0 a recorded result, 42 the trial's own failure, 143 the pod was told to go away, 2 anything else
examples:
  train.py run     --run mnist-x7k2p --trial t00003 --directory /kf/trial
  train.py prepare --run mnist-x7k2p --trial t00003 --directory /kf/trial     writes /kf/busybox, wrap.sh, run.sh
  train.py collect --run mnist-x7k2p --trial t00003 --directory /kf/trial     reads /kf/out, rc; writes /kf/stop, done
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("part", choices=["run", "prepare", "collect"])
    parser.add_argument("--trial", required=True, help="id of the trial")
    parser.add_argument("--directory", required=True, type=Path, help="of the trial; its parent is shared by the pod")
    args = parser.parse_args()

    def step() -> int:
        context = Context.open(args.run)
        if args.part == "run":
            return train.run(context, args.trial, args.directory)
        if args.part == "prepare":
            any_image.prepare(context, args.trial, args.directory)
        else:
            any_image.collect(context, args.trial, args.directory)
        return 0

    exit_after(step, always=0 if args.part == "collect" else None)


if __name__ == "__main__":
    main()
