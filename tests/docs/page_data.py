"""Readers for the blocks that are not programs: specs and parts of specs, JSON, lines of a log, objects of a cluster.

A block is identified by its page and by a text that only it contains; a spec, or a part of one, needs no row.
"""

import importlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from page_blocks import PAGES, ROOT, Block
from page_blocks import name as page_name

from katib_flow.errors import InvalidSpec
from katib_flow.metrics.text import LineParser
from katib_flow.models.topology import Topology
from katib_flow.outside.protocol import Request, read_reply
from katib_flow.spec import Experiment
from katib_flow.spec.load import parse_spec

Reader = Callable[[Block], object]
WHOLE: dict[str, Any] = {
    "name": "page",
    "objective": {"metric": "accuracy", "direction": "maximize"},
    "parameters": {
        "lr": {"type": "float", "min": 0.0001, "max": 1.0, "scale": "log"},
        "optimizer": {"type": "categorical", "values": ["adam", "sgd"]},
    },
    "limits": {"max_trials": 10},
    "trial": {"command": ["train", "--lr=${lr}"]},
}
"""A whole spec, in which a part on a page replaces sections."""
SECTIONS = set(Experiment.model_fields) - {"name"}


def topology(block: Block) -> None:
    data = yaml.safe_load(block.text)
    assert Topology.parse(data).parameters > 0


def request(block: Block) -> None:
    Request.model_validate_json(block.text)


def reply(block: Block) -> None:
    assert len(read_reply(block.text.encode()).suggestions) == 2


def trial_file(block: Block) -> None:
    source = (ROOT / "katib_flow" / "trial" / "protocol.py").read_text()
    assert [key for key in json.loads(block.text) if f'"{key}": ' not in source] == []


