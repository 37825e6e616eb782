"""Every example, ours and Katib's, compiles to a Workflow that two versions of Argo take, strictly."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_workflow import ARGO, KIND, strict

from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.loop import load

ROOT = Path(__file__).parents[2]
KATIBS = ARGO.parent / "katib-examples"
EXAMPLES = [*sorted((ROOT / "examples").glob("*.yaml")), *sorted(KATIBS.glob("*.yaml"))]


@cache
def schema(version: str) -> Any:
    file = ARGO / version
    return json.loads(file.read_text()) if file.exists() else None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_compiles(path: Path) -> None:
    experiment = load(path)
    if experiment.argo.image is None:
        experiment = experiment.model_copy(
            update={"argo": experiment.argo.model_copy(update={"image": "registry.example.com/all:1"})}
        )
    workflow = compile_experiment(experiment)
    assert len(to_yaml(workflow)) < 100_000
    for version in ("schema.json", "schema-3.7.json"):
        if found := schema(version):
            definition = {"$ref": f"#/definitions/{KIND}"}
            made = workflow.to_dict()
            jsonschema.Draft202012Validator({**definition, "definitions": found["definitions"]}).validate(made)
            assert list(strict(found, definition, made)) == []
