"""build-model: build the models of an iteration's topologies and store them in MLflow before training."""

from katib_flow.argo.steps.context import Context, exit_after, step_parser
from katib_flow.argo.steps.models import build_models

EXAMPLES = """\
example:
  build_model.py --run nas-x7k2p --segment 0 --iteration 1
"""


def main() -> None:
    parser = step_parser(__doc__, EXAMPLES)
    parser.add_argument("--iteration", required=True, type=int, help="number of the iteration in the segment, from 1")
    args = parser.parse_args()

    def step() -> None:
        print(*build_models(Context.open(args.run, args.segment), args.iteration))

    exit_after(step)


if __name__ == "__main__":
    main()
