"""Simulate ten thousand trials on Argo: pods, size and depth of Workflows, and how busy lanes are.

    python benchmarks/argo_scale.py [--trials 10000] [--parallel 10] [--faults 0.01] [--modes barrier lanes]

The compiled Workflow runs in ``katib_flow.testing.argo`` in virtual time. The times of trials are log-normal, with a
median of 10 min and sigma 1; a step takes as long as on a real controller. The steps are the real functions; MLflow is
a store in memory, because SQLite would take an hour. With faults, each kind of fault strikes each attempt with that
probability. The last column is the number of faults, and the two before it count the trials that were lost or evaluated
twice. The work of the controller is measured by how often it visits a Workflow, and by the nodes that it visits per
trial: all nodes of the Workflow, each time. With ``--even``, every trial takes 5 s, so that lanes act at the same time.
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
    *("mode", "faults", "segments", "pods", "trial pods", "other pods per iteration", "largest kB", "depth"),
    *("visits", "nodes visited per trial", "busy", "virtual days", "CPU s", "lost", "twice", "faults struck"),
)


def experiment(mode: str, trials: int, parallel: int) -> Experiment:
    """A random search with one parameter, in a mode of Argo."""
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
    """The end of a trial and its objective; one in fifty fails."""
    return (State.FAILED, 0.0) if trial.index % 50 == 7 else (State.SUCCEEDED, float(str(trial.assignment["x"])))


def heavy_tailed(pod: Pod) -> float:
    """Seconds that a pod takes: log-normal for a trial, with a median of 600, and 1 otherwise."""
    return 600 * math.exp(random.Random(pod.node).gauss(0, 1)) if pod.template == "trial" else 1.0


def even(pod: Pod) -> float:
    """Seconds that a pod takes: 5 for a trial, and 1 otherwise."""
    return 5.0 if pod.template == "trial" else 1.0


def measure(
    mode: str, trials: int, parallel: int, probability: float, duration: Callable[[Pod], float]
) -> Iterator[object]:
    """Run one simulation; yield the cells of its row, in the order of ``HEADER``."""
    spec, cluster = experiment(mode, trials, parallel), FakeCluster()
    programs = FastPrograms(spec, cluster, outcome, duration)
    faults = Random(1, probability) if probability else None
    visited = 0

    def visit(simulator: Simulator, name: str) -> None:
        nonlocal visited
        visited += len(simulator[name].nodes)

    simulator = Simulator(programs, faults=faults or no_faults, cluster=cluster, before_each=[visit])
    simulator.machine.keep = False
    begun = time.process_time()
    run = simulator.submit(compile_experiment(spec).to_dict())
    simulator.run()
    seconds = time.process_time() - begun
    workflows, started = list(simulator.workflows.values()), simulator.machine.started
    phases = {workflow.phase for workflow in workflows}
    assert phases == {"Succeeded"}, phases
    record = programs.store.keyed(run)
    assert record is not None
    counted = [trial for trial in programs.store.history(record) if trial.state is not State.KILLED]
    length = max(one.finished or 0.0 for one in workflows) - min(one.started or 0.0 for one in workflows)
    iterations = trials / (parallel if mode == "barrier" else 1)  # a turn of a lane is an iteration with one trial
    yield from (mode, f"{probability:.0%}", len(workflows), sum(started.values()), started["trial"])
    yield f"{(sum(started.values()) - started['trial']) / iterations:.2f}"
    yield f"{max(workflow.largest_bytes for workflow in workflows) / 1000:.0f}"
    yield max(workflow.deepest for workflow in workflows)
    yield from (simulator.looks, f"{visited / trials:.0f}")
    yield f"{simulator.machine.busy_seconds['trial'] / length / parallel:.1%}"
    yield f"{length / 86400:.1f}"
    yield f"{seconds:.0f}"
    yield trials - len(counted)
    yield sum(count > 1 for count in programs.evaluated.values())
    yield sum(faults.drawn.values()) if faults else 0


def main() -> None:
    """Print a Markdown table with a row for each mode and probability of faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--parallel", type=int, default=10)
    parser.add_argument(
        "--faults", type=float, nargs="*", default=[0.0, 0.01], help="probabilities of each kind of fault"
    )
    parser.add_argument("--modes", nargs="*", default=["barrier", "lanes"], choices=["barrier", "lanes"])
    parser.add_argument("--even", action="store_true", help="every trial takes 5 s")
    args = parser.parse_args()
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for mode in args.modes:
        for probability in args.faults:
            row = measure(mode, args.trials, args.parallel, probability, even if args.even else heavy_tailed)
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
