"""The guide from a search to a registered model, run as it is written but for smaller data and a shorter search."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
PAGE = Path(__file__).parents[2] / "docs" / "nas-model.md"
SMALLER = {
    "[1, 28, 28]": "[1, 8, 8]",
    "fashion-mnist": "digits",
    "train_size: 5000": "train_size: 100",
    "20_000": "300",
    "children: 3": "children: 2",
    "steps: 3": "steps: 1",
    "min: 2, max: 6": "min: 1, max: 2",
}
pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    """The page's blocks of code, in small."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for there, here in SMALLER.items():
        found = [block.replace(there, here) for block in found]
    return found


def program(directory: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    quick = {"MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1"}  # which libraries a model needs: MLflow imports them anew
    done = subprocess.run(command, cwd=directory, env={**clean, **quick, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guide_leads_from_a_search_to_a_registered_model(tmp_path: Path) -> None:
    (spec,), python = blocks("yaml"), blocks("python")
    (tmp_path / "fashion.yaml").write_text(spec)
    program(tmp_path, "katib-flow", "run", "-q", "fashion.yaml")
    versions = """
from mlflow import MlflowClient
print(sorted(int(version.version) for version in MlflowClient().search_model_versions("name='fashion'")))
print(network(torch.zeros(3, 1, 8, 8)).shape, model(torch.zeros(3, 1, 8, 8)).shape)
"""
    out = program(tmp_path, sys.executable, "-c", "\n".join(["import torch", *python, versions]))
    assert "as the search left it:" in out
    assert "epoch 1: validation accuracy" in out
    assert "[1, 2]" in out
    assert "torch.Size([3, 10]) torch.Size([3, 10])" in out
