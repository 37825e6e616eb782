"""Many experiments at once on one MLflow server: do they need more per trial over ten thousand trials?

    .venv/bin/python benchmarks/load.py --experiments 20 --trials 500 --minutes 10

The benchmark starts `mlflow server` with SQLite on a free port of the loopback, and a `katib-flow run` per experiment,
each in a folder of its own, whose trials are a function that takes no time. The server has as many connections to its
database as in workflow_templates/mlflow, or MLFLOW_SQLALCHEMYSTORE_POOL_SIZE. Every few seconds, the benchmark samples
the database of the server (the number of ended trials), /proc (memory and descriptors of all schedulers, of all workers
and of the server), and the size of all .katib_flow folders. It prints one line for each quarter of the trials; a rise
from the first quarter to the last is growth. It ends when all experiments have ended or the time is up, and says how
many were cut off.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from katib_flow.argo.install import DATABASE_CONNECTIONS
from katib_flow.wording import counted

SPEC = """\
name: load-{number}
objective: {{metric: loss, direction: minimize}}
parameters: {{x: {{type: float, min: 0, max: 1}}}}
algorithm: {{name: random, seed: {number}}}
limits: {{max_trials: {trials}, parallel_trials: {parallel}}}
trial: {{function: "bowl:bowl"}}
tracking: {{uri: "{uri}"}}
"""
MODULE = "def bowl(x):\n    return (x - 0.3) ** 2\n"
ENDED = "SELECT count(*) FROM tags WHERE key = 'katib_flow.state' AND value = 'succeeded'"
KILOBYTES = 1024
POOL = "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"


@dataclass
class Use:
    """Proportional memory (PSS) in MB, open descriptors and the number of processes, summed up."""

    megabytes: float = 0.0
    descriptors: int = 0
    processes: int = 0

    def add(self, pid: str) -> None:
        """Add a process, unless it has ended."""
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            self.megabytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / KILOBYTES
            self.descriptors += len(os.listdir(f"/proc/{pid}/fd"))
            self.processes += 1
        except OSError:  # the process has ended in the meantime
            pass


@dataclass
class Sample:
    """The state at one moment, in seconds since the start.

    Attributes:
        uses: the use of all schedulers, all workers and the server.
        disk_kilobytes: the size of all .katib_flow folders.
    """

    seconds: float
    trials: int
    uses: dict[str, Use] = field(default_factory=dict)
    disk_kilobytes: float = 0.0


def children() -> dict[int, list[int]]:
    """The children of each process, by its id."""
    tree: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        tree.setdefault(parent, []).append(int(path.name))
    return tree


def descendants(pid: int, tree: dict[int, list[int]]) -> Iterator[int]:
    """The children of a process, their children, and so on."""
    for child in tree.get(pid, ()):
        yield child
        yield from descendants(child, tree)


def sampled(began: float, database: Path, server: int, schedulers: list[int], folder: Path) -> Sample:
    """Sample the database, the processes and the disk.

    Args:
        began: ``time.monotonic()`` at the start.
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        ((trials,),) = connection.execute(ENDED)
    uses = {"schedulers": Use(), "workers": Use(), "server": Use()}
    tree = children()
    for pid in schedulers:
        uses["schedulers"].add(str(pid))
        for child in descendants(pid, tree):
            uses["workers"].add(str(child))
    for pid in (server, *descendants(server, tree)):
        uses["server"].add(str(pid))
    disk = sum(blocks(path) for path in folder.glob("*/.katib_flow")) / 2
    return Sample(time.monotonic() - began, trials, uses, disk)


def blocks(folder: Path) -> int:
    """Blocks of 512 bytes that the files below a folder take; files that disappear meanwhile are skipped."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(here, name)).st_blocks
    return total


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Run a server until the block ends; its address, its process id, and its SQLite database."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = folder / "mlflow.db"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1"]
    variables = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        POOL: os.environ.get(POOL, str(DATABASE_CONNECTIONS)),
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process.pid, database
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measured(options: argparse.Namespace, folder: Path) -> tuple[list[Sample], list[int | None]]:
    """The samples, and the exit code of each experiment; None if it was cut off."""
    with mlflow_server(folder) as (uri, server, database):
        runs = [started(number, options, uri, folder) for number in range(options.experiments)]
        began, samples = time.monotonic(), []
        while any(run.poll() is None for run in runs) and time.monotonic() - began < options.minutes * 60:
            samples.append(sampled(began, database, server, [run.pid for run in runs if run.poll() is None], folder))
            time.sleep(options.every)
        samples.append(sampled(began, database, server, [run.pid for run in runs if run.poll() is None], folder))
        codes = [run.poll() for run in runs]
        for run in runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    return samples, codes


def started(number: int, options: argparse.Namespace, uri: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start the scheduler of one experiment in a folder of its own."""
    here = folder / f"{number:02d}"
    here.mkdir()
    (here / "bowl.py").write_text(MODULE)
    text = SPEC.format(number=number, trials=options.trials, parallel=options.parallel, uri=uri)
    (here / "spec.yaml").write_text(text)
    command = [sys.executable, "-m", "katib_flow", "run", "spec.yaml", "--quiet"]
    with (here / "log").open("wb") as log:
        variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        return subprocess.Popen(command, cwd=here, env=variables, stdout=log, stderr=log, start_new_session=True)


def quarters(samples: list[Sample]) -> Iterator[dict[str, object]]:
    """For each quarter of the trials: trials per second, and medians of memory, descriptors and disk space."""
    last = samples[-1].trials
    for number in range(4):
        low, high = last * number / 4, last * (number + 1) / 4
        part = [sample for sample in samples if low <= sample.trials <= high and sample.uses["schedulers"].processes]
        if len(part) < 2:
            continue
        spent = part[-1].seconds - part[0].seconds
        row: dict[str, object] = {
            "trials": part[-1].trials,
            "per_second": round((part[-1].trials - part[0].trials) / spent, 2),
        }
        for name in part[0].uses:
            uses = [sample.uses[name] for sample in part if sample.uses[name].processes]
            if uses:
                row[f"{name}_mb_each"] = round(sorted(use.megabytes / use.processes for use in uses)[len(uses) // 2], 1)
                row[f"{name}_fds_each"] = round(
                    sorted(use.descriptors / use.processes for use in uses)[len(uses) // 2], 1
                )
        row["disk_kb_an_experiment"] = round(sorted(s.disk_kilobytes for s in part)[len(part) // 2], 1)
        yield row


def main() -> None:
    """Print a line of JSON for each quarter, the failed experiments, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--trials", type=int, default=500, help="trials per experiment")
    parser.add_argument("--parallel", type=int, default=2, help="parallel trials per experiment")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        samples, codes = measured(options, Path(name))
        for row in quarters(samples):
            row["disk_kb_an_experiment"] = round(row["disk_kb_an_experiment"] / options.experiments, 1)  # type: ignore[operator]
            print(json.dumps(row))
        failed = [number for number, code in enumerate(codes) if code]
        for number in failed:
            log = (Path(name) / f"{number:02d}" / "log").read_text()
            print(f"load-{number}: exit code {codes[number]}: {log[-500:]}")
        total, last = options.experiments * options.trials, samples[-1]
        cut = f", {counted(codes.count(None), 'experiment')} cut off after --minutes" if None in codes else ""
        failures = f"{counted(len(failed), 'experiment')} failed"
        print(f"{last.trials} of {counted(total, 'trial')} in {last.seconds:.0f} s; {failures}{cut}")


if __name__ == "__main__":
    main()
