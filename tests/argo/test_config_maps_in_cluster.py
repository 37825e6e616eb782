"""The ConfigMap that holds a template, asked of a cluster by the real client: compiled, submitted, judged."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import reached
from typer.testing import CliRunner

from katib_flow.argo.cluster import WORKFLOW
from katib_flow.argo.config_maps import in_cluster
from katib_flow.argo.spec_text import decode_spec
from katib_flow.cli.app import app
from katib_flow.loop import load
from katib_flow.testing.kubernetes import FakeCluster

MANIFEST = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: digits}
spec:
  objective: {type: minimize, objectiveMetricName: loss}
  algorithm: {algorithmName: random}
  maxTrialCount: 4
  maxFailedTrialCount: 1
  parameters:
    - {name: lr, parameterType: double, feasibleSpace: {min: "0.01", max: "0.05"}}
  trialTemplate:
    primaryContainerName: training
    trialParameters:
      - {name: learningRate, reference: lr}
    configMap: {configMapName: templates, configMapNamespace: kubeflow, templatePath: job.yaml}
"""
JOB = """\
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      containers:
        - {name: training, image: "train:1", command: [train, "--lr=${trialParameters.learningRate}"]}
"""
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "templates"}, "data": {"job.yaml": JOB}}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "katib.yaml").write_text(MANIFEST)
    fake = FakeCluster(namespace="kubeflow")
    with reached(fake, tmp_path):
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield fake


def call(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), catch_exceptions=True)


def test_what_is_compiled_holds_the_text(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.create(CONFIG_MAP)
    done = call("compile", "katib.yaml")
    assert done.exit_code == 0, done.output
    given = {item["name"]: item["value"] for item in yaml.safe_load(done.stdout)["spec"]["arguments"]["parameters"]}
    container = decode_spec(given["spec"], "spec").trial.container
    assert container is not None
    assert container.command == ("train", "--lr=${lr}")
    (tmp_path / "cm.yaml").write_text(yaml.safe_dump(CONFIG_MAP))
    cluster.delete(("v1", "ConfigMap"), "templates")
    assert call("compile", "katib.yaml", "--config-map", "cm.yaml").stdout == done.stdout


def test_what_is_submitted_holds_the_text(cluster: FakeCluster) -> None:
    cluster.create(CONFIG_MAP)
    done = call("submit", "katib.yaml", "-n", "kubeflow")
    assert done.exit_code == 0, done.output
    (workflow,) = cluster.find(WORKFLOW, {})
    assert "train:1" in str(workflow["spec"])


def test_a_config_map_that_the_cluster_has_not_is_a_mistake_wherever_it_is_asked(cluster: FakeCluster) -> None:
    for command in ("validate", "compile", "import", "run", "submit"):
        done = call(command, "katib.yaml")
        words = "found 'templates', need the name of a ConfigMap in the namespace kubeflow: the kubeconfig's cluster"
        assert words in str(done.exception), done.output


def test_a_key_that_it_has_not_is_told_with_those_that_it_has(cluster: FakeCluster) -> None:
    cluster.create(CONFIG_MAP | {"data": {"jobs.yaml": JOB}})
    said = str(call("validate", "katib.yaml").exception)
    assert "found 'job.yaml', need a key of ConfigMap kubeflow/templates: it has jobs.yaml; did you mean" in said
    cluster.create(CONFIG_MAP | {"metadata": {"name": "empty"}, "data": None})
    assert in_cluster()("kubeflow", "empty") == {}


def test_validate_without_a_cluster_says_where_the_template_is_looked_for(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    done = call("validate", "katib.yaml")
    assert (done.exit_code, done.stdout) == (
        0, "katib.yaml: valid; 1 parameter, infinitely many points, algorithm random\n"
    )  # fmt: skip
    (said,) = done.stderr.splitlines()
    assert said.startswith(
        "note: trial: the template, job.yaml of ConfigMap kubeflow/templates, is read from the cluster"
    )
    assert "not checked now: Kubernetes: found no cluster" in said
    for command in ("compile", "submit", "import", "run"):
        done = call(command, "katib.yaml")
        assert "found 'templates', need a readable ConfigMap (Kubernetes: found no cluster" in str(done.exception)


def test_python_may_ask_the_cluster_as_well(cluster: FakeCluster) -> None:
    cluster.create(CONFIG_MAP)
    container = load("katib.yaml", config_maps=in_cluster()).trial.container
    assert container is not None
    assert container.image == "train:1"


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cm.yaml: cannot be read: No such file"), ("a: [", "cm.yaml:1: not readable")]
)
def test_a_file_of_config_maps_that_cannot_be_read_is_told(
    cluster: FakeCluster, tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "cm.yaml").write_text(text)
    assert said in str(call("validate", "katib.yaml", "--config-map", "cm.yaml").exception)
