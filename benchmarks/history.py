"""The suggest step on a long history: seconds and memory of a new process, with SQLite and with an MLflow server.

python benchmarks/history.py [--trials N] [--batch K] [--workers W]. A whole step is measured: import katib-flow, open
the store, find the experiment, read its history, suggest K trials and record them. The server runs on this machine,
with W workers, on SQLite. The first step against it reads every run; the next ones read those that may have changed.
"""

import argparse
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

TARGET = "under 15 s, under 1000 MB"


def step(uri: str, batch: int) -> None:
    """Do the work of `suggest`, and print the time at the end of each part."""
    begun = time.perf_counter()

    def finished(part: str) -> None:
        print(f"  {part:32} {time.perf_counter() - begun:6.2f} s", flush=True)

    from katib_flow import loop
    from katib_flow.history import Trial
    from katib_flow.tracking import Change, Store
    from katib_flow.wording import counted

    store = Store(uri)
    record = store.find("long")
    finished("opened the store")
    history = store.history(record)
    finished(f"read {counted(len(history), 'trial')}")
    suggestions = loop.suggest(record.experiment, history, batch)
    finished(f"suggested {len(suggestions)}")
    store.write(record, [Change(Trial(suggestion)) for suggestion in suggestions], lookup=True)
    finished(f"recorded {len(suggestions)}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {'memory':32} {memory:6.0f} MB   (target: {TARGET})", flush=True)


def fill(database: Path, trials: int, uri: str = "") -> None:
    """Record trials directly in a database, in an experiment that is created at a URI, such as that of a server."""
    from katib_flow.history import Metric, State, Suggestion, Trial
    from katib_flow.spec import Experiment
    from katib_flow.tracking import Change, Store

    names = [f"x{number}" for number in range(10)]
    spec = Experiment.parse(
        {
            "name": "long",
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "additional_metrics": ["loss"],
            "parameters": {name: {"type": "float", "min": 0, "max": 1} for name in names},
            "limits": {"max_trials": 10 * trials, "parallel_trials": 100},
            "trial": {"command": ["true"]},
        }
    )
    store, rng = Store(f"sqlite:///{database}"), random.Random(0)
    record = (Store(uri) if uri else store).create(spec)
    for start in range(0, trials, 500):
        changes: list[Change] = []
        for index in range(start, min(start + 500, trials)):
            suggestion = Suggestion(index, {name: rng.random() for name in names}, info={"iteration": index // 100})
            values, began = {"accuracy": rng.random(), "loss": rng.random()}, 1.7e9 + index
            metrics = tuple(Metric(name, value, 0, int(began * 1000)) for name, value in values.items())
            changes.append(Change(Trial(suggestion, State.SUCCEEDED, values, {}, began, began + 1), metrics))
        store.write(record, changes)


@contextmanager
def served(database: Path, workers: int) -> Iterator[str]:
    """Run an MLflow server on a SQLite database until the block ends; its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(database.parent / "a")]
    with (database.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=database.parent, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def main() -> None:
    """Measure a step with SQLite, and the first two against a server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--step", metavar="URI", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(options.step, options.batch)
        return

    from katib_flow.wording import counted

    def measure(title: str, uri: str) -> None:
        print(title, flush=True)
        subprocess.run([sys.executable, __file__, "--step", uri, "--batch", str(options.batch)], check=True)

    with tempfile.TemporaryDirectory() as name:
        local, remote = Path(name) / "local.db", Path(name) / "remote.db"
        fill(local, options.trials)
        measure("SQLite", f"sqlite:///{local}")
        with served(remote, options.workers) as uri:
            fill(remote, options.trials, uri)
            measure(f"MLflow server on this machine, {counted(options.workers, 'worker')}: the first step", uri)
            measure("the next step", uri)


if __name__ == "__main__":
    main()
