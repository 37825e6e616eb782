"""What a platform team installs: as written by `make templates`, legal, locked, and of the least rights."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from test_workflow import ARGO, needs_schemas, strict
from yaml11 import ambiguous

from katib_flow.argo.install import files

FOLDER = Path(__file__).parents[2] / "workflow_templates"


def objects(kind: str = "") -> list[dict[str, Any]]:
    found = [each for text in files().values() for each in yaml.safe_load_all(text)]
    return [each for each in found if not kind or each["kind"] == kind]


def rights(account: str) -> set[tuple[str, str, str]]:
    roles = {each["metadata"]["name"]: each for each in objects("Role")}
    bound = [
        each["roleRef"]["name"]
        for each in objects("RoleBinding")
        if {"kind": "ServiceAccount", "name": account, "namespace": "katib-flow"} in each["subjects"]
    ]
    return {
        (group, resource, verb)
        for name in bound
        for rule in roles[name]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_files_are_what_make_templates_writes() -> None:
    there = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*.yaml")}
    assert there == files()


def test_every_kustomization_names_files_that_are_there() -> None:
    for name, text in files().items():
        assert [word for document in text.split("---\n") for word in ambiguous(document)] == []
        if name.endswith("kustomization.yaml"):
            folder = name.partition("/")[0]
            listed = {f"{folder}/{each}" for each in yaml.safe_load(text)["resources"]}
            assert listed == {each for each in files() if each.startswith(f"{folder}/") and each != name}


@pytest.mark.parametrize("version", ["schema.json", "schema-3.7.json"])
@pytest.mark.parametrize("kind", ["WorkflowTemplate", "ClusterWorkflowTemplate"])
@needs_schemas
def test_the_template_is_valid_and_holds_no_unknown_key(kind: str, version: str) -> None:
    (template,) = objects(kind)
    schema = json.loads((ARGO / version).read_text())
    definition = {"$ref": f"#/definitions/io.argoproj.workflow.v1alpha1.{kind}"}
    jsonschema.Draft202012Validator({**definition, "definitions": schema["definitions"]}).validate(template)
    assert list(strict(schema, definition, template)) == []


def test_accounts_have_the_least_rights() -> None:
    results = {("argoproj.io", "workflowtaskresults", verb) for verb in ("create", "patch")}
    assert rights("kf-trial") == set()
    assert rights("kf-executor") == results
    assert rights("kf-submitter") == results | {("argoproj.io", "workflows", verb) for verb in ("create", "get")}
    assert rights("kf-reader") == results | {("argoproj.io", "workflows", "get")}
    watches = rights("kf-watcher") - results
    assert {("", "pods", "list"), ("", "pods/log", "get")} <= watches
    assert {verb for _, _, verb in watches} == {"create", "delete", "get", "list", "watch"}
    assert {resource for group, resource, _ in watches if not group} == {"pods", "pods/log"}  # no secrets
    trial = next(each for each in objects("ServiceAccount") if each["metadata"]["name"] == "kf-trial")
    assert trial["automountServiceAccountToken"] is False


def test_each_account_with_rights_has_the_token_that_argo_looks_for() -> None:
    tokens = {each["metadata"]["name"] for each in objects("Secret")}
    assert tokens == {f"kf-{name}.service-account-token" for name in ("executor", "reader", "submitter", "watcher")}


def test_mlflow_is_locked_and_answers_to_its_service_names() -> None:
    (deployment,) = objects("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    security = container["securityContext"]
    assert (security["runAsNonRoot"], security["readOnlyRootFilesystem"]) == (True, True)
    assert security["capabilities"] == {"drop": ["ALL"]}
    hosts = container["args"][container["args"].index("--allowed-hosts") + 1].split(",")
    assert {"mlflow", "mlflow.$(NAMESPACE).svc", "mlflow:5000", "mlflow.$(NAMESPACE).svc.cluster.local:5000"} <= set(
        hosts
    )
    (_, secret) = container["envFrom"]
    assert secret["secretRef"] == {"name": "mlflow", "optional": True}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, for its kustomize")
def test_the_overlay_of_the_documentation_moves_all_to_another_namespace_and_image(tmp_path: Path) -> None:
    documented = (FOLDER.parent / "docs" / "argo.md").read_text()
    overlay = documented[documented.index("namespace: ml\nresources") :].partition("```")[0]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(overlay)
    shutil.copytree(FOLDER, tmp_path / "workflow_templates")
    made = subprocess.run(
        ["kubectl", "kustomize", tmp_path / "mine"], capture_output=True, text=True, check=True
    ).stdout
    found = list(yaml.safe_load_all(made))
    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in found} == {"ml"}
    bindings = [each for each in found if each["kind"] == "RoleBinding"]
    assert {subject["namespace"] for each in bindings for subject in each["subjects"]} == {"ml"}
    assert len(bindings) == 4
    image = "registry.example.com/katib-flow:0.1.0"
    template = next(each for each in found if each["kind"] == "WorkflowTemplate")
    assert template["spec"]["templates"][0]["container"]["image"] == image
    (settings,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "katib-flow")]
    assert settings["data"]["KATIB_FLOW_IMAGE"] == image
