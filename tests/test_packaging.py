"""What is published: a wheel and an sdist, built as `pip` builds them, and the wheel in an environment of its own.

The environment sees the packages that the tests run with, but not the checkout: what the wheel lacks is missing.
"""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SPEC = """\
name: tiny
objective: {metric: loss, direction: minimize}
parameters: {x: {type: float, min: 0, max: 1}}
algorithm: random
limits: {max_trials: 2}
trial: {command: [python, -c, "print('loss=${x}')"]}
"""
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH"))}
    return subprocess.run([str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    venv.create(folder / "tools", with_pip=True)
    python = folder / "tools" / "bin" / "python"
    got = run(python, "-m", "pip", "-q", "--disable-pip-version-check", "install", "hatchling>=1.25", cwd=folder)
    if got.returncode:
        pytest.skip(f"hatchling cannot be had here: {got.stderr.strip().splitlines()[-1]}")
    done = run(python, "-m", "hatchling", "build", "-d", folder / "dist", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    (wheel,) = built.glob("*.whl")
    done = run(folder / "bin" / "python", "-m", "pip", "-q", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    around = [path for path in sys.path if path.endswith("site-packages")]
    (site / "around.pth").write_text("\n".join(around) + "\n")  # without what .pth files there add: the checkout
    return folder / "bin"


def test_the_wheel_holds_all_that_runs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {"py.typed", "tracking/fresh.sql", "reports/report.css", "reports/report.js", "steps/suggest.py"}
    assert {f"katib_flow/{name}" for name in data} <= names
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "katib_flow").rglob("*.py")}
    assert sources <= names
    assert not [name for name in names if not name.startswith(("katib_flow/", "katib_flow-"))]


def test_the_metadata_say_what_the_project_says(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_string(archive.read(name).decode())
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    core = [need for need in metadata.get_all("Requires-Dist") or [] if "extra ==" not in need]
    plain = lambda need: re.split(r"[^A-Za-z0-9_-]", need)[0].lower()  # noqa: E731
    assert sorted(map(plain, core)) == sorted(map(plain, PROJECT["dependencies"]))
    assert metadata["Version"] == PROJECT["version"]
    assert set(metadata.get_all("Provides-Extra") or []) == set(PROJECT["optional-dependencies"])
    assert "# katib-flow" in str(metadata.get_payload())


def test_the_sdist_can_be_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "steps/suggest.py", "katib_flow/__init__.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "site/", ".ci/"))]


def test_the_wheel_alone_runs_an_experiment(installed: Path, tmp_path: Path) -> None:
    program = installed / "katib-flow"
    where = run(installed / "python", "-c", "import katib_flow; print(katib_flow.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(installed.parent)), where.stderr
    version = run(program, "--version", cwd=tmp_path)
    assert PROJECT["version"] in version.stdout, version.stderr
    (tmp_path / "tiny.yaml").write_text(SPEC)
    checked = run(program, "validate", "tiny.yaml", cwd=tmp_path)
    assert "valid; 1 parameter" in checked.stdout, checked.stderr
    done = run(program, "run", "-q", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 succeeded" in done.stdout
