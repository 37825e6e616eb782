"""Ten thousand trials on Argo, simulated: pods, size of Workflows, depth, and how busy lanes are.

    python benchmarks/argo_scale.py [--trials 10000] [--parallel 10] [--faults 0.01] [--modes barrier lanes]

The compiled Workflow runs in ``katib_flow.testing.argo`` in virtual time: trials take 10 min in the median, log-normal
with sigma 1, and a step costs what it did on a real controller. The steps are the real functions; MLflow is a store in
memory, because SQLite would take an hour. With faults, each kind of fault of a machine strikes each attempt with that
probability; the last column says how many did, and the two before it that no trial was lost or evaluated twice.
The controller's own work is how often it looks at a Workflow, and how many nodes it walks for each trial by doing so:
all that the Workflow has, each time. ``--even`` has every trial take 5 s, so that lanes do everything at once.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator

from katib_flow.argo import compile_experiment
from katib_flow.history import State, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.argo import Pod, Random, Simulator, no_faults
from katib_flow.testing.argo.fast import FastPrograms
from katib_flow.testing.kubernetes import FakeCluster

HEADER = (
    *("mode", "faults", "segments", "pods", "trial pods", "others an iteration", "largest kB", "deepest"),
    *("looks", "nodes walked", "busy", "virtual days", "CPU s", "lost", "twice", "struck"),
)


def experiment(mode: str, trials: int, parallel: int) -> Experiment:
    return Experiment.parse(
        {
            "name": "scale",
            "objective": {"metric": "score", "direction": "maximize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "algorithm": {"name": "random", "seed": 3},
            "limits": {"max_trials": trials, "parallel_trials": parallel, "max_failed_trials": trials},
            "trial": {"function": "module:train"},
            "argo": {"image": "user:1", "mode": mode},
        }
    )


def outcome(trial: Trial) -> tuple[State, float]:
    return (State.FAILED, 0.0) if trial.index % 50 == 7 else (State.SUCCEEDED, float(str(trial.assignment["x"])))


def heavy_tailed(pod: Pod) -> float:
    return 600 * math.exp(random.Random(pod.node).gauss(0, 1)) if pod.template == "trial" else 1.0


def even(pod: Pod) -> float:
    return 5.0 if pod.template == "trial" else 1.0


def measure(
    mode: str, trials: int, parallel: int, probability: float, duration: Callable[[Pod], float]
) -> Iterator[object]:
    of, cluster = experiment(mode, trials, parallel), FakeCluster()
    programs = FastPrograms(of, cluster, outcome, duration)
    faults = Random(1, probability) if probability else None
    walked = 0

    def walk(simulator: Simulator, name: str) -> None:
        nonlocal walked
        walked += len(simulator[name].nodes)

    simulator = Simulator(programs, faults=faults or no_faults, cluster=cluster, before_each=[walk])
    simulator.machine.keep = False
    begun = time.process_time()
    run = simulator.submit(compile_experiment(of).to_dict())
    simulator.run()
    seconds = time.process_time() - begun
    workflows, started = list(simulator.workflows.values()), simulator.machine.started
    assert {each.phase for each in workflows} == {"Succeeded"}, {each.phase for each in workflows}
    record = programs.store.keyed(run)
    assert record is not None
    counted = [trial for trial in programs.store.history(record) if trial.state is not State.KILLED]
    length = max(each.finished or 0.0 for each in workflows) - min(each.started or 0.0 for each in workflows)
    iterations = trials / (parallel if mode == "barrier" else 1)  # a lane's turn is an iteration of one
    yield from (mode, f"{probability:.0%}", len(workflows), sum(started.values()), started["trial"])
    yield f"{(sum(started.values()) - started['trial']) / iterations:.2f}"
    yield f"{max(each.largest_bytes for each in workflows) / 1000:.0f}"
    yield max(each.deepest for each in workflows)
    yield from (simulator.looks, f"{walked / trials:.0f}")
    yield f"{simulator.machine.busy_seconds['trial'] / length / parallel:.1%}"
    yield f"{length / 86400:.1f}"
    yield f"{seconds:.0f}"
    yield trials - len(counted)
    yield sum(count > 1 for count in programs.evaluated.values())
    yield sum(faults.drawn.values()) if faults else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--parallel", type=int, default=10)
    parser.add_argument("--faults", type=float, nargs="*", default=[0.0, 0.01], help="probability of each kind")
    parser.add_argument("--modes", nargs="*", default=["barrier", "lanes"], choices=["barrier", "lanes"])
    parser.add_argument("--even", action="store_true", help="every trial takes 5 s")
    args = parser.parse_args()
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for mode in args.modes:
        for probability in args.faults:
            row = measure(mode, args.trials, args.parallel, probability, even if args.even else heavy_tailed)
            print("| " + " | ".join(str(each) for each in row) + " |", flush=True)


if __name__ == "__main__":
    main()
