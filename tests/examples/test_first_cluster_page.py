"""The page on a first cluster: its commands of ours take their options, its folders are there, its spec compiles."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.argo.inline import inlined
from katib_flow.argo.install import MLFLOW_IMAGE
from katib_flow.cli.app import app
from katib_flow.loop import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "first-cluster.md").read_text(encoding="utf-8")
LINES = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
OURS = [line for line in LINES if line.startswith("katib-flow ")]


@pytest.mark.parametrize("line", OURS)
def test_a_command_of_ours_takes_what_it_is_given(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, arguments)
    assert context.params


def test_the_page_names_commands_of_ours() -> None:
    assert {line.split()[1] for line in OURS} == {"doctor", "validate", "submit", "best", "trials", "report"}


def test_the_folders_that_are_applied_are_there() -> None:
    folders = [line.split()[-1] for line in LINES if line.startswith("kubectl apply -k")]
    assert folders == ["workflow_templates/namespaced", "workflow_templates/mlflow"]
    assert all((ROOT / folder / "kustomization.yaml").is_file() for folder in folders)
    assert all((ROOT / path).is_file() for path in re.findall(r"-f (dockerfiles/\S+)", TEXT))
    assert MLFLOW_IMAGE in TEXT


def test_what_the_page_asks_for_is_in_the_templates() -> None:
    documents = [
        document
        for path in sorted((ROOT / "workflow_templates" / "mlflow").glob("mlflow.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    assert {("Deployment", "mlflow"), ("Service", "mlflow")} <= names
    assert {document["metadata"]["namespace"] for document in documents} == {"katib-flow"}


def test_mlflow_answers_to_the_name_by_which_it_is_called() -> None:
    hosts = set(re.findall(r"--tracking-uri http://(\S+?)[`\s]", TEXT))
    manifest = (ROOT / "workflow_templates" / "mlflow" / "mlflow.yaml").read_text(encoding="utf-8")
    (allowed,) = re.findall(r'--allowed-hosts"\n\s*- "(.*)"', manifest)
    assert hosts == {"localhost:5000"}
    assert hosts <= set(allowed.split(","))


def test_its_experiment_compiles_with_its_code_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, name in (("python", "first.py"), ("yaml", "first.yaml")):
        Path(name).write_text(re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[0])
    manifest = to_yaml(compile_experiment(inlined(load("first.yaml"))))
    assert "math.exp" in manifest
    assert yaml.safe_load(manifest)["metadata"]["namespace"] == "katib-flow"
