"""The system of the guide, which no package registers, keeps the contract of all systems."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINIMUM = 10  # properties that the contract has at least, so that the test cannot pass by finding none


@pytest.mark.slow
def test_the_system_of_the_guide_keeps_the_contract() -> None:
    pytest.importorskip("torch")
    paths = [str(ROOT / "examples"), *sys.path]
    contracts = ["tests/contracts/test_nas_systems.py", "tests/contracts/test_nas_algorithms.py"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *contracts, "-k", "local-search", "-p", "local_search", "-p", "no:xdist"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    assert result.stdout.count(".") > MINIMUM
