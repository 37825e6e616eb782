"""The images hold what the package asks for, at the versions that are tested."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import experiment

from katib_flow.argo import compile_experiment, to_yaml

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
        "steps": asked([*project["dependencies"], *extras["argo"], *extras["katib"]]) - LEFT_OUT,
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


DIGEST = "@sha256:" + "0123456789abcdef" * 4
STEPS, USER = f"registry.example.com/katib-flow{DIGEST}", f"registry.example.com:5000/user/train{DIGEST}"
TRIALS: dict[str, dict[str, Any]] = {
    "function": {"function": "user_module:train"},
    "command": {"command": ["train", "${lr}"]},
    "container": {"container": {"image": USER, "command": ["train", "${lr}"]}},
}


def images_in(manifest: Any) -> Iterator[str]:
    """Every image that a Workflow names."""
    if isinstance(manifest, dict):
        for key, value in manifest.items():
            if key == "image":
                yield value
            yield from images_in(value)
    elif isinstance(manifest, list):
        for value in manifest:
            yield from images_in(value)


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
@pytest.mark.parametrize("trial", TRIALS)
def test_a_workflow_has_the_images_that_are_pinned_by_digest_and_no_other(trial: str, mode: str) -> None:
    made = experiment(trial=TRIALS[trial], argo={"image": STEPS, "mode": mode})
    text = to_yaml(compile_experiment(made))
    found = set(images_in(yaml.safe_load(text)))
    assert found == ({STEPS, USER} if trial == "container" else {STEPS})


@pytest.mark.parametrize(
    ("variables", "search", "image"),
    [
        ({"KATIB_FLOW_IMAGE": STEPS}, {}, STEPS),
        ({"KATIB_FLOW_IMAGE": USER, "KATIB_FLOW_NAS_IMAGE": STEPS}, {"architecture": {"space": "cell"}}, STEPS),
    ],
)
def test_so_have_those_whose_image_the_environment_names(
    variables: dict[str, str], search: dict[str, Any], image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = {"container": {"image": USER, "command": ["train", "${trial.id}"]}}
    found = set(images_in(yaml.safe_load(to_yaml(compile_experiment(experiment(trial=command, **search))))))
    assert found == {image, USER}


def test_an_image_is_built_from_a_base_by_its_digest() -> None:
    base = f"docker.io/library/python{DIGEST}"
    words = ["make", "-n", "images", f"BASE={base}", "BUILDER=buildah", "wheel="]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.count(f"--build-arg BASE={base} ") == 2  # that of PyTorch is built from the first
