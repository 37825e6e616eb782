"""The examples of the page on callbacks, run as they are written."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from katib_flow.history import State
from katib_flow.tracking import Status, Store

PAGE = Path(__file__).parents[2] / "docs" / "callbacks.md"
LIBRARIES = {
    "PyTorch Lightning": "lightning",
    "Keras": "keras",
    "XGBoost": "xgboost",
    "LightGBM": "lightgbm",
    "Transformers": "transformers",
}
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("section", LIBRARIES)
def test_an_example_runs_as_it_stands(section: str, tmp_path: Path) -> None:
    module = LIBRARIES[section]
    for name in {"keras": (module, "torch"), "transformers": (module, "accelerate")}.get(module, (module,)):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}, which is not installed here")
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    program = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "train.py").write_text(program.replace("max_trials=4", "max_trials=1"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{"), done.stdout
    store = Store(f"sqlite:///{tmp_path / 'katib_flow.db'}")
    record = store.find("train")
    history = store.history(record, series=True)
    assert (record.status, len(history)) == (Status.SUCCEEDED, 1)
    assert {trial.state for trial in history} <= {State.SUCCEEDED, State.EARLY_STOPPED}
    metric = record.experiment.objective[0].metric
    assert all(len(trial.series[metric]) > 1 for trial in history)
