"""The images hold what the package asks for, at the versions that are tested."""

import re
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


@pytest.mark.parametrize("image", ["steps", "nas"])
def test_its_versions_are_those_of_the_constraints(image: str) -> None:
    tested, pinned = required("constraints.txt"), required(f"dockerfiles/{image}-requirements.txt")
    different = {name for name, version in pinned.items() if tested.get(name, version) != version}
    assert different == set()
    assert all(pinned.values())


@pytest.mark.parametrize("image", ["steps", "nas"])
def test_an_image_runs_as_nobody_in_particular(image: str) -> None:
    users = [
        line for line in (ROOT / f"dockerfiles/{image}.Dockerfile").read_text().splitlines() if line.startswith("USER")
    ]
    assert users[-1] == "USER 10001:10001"
