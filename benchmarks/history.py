"""The suggest step on a long history: seconds and memory of a fresh process, on SQLite and against an MLflow server.

python benchmarks/history.py [--trials N] [--batch K] [--workers W]. What is measured is a whole step: import, open the
store, find the experiment, read its history, suggest K trials and record them. The server runs on this machine beside
the step, with W workers, on SQLite. Its first step is told of every run; the next ones of those that may have changed.
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

FIGURE = "under 15 s, under 1000 MB"


def step(uri: str, batch: int) -> None:
    """What `suggest` does, each part with its time."""
    begun = time.perf_counter()

    def took(what: str) -> None:
        print(f"  {what:32} {time.perf_counter() - begun:6.2f} s", flush=True)

    from katib_flow import loop
    from katib_flow.history import Trial
    from katib_flow.tracking import Change, Store

    store = Store(uri)
    record = store.find("long")
    took("opened")
    history = store.history(record)
    took(f"read {len(history)} trials")
    suggestions = loop.suggest(record.experiment, history, batch)
    took(f"suggested {len(suggestions)}")
    store.write(record, [Change(Trial(suggestion)) for suggestion in suggestions], lookup=True)
    took(f"recorded {len(suggestions)}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {'memory':32} {memory:6.0f} MB   (figure to reach: {FIGURE})", flush=True)


def fill(database: Path, trials: int, uri: str = "") -> None:
    """Record trials by the fast way, in an experiment that is opened at a URI, a server's perhaps."""
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
    with closing(socket.socket()) as it:
        it.bind(("127.0.0.1", 0))
        port = it.getsockname()[1]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--step", metavar="URI", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(options.step, options.batch)
        return

    def measure(what: str, uri: str) -> None:
        print(what, flush=True)
        subprocess.run([sys.executable, __file__, "--step", uri, "--batch", str(options.batch)], check=True)

    with tempfile.TemporaryDirectory() as name:
        local, remote = Path(name) / "local.db", Path(name) / "remote.db"
        fill(local, options.trials)
        measure("SQLite", f"sqlite:///{local}")
        with served(remote, options.workers) as uri:
            fill(remote, options.trials, uri)
            measure(f"MLflow server, {options.workers} workers, on this machine: the first step", uri)
            measure("the next step", uri)


if __name__ == "__main__":
    main()
