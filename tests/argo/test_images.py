"""The images hold what the package asks for, at the versions that are tested."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = {"rich", "typer"}  # of the command line
INSTEAD = {"mlflow": "mlflow-skinny"}


def required(file: str) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines if line)}


def asked(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", each)[0].lower() for each in requirements}


@pytest.mark.parametrize("image", ["steps", "nas"])
def test_an_image_has_what_the_package_asks_for(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {
        "steps": asked([*project["dependencies"], *extras["argo"]]) - LEFT_OUT,
        "nas": asked(extras["nas"]),
    }[image]
    assert required(f"dockerfiles/{image}-requirements.txt").keys() == {INSTEAD.get(name, name) for name in needed}


@pytest.mark.parametrize("image", ["steps", "nas", "mlflow"])
def test_its_versions_are_those_of_the_constraints(image: str) -> None:
    tested, pinned = required("constraints.txt"), required(f"dockerfiles/{image}-requirements.txt")
    different = {name for name, version in pinned.items() if tested.get(name, version) != version}
    assert different == set()
    assert all(pinned.values())


@pytest.mark.parametrize("image", ["steps", "nas", "mlflow"])
def test_an_image_runs_as_nobody_in_particular(image: str) -> None:
    users = [
        line for line in (ROOT / f"dockerfiles/{image}.Dockerfile").read_text().splitlines() if line.startswith("USER")
    ]
    assert users[-1] == "USER 10001:10001"


@pytest.mark.parametrize(
    ("words", "index"),
    [
        ([], ""),
        (["TORCH=cpu"], "https://download.pytorch.org/whl/cpu"),
        (["INDEX=https://mine/simple"], "https://mine/simple"),
    ],
)
def test_one_word_chooses_the_build_of_pytorch(words: list[str], index: str) -> None:
    told = subprocess.run(
        ["make", "-n", "images", "BUILDER=builder", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (build,) = [line for line in told.splitlines() if "nas.Dockerfile" in line]
    assert f"--build-arg INDEX={index} -f" in build
