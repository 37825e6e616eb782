"""Processor time of each program of steps/ and of each command that reads, and the share of its imports.

    python benchmarks/steps.py [--trials 100] [--algorithm tpe] [--repeats 3] [--only suggest list]

The store is SQLite with a random history. Each program runs in a process of its own, as in its pod. A row has the
processor seconds, as medians over several runs: all of them, those that the import of each package takes (including
the packages that it imports, such as SQLAlchemy and pandas for ``mlflow``), and the rest, our own work and imports.
"""

import argparse
import json
import os
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAVY = ("mlflow", "kubernetes", "hera", "scipy", "sklearn", "numpy", "pydantic", "typer", "rich", "yaml")
RUN, CONTAINED = "steps-x7k2p", "contained-x7k2p"
TRACE = "KATIB_FLOW_BENCHMARK_TRACE"


def traced(words: Sequence[str]) -> None:
    """Run a program in this process, and write the seconds of its imports to the file named by ``TRACE``."""
    import builtins

    plain: Callable[..., Any] = builtins.__import__
    spent: dict[str, float] = {}
    within: list[str] = []

    def imported(name: str, *args: Any, **options: Any) -> Any:
        package = name.partition(".")[0]
        if within or package not in HEAVY or name in sys.modules:
            return plain(name, *args, **options)
        within.append(package)
        begun = time.process_time()
        try:
            return plain(name, *args, **options)
        finally:
            within.pop()
            spent[package] = spent.get(package, 0.0) + time.process_time() - begun

    builtins.__import__ = imported
    sys.argv = list(words)
    try:
        if words[0] == "katib_flow":
            runpy.run_module("katib_flow", run_name="__main__")
        else:
            runpy.run_path(words[0], run_name="__main__")
    finally:
        Path(os.environ[TRACE]).write_text(json.dumps({"all": time.process_time(), **spent}))


def prepared(folder: Path, trials: int, algorithm: str) -> dict[str, Any]:
    """Record two experiments, each with ended trials and a pending one; return the spec of the first."""
    import numpy as np

    from katib_flow.history import State, Suggestion, Trial
    from katib_flow.spaces import search_space
    from katib_flow.spec import Experiment
    from katib_flow.tracking import Change, Store

    (folder / "nothing.py").write_text("def train(**parameters):\n    return 1.0\n")
    (folder / "busybox").symlink_to(shutil.which("busybox") or shutil.which("true") or "/bin/true")
    names = [f"x{number}" for number in range(10)]
    spec: dict[str, Any] = {
        "name": "steps",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {name: {"type": "float", "min": 1e-4, "max": 1, "scale": "log"} for name in names},
        "algorithm": {"name": algorithm, "seed": 3},
        "limits": {"max_trials": 10 * trials, "parallel_trials": 4},
        "trial": {"function": "nothing:train"},
        "argo": {"image": "user:1"},
    }
    store, rng, now = Store(f"sqlite:///{folder}/steps.db"), np.random.default_rng(0), time.time()
    container = spec | {"name": "contained", "trial": {"container": {"image": "user:1", "command": ["true"]}}}
    for key, data in ((RUN, spec), (CONTAINED, container)):
        experiment = Experiment.parse(data)
        points = [Suggestion(index, search_space(experiment).draw(rng)) for index in range(trials + 1)]
        ended = [
            Trial(point, State.SUCCEEDED, observations={"score": float(rng.random())}, started=now, ended=now)
            for point in points[:-1]
        ]
        store.write(store.create(experiment, key=key), [Change(trial) for trial in [*ended, Trial(points[-1])]])
    return spec


def programs(trials: int, directory: Path) -> dict[str, list[str]]:
    """The command line of each program, by the name of its row."""
    run, out = ["--run", RUN], ["--out", str(directory)]
    trial = ["--trial", f"t{trials:05}", "--directory", str(directory / "trial")]
    return {
        "suggest": ["steps/suggest.py", *run, "--iteration", "9", *out],
        "collect-metrics": ["steps/collect_metrics.py", *run, "--iteration", "9", *out],
        "function trial": ["steps/train.py", "run", *run, *trial],
        "prepare": ["steps/train.py", "prepare", "--run", CONTAINED, *trial],
        "--help": ["katib_flow", "--help"],
        "list": ["katib_flow", "list"],
        "status": ["katib_flow", "status", "steps"],
        "best": ["katib_flow", "best", "steps"],
        "trials": ["katib_flow", "trials", "steps"],
    }


def measured(words: Sequence[str], spec: dict[str, Any], store: Path, folder: Path) -> dict[str, float]:
    """Run a program once, on a copy of the store; return the seconds by package, and all of them."""
    for file in store.iterdir():
        (shutil.copytree if file.is_dir() else shutil.copy)(file, folder / file.name)
    environment = os.environ | {
        "KATIB_FLOW_SPEC": json.dumps(spec),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/steps.db",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{folder}:{os.environ['PATH']}",
        TRACE: str(folder / "trace.json"),
    }
    first = str(ROOT / words[0]) if words[0].endswith(".py") else words[0]
    argv = [sys.executable, __file__, "--traced", first, *words[1:]]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words}: exit code {done.returncode}\n{done.stderr}")
    return json.loads((folder / "trace.json").read_text())


def main() -> None:
    """Print a Markdown table with a row for each program."""
    if sys.argv[1:2] == ["--traced"]:
        traced(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--algorithm", default="tpe")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="the names of the programs to run; all by default")
    args = parser.parse_args()
    columns = ("all", *HEAVY, "rest")
    print("| program | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "store"
        store.mkdir()
        spec = prepared(store, args.trials, args.algorithm)
        for program in args.only or programs(args.trials, Path()):
            runs: list[dict[str, float]] = []
            for repeat in range(args.repeats):
                folder = Path(name) / f"{program}-{repeat}"
                folder.mkdir()
                runs.append(measured(programs(args.trials, folder / "kf")[program], spec, store, folder))
            seconds = {package: statistics.median(run.get(package, 0.0) for run in runs) for package in columns[:-1]}
            rest = seconds["all"] - sum(seconds[package] for package in HEAVY)
            row = [*(seconds[package] for package in columns[:-1]), rest]
            print(f"| {program} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    main()