def tutorial_mistake(block: Block) -> None:
    """The block is the message of `validate` for the mistake that the tutorial suggests."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (text,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "scale: log}" in text]
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(text.replace("scale: log}", "scales: log}", 1), "svm.yaml")
    assert block.text.split() == ["error:", *str(caught.value).split()]


def limits_of_namespace(block: Block) -> None:
    """The manifests of a namespace have the same ConfigMap."""
    limits = yaml.safe_load(block.text)
    settings = (ROOT / "workflow_templates" / "namespaced" / "settings.yaml").read_text()
    kinds = {(known["kind"], known["metadata"]["name"]) for known in yaml.safe_load_all(settings) if known}
    assert (limits["kind"], limits["metadata"]["name"]) in kinds


def overlay(block: Block) -> None:
    folders = yaml.safe_load(block.text)["resources"]
    assert all((ROOT / "docs" / folder / "kustomization.yaml").is_file() for folder in folders)


def text_metrics(block: Block) -> None:
    (accuracy, loss) = LineParser(["accuracy", "loss"]).parse(block.text)
    assert (accuracy.value, accuracy.step, loss.value, loss.step) == (0.93, 3, 0.21, 3)


def json_metrics(block: Block) -> None:
    parser = LineParser(["loss", "eval_loss"], "json")
    values = [(metric.name, metric.value) for line in block.text.splitlines() for metric in parser.parse(line)]
    assert values == [("loss", 2.5263), ("eval_loss", 2.3107)]


def container_collector(block: Block) -> None:
    """The block shows both kinds of collector; a spec has the one for its kind of trial."""
    metrics = yaml.safe_load(block.text)["metrics"]
    command = {name: value for name, value in metrics.items() if name not in ("container", "path")}
    Experiment.parse({**WHOLE, "metrics": command})
    container = {name: value for name, value in metrics.items() if name != "command"}
    trial = {"container": {"image": "registry.example.com/train:1", "command": ["train", "--lr=${lr}"]}}
    Experiment.parse({**WHOLE, "trial": trial, "metrics": container})


def image_overlay(block: Block) -> None:
    overlay = yaml.safe_load(block.text)
    folder = ROOT / "docs" / overlay["resources"][0]
    assert f'image: "{overlay["images"][0]["name"]}:' in (folder / "mlflow.yaml").read_text()


def template_task(block: Block) -> None:
    tune, deploy = yaml.safe_load(block.text)
    objects = list(yaml.safe_load_all((ROOT / "workflow_templates" / "namespaced" / "katib-flow.yaml").read_text()))
    reference = tune["templateRef"]
    (template,) = [object for object in objects if object["metadata"]["name"] == reference["name"]]
    (named,) = [one for one in template["spec"]["templates"] if one["name"] == reference["template"]]
    given = {parameter["name"] for parameter in tune["arguments"]["parameters"]}
    assert given <= {parameter["name"] for parameter in named["inputs"]["parameters"]}
    wanted = deploy["arguments"]["parameters"][0]["value"].strip("{}").rpartition(".")[2]
    assert wanted in {parameter["name"] for parameter in named["outputs"]["parameters"]}


READERS: dict[tuple[str, str], Reader] = {
    ("docs/argo.md", "newName: registry.example.com/katib-flow-mlflow"): image_overlay,
    ("docs/argo.md", "templateRef:"): template_task,
    ("docs/topology.md", '"schema": "topology/1"'): topology,
    ("docs/topology.md", "input: {tokens: 97}"): topology,
    ("docs/own-algorithm.md", '"trials": ['): request,
    ("docs/own-algorithm.md", '"suggestions": ['): reply,
    ("docs/share-cluster.md", "kind: ConfigMap"): limits_of_namespace,
    ("docs/share-cluster.md", "namespace: team-vision"): overlay,
    ("docs/tutorial.md", "parameters.C.scales"): tutorial_mistake,
    ("docs/trials.md", '"checkpoint_dir"'): trial_file,
    ("docs/trials.md", "epoch 3: accuracy=0.93"): text_metrics,
    ("docs/trials.md", "'eval_runtime'"): json_metrics,
    ("docs/trials.md", "source: custom"): container_collector,
}

EXCUSED = {
    ("CONTRIBUTING.md", "spec ──▶ suggestion"): "a drawing",
    ("CONTRIBUTING.md", "spaces: spec (models)"): "tests/test_layers.py checks the code against it",
    ("docs/argo.md", "patches:"): "tests/argo/test_install.py builds it with kubectl",
    (
        "docs/first-cluster.md",
        "good     Argo Workflows",
    ): "output of doctor on a cluster; tests/argo/test_doctor.py",
    ("docs/tutorial.md", "t00000 succeeded"): "output of a run; tests/local/test_local_progress.py",
    ("docs/tutorial.md", "reached limits.max_trials (20)"): "output of a run; tests/test_loop.py",
    ("docs/argo.md", "suggest waits: the image"): "output of suggest on a cluster; tests/argo/test_waits.py",
}
"""Blocks that are not read by this module, and the reasons."""


def directive(block: Block) -> None:
    """A directive of Sphinx; the pages, files and objects that it names exist."""
    kind = block.language.strip("{}")
    if kind == "literalinclude":
        assert (ROOT / "docs" / block.info.split()[1]).is_file()
    elif kind == "toctree":
        pages = {page_name(path).removeprefix("docs/").removesuffix(".md") for path in PAGES}
        assert {line for line in block.text.splitlines() if line and not line.startswith(":")} <= pages
    else:
        for line in block.text.splitlines():
            if line.startswith(".. auto"):
                documented(line.split()[-1])


def documented(path: str) -> None:
    """Import a module or an object; skip the test if an optional library is missing."""
    try:
        importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            pytest.skip(f"needs {error.name}, which is not installed here")
        module, _, attribute = path.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), path


def spec(block: Block) -> None:
    """A whole spec, or sections of one."""
    data = yaml.safe_load(block.text)
    if "architecture" in data:
        Experiment.parse({**{name: value for name, value in WHOLE.items() if name != "trial"}, **data})
    else:
        Experiment.parse({**WHOLE, **data})


def reader_of(block: Block) -> Reader | None:
    """The reader of a block that is not a program, if there is one."""
    own = [reader for (page, key), reader in READERS.items() if page == block.page and key in block.text]
    if own:
        return own[0]
    if block.language.startswith("{"):
        return directive
    return spec if block.language == "yaml" and sections(block) else None


def sections(block: Block) -> bool:
    data = yaml.safe_load(block.text)
    return isinstance(data, dict) and bool(SECTIONS & data.keys())


def excuse_of(block: Block) -> str | None:
    return next((text for (page, key), text in EXCUSED.items() if page == block.page and key in block.text), None)
