"""The examples of the page on Python, run as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

from katib_flow.tracking import Status, Store

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def block(section: str) -> str:
    """The first program of a section of the page."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def run(program: str, directory: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", program], cwd=directory, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_loop_of_your_own(tmp_path: Path) -> None:
    out = run(block("A loop of your own"), tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'katib_flow.db'}")
    record = store.find("bread")
    history = store.history(record, series=True)
    assert (record.status, len(history)) == (Status.SUCCEEDED, 12)
    assert history[1].message == "burnt"
    assert next(metric.value for metric in history[0].series["taste"]) == 40
    best = record.experiment.best(history)
    assert best is not None
    assert out.strip() == f"{dict(best.assignment)} {dict(best.observations)}"


def test_in_a_notebook(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(block("In a notebook"))
    out = run("import runpy; runpy.run_path('notebook.py', run_name='__main__')", tmp_path)
    begun, ended = out.splitlines()
    assert begun.startswith("running ")
    assert ended == "succeeded 6"
    assert Store(f"sqlite:///{tmp_path / 'katib_flow.db'}").find("train").status is Status.SUCCEEDED


def test_with_scikit_learn(tmp_path: Path) -> None:
    out = run(block("With scikit-learn"), tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'katib_flow.db'}")
    record = store.find("svc")
    history = store.history(record)
    best = record.experiment.best(history)
    assert best is not None
    assert (record.status, len(history)) == (Status.SUCCEEDED, 12)
    assert out.startswith(f"{dict(best.assignment)} {best.observations['score']} ")
