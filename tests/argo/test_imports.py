"""What the text of a module tells of its imports, and of the names that it has."""

import re
from pathlib import Path

import pytest

from katib_flow.argo.imports import IN_IMAGE, binds, left_behind, not_in_image

HERE = "katib_flow_neighbour"


@pytest.fixture(autouse=True)
def _neighbour(tmp_path, monkeypatch):
    """A module, a package and a package without __init__ in a directory of the user's."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{HERE}.py").touch()
    (tmp_path / "katib_flow_folder").mkdir()
    (tmp_path / "katib_flow_folder" / "part.py").touch()


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        (f"import {HERE}", [HERE]),
        (f"from {HERE} import data", [HERE]),
        (f"def train():\n    import {HERE} as helper", [HERE]),
        ("import katib_flow_folder.part", ["katib_flow_folder"]),
        ("from . import data", ["."]),
        ("from .data import load", [".data"]),
        (f"import os, numpy, katib_flow, {HERE}\nimport {HERE}", [HERE]),
        ("import katib_flow_no_such_module", []),  # the image may have it
        (f"try:\n    import {HERE}\nexcept ImportError:\n    pass", []),
        (f"try:\n    pass\nexcept ValueError:\n    import {HERE}", [HERE]),
        (f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {HERE}", []),
        (f'if __name__ == "__main__":\n    import {HERE}', []),
        ("def broken(", []),
    ],
)
def test_imports_of_the_users_own_files_are_found(code, modules):
    assert [each.module for each in left_behind(code, ())] == modules


def test_a_module_that_pip_installs_into_the_pod_is_not_left_behind(monkeypatch):
    monkeypatch.setattr("katib_flow.argo.imports.packages_distributions", lambda: {HERE: ["Neighbour_Tools"]})
    assert left_behind(f"import {HERE}", ["neighbour-tools>=1.2"]) == []
    assert len(left_behind(f"import {HERE}", ["neighbour"])) == 1


@pytest.mark.parametrize(
    ("code", "bound"),
    [
        ("def train(): ...", True),
        ("async def train(): ...", True),
        ("class train: ...", True),
        ("train = other", True),
        ("if x:\n    from y import z as train", True),
        ("from x import *", True),
        ("def other():\n    train = 1", False),
        ("import train.part", True),
        ("train.x = 1", False),
        ("def broken(", True),  # the pod tells where
    ],
)
def test_a_name_is_looked_for_at_the_top_level(code, bound):
    assert binds(code, "train") == bound


@pytest.mark.parametrize(
    ("code", "packages", "lacking"),
    [
        ("import sklearn.svm", [], [("sklearn", "scikit-learn", 1)]),
        ("def train():\n    from sklearn import svm", [], [("sklearn", "scikit-learn", 2)]),
        ("import sklearn", ["scikit_learn>=1.4"], []),
        ("import os, numpy, yaml, katib_flow, grpc, mlflow", [], []),
        ("try:\n    import sklearn\nexcept ImportError:\n    pass", [], []),
        ("import katib_flow_no_such_module", [], []),
        ("no python", [], []),
    ],
)
def test_packages_that_the_image_of_the_steps_lacks_are_named(
    code: str, packages: list[str], lacking: list[tuple[str, str, int]]
) -> None:
    assert [(one.module, one.what, one.line) for one in not_in_image(code, packages)] == lacking


def test_what_the_image_is_said_to_have_is_what_is_installed_into_it() -> None:
    requirements = Path(__file__).parents[2] / "dockerfiles" / "steps-requirements.txt"
    names = re.findall(r"^([\w-]+)==", requirements.read_text(), re.MULTILINE)
    assert {name.lower() for name in names} | {"katib-flow", "mlflow"} == IN_IMAGE
