"""A trial that is a Kubernetes object: the time that its watcher adds, with a fake API server on loopback.

    python benchmarks/watcher.py [--seconds 3] [--repeats 5]

A Job prints one metric and completes some seconds after its creation. The table has the seconds from its end to the
end of the watcher, which include the record in MLflow; the processor seconds of the watcher, without the import of
MLflow's client, which is loaded before; and the number of requests that reach the API server. The store is SQLite.
"""

import argparse
import contextlib
import io
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/argo")]
SPEC: dict[str, Any] = {
    "name": "watched",
    "objective": {"metric": "score", "direction": "maximize"},
    "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
    "limits": {"max_trials": 1},
    "trial": {
        "resource": {
            "manifest": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
            }
        }
    },
}


def once(seconds: float, folder: Path) -> None:
    """Run one trial in this process; print the latency, the processor seconds and the number of requests."""
    import api_server

    from katib_flow.argo.steps import objects
    from katib_flow.argo.steps.context import Context
    from katib_flow.argo.steps.suggest import suggest_iteration
    from katib_flow.spec import Experiment
    from katib_flow.testing.kubernetes import FakeCluster
    from katib_flow.tracking import Store

    fake, ended = FakeCluster(clock=time.time), list[float]()
    store = Store(f"sqlite:///{folder}/mlflow.db")
    context = Context(store, store.create(Experiment.parse(SPEC), key="watched"), 0)
    (trial,) = suggest_iteration(context, 1)

    def complete(name: str) -> None:
        fake.add_pod(f"{name}-abcde")
        fake.print_(f"{name}-abcde", "score=0.5")
        fake.set_status(("batch/v1", "Job"), name, conditions=[{"type": "Complete", "status": "True"}])
        ended.append(time.perf_counter())

    def created(manifest: Any) -> None:
        if manifest["kind"] == "Job":
            threading.Timer(seconds, complete, [manifest["metadata"]["name"]]).start()

    fake.on_create.append(created)
    begun = resource.getrusage(resource.RUSAGE_SELF)
    with api_server.reached(fake, folder) as cluster, contextlib.redirect_stderr(io.StringIO()):
        with contextlib.redirect_stdout(io.StringIO()):
            objects.run(context, cluster, trial, folder / "kf" / "trial", objects.owner("w", "u"))
        latency = time.perf_counter() - ended[0]
    used = resource.getrusage(resource.RUSAGE_SELF)
    verbs = Counter(verb for verb, *_ in fake.calls)
    print(latency, used.ru_utime + used.ru_stime - begun.ru_utime - begun.ru_stime, sum(verbs.values()))


def main() -> None:
    """Print the medians over several trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        once(args.seconds, args.once)
        return
    runs: list[list[float]] = []
    for repeat in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            # the offset puts the end of the Job at different moments between two polls
            argv = [__file__, "--once", folder, "--seconds", str(args.seconds + 0.4 * repeat)]
            done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=True)
            runs.append([float(word) for word in done.stdout.split()])
    medians = [statistics.median(column) for column in zip(*runs, strict=True)]
    print("| from the end of the Job to that of the watcher | processor | requests |\n|---|---|---|")
    print(f"| {medians[0]:.2f} s | {medians[1]:.2f} s | {medians[2]:.0f} |")


if __name__ == "__main__":
    main()
