"""Checks before a Workflow runs, as Argo makes them: keys, references, placeholders, lengths of names.

Argo ignores unknown keys, but the simulator refuses every key that it does not implement, so that a passing test covers
the whole manifest.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from katib_flow.testing.argo import expr
from katib_flow.testing.argo.depends import dependencies, depends_of
from katib_flow.testing.argo.expansion import loops
from katib_flow.testing.argo.refusal import Rejected, Unsupported
from katib_flow.testing.argo.substitution import placeholders
from katib_flow.testing.argo.templates import kind_of
from katib_flow.testing.argo.workflow import Manifest

MAX_NAME = 63
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")

PASSED = "passed to the pod as it is"
Shape = str | list[Any] | dict[str, Any]

_PARAMETER = {"name": PASSED, "value": PASSED, "default": PASSED, "description": PASSED, "enum": PASSED}
_ARGUMENTS: Shape = {"parameters": [_PARAMETER]}
_LOCK = {"configMapKeyRef": {"name": PASSED, "key": PASSED}}
_SYNCHRONIZATION: Shape = {"semaphores": [_LOCK], "mutexes": [{"name": PASSED}]}
_CONTAINER: Shape = dict.fromkeys(
    (
        *("name", "image", "imagePullPolicy", "command", "args", "env", "envFrom", "resources", "securityContext"),
        *("volumeMounts", "workingDir", "ports"),
    ),
    PASSED,
)
_CALL: dict[str, Any] = {
    "name": PASSED,
    "template": PASSED,
    "templateRef": {"name": PASSED, "template": PASSED, "clusterScope": PASSED},
    "arguments": _ARGUMENTS,
    "when": PASSED,
    "withItems": PASSED,
    "withParam": PASSED,
    "withSequence": {"count": PASSED, "start": PASSED, "end": PASSED, "format": PASSED},
}
_TASK: Shape = {**_CALL, "depends": PASSED, "dependencies": PASSED}
_STEP: Shape = {**_CALL, "continueOn": {"failed": PASSED, "error": PASSED}}
_BACKOFF: Shape = {"duration": PASSED, "factor": PASSED, "cap": PASSED}
_RETRY: Shape = {"limit": PASSED, "retryPolicy": PASSED, "expression": PASSED, "backoff": _BACKOFF}
_OUTPUT: Shape = {
    "name": PASSED,
    "globalName": PASSED,
    "valueFrom": {"path": PASSED, "default": PASSED, "parameter": PASSED, "expression": PASSED},
}
_POD: dict[str, Any] = {
    **dict.fromkeys(("securityContext", "nodeSelector", "tolerations", "affinity", "priorityClassName"), PASSED),
    **dict.fromkeys(
        ("serviceAccountName", "automountServiceAccountToken", "volumes", "podSpecPatch", "hostAliases"), PASSED
    ),
    "executor": {"serviceAccountName": PASSED},
}
_TEMPLATE: Shape = {
    **_POD,
    "name": PASSED,
    "inputs": _ARGUMENTS,
    "outputs": {"parameters": [_OUTPUT]},
    "metadata": {"labels": PASSED, "annotations": PASSED},
    "activeDeadlineSeconds": PASSED,
    "parallelism": PASSED,
    "retryStrategy": _RETRY,
    "synchronization": _SYNCHRONIZATION,
    "container": _CONTAINER,
    "initContainers": [_CONTAINER],
    "sidecars": [_CONTAINER],
    "dag": {"tasks": [_TASK], "failFast": PASSED, "target": PASSED},
    "steps": [[_STEP]],
}
_SPEC: Shape = {
    **_POD,
    **dict.fromkeys(("entrypoint", "onExit", "parallelism", "activeDeadlineSeconds", "suspend", "shutdown"), PASSED),
    **dict.fromkeys(("imagePullSecrets", "podPriorityClassName", "priority"), PASSED),
    "arguments": _ARGUMENTS,
    "podMetadata": {"labels": PASSED, "annotations": PASSED},
    "workflowMetadata": {"labels": PASSED, "annotations": PASSED},
    "podGC": {"strategy": PASSED, "deleteDelayDuration": PASSED},
    "ttlStrategy": dict.fromkeys(("secondsAfterCompletion", "secondsAfterSuccess", "secondsAfterFailure"), PASSED),
    "workflowTemplateRef": {"name": PASSED, "clusterScope": PASSED},
    "templates": [_TEMPLATE],
}


def check(manifest: Manifest, spec: Manifest) -> None:
    """Check a Workflow before it runs.

    Args:
        manifest: the Workflow as submitted.
        spec: the spec to execute, merged with that of its WorkflowTemplate.

    Raises:
        Unsupported: the simulator does not implement something in it.
        Rejected: Argo would refuse it.
    """
    _known("spec", manifest["spec"], _SPEC)
    _known("spec", spec, _SPEC)
    name = manifest["metadata"]["name"]
    if len(name) > MAX_NAME:
        raise Rejected(f"workflow name {name!r} must not be more than {MAX_NAME} characters long (found {len(name)})")
    check_labels(manifest["metadata"].get("labels", {}))
    if "entrypoint" not in spec:
        raise Rejected("spec.entrypoint is required")
    workflow = {
        f"workflow.parameters.{parameter['name']}" for parameter in spec.get("arguments", {}).get("parameters", [])
    }
    names: list[str] = [template["name"] for template in spec.get("templates", [])]
    if len(names) != len(set(names)):
        raise Rejected(f"spec.templates: names must be unique: {sorted(names)}")
    for template in spec.get("templates", []):
        _template(template, set(names), workflow | _WORKFLOW)


def check_labels(labels: Mapping[str, str]) -> None:
    """Check the values of labels.

    Raises:
        Rejected: Kubernetes would refuse a value.
    """
    for key, value in labels.items():
        if len(value) > MAX_NAME or not _LABEL_VALUE.fullmatch(value):
            raise Rejected(f"label {key}: found {value!r}, need at most 63 letters, digits, '-', '_' and '.'")


def _known(where: str, value: Any, shape: Shape) -> None:
    if isinstance(shape, list):
        for position, entry in enumerate(value):
            _known(f"{where}[{position}]", entry, shape[0])
    elif isinstance(shape, dict):
        for key, inner in value.items():
            if key not in shape:
                raise Unsupported(where, f"the key {key!r}")
            _known(f"{where}.{key}", inner, shape[key])


_WORKFLOW = {
    *("workflow.name", "workflow.namespace", "workflow.uid", "workflow.status", "workflow.failures"),
    *("workflow.mainEntrypoint", "workflow.serviceAccountName", "workflow.creationTimestamp"),
}
_RETRIES = {"retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration", "lastRetry.message"}


def _template(template: Manifest, names: set[str], known: set[str]) -> None:
    where = f"templates.{template['name']}"
    if not _NAME.fullmatch(template["name"]):
        raise Rejected(f"{where}: name is invalid")
    kind = kind_of(template)
    inputs = {
        f"inputs.parameters.{parameter['name']}" for parameter in template.get("inputs", {}).get("parameters", [])
    }
    known = known | inputs | {"node.name", "inputs.parameters"}
    leaf_only = ("activeDeadlineSeconds", "initContainers", "sidecars", "volumes")
    if kind != "container" and (wrong := next((key for key in leaf_only if key in template), None)):
        raise Rejected(f"{where}.{wrong}: only pod templates may have it")
    if "retryStrategy" in template and kind != "container":
        raise Unsupported(f"{where}.retryStrategy", "retries of a whole DAG or of steps")
    if kind == "container":
        outputs = {f"outputs.parameters.{parameter['name']}.path" for parameter in _outputs(template)}
        _tags(where, template, known | outputs | (_RETRIES if "retryStrategy" in template else set()))
        _paths(where, template)
    elif kind == "dag":
        _dag(where, template, names, known)
    else:
        _steps(where, template, names, known)


def _outputs(template: Manifest) -> list[Manifest]:
    return template.get("outputs", {}).get("parameters", [])


def _paths(where: str, template: Manifest) -> None:
    for output in _outputs(template):
        if "path" not in output.get("valueFrom", {}):
            raise Rejected(f"{where}.outputs.parameters.{output['name']}.valueFrom.path: required for a pod")


def _dag(where: str, template: Manifest, names: set[str], known: set[str]) -> None:
    tasks = {task["name"]: task for task in template["dag"]["tasks"]}
    if len(tasks) != len(template["dag"]["tasks"]):
        raise Rejected(f"{where}: names of tasks must be unique")
    for name, task in tasks.items():
        if missing := [other for other in dependencies(depends_of(task)) if other not in tasks]:
            raise Rejected(f"{where}.tasks.{name}: dependency {missing[0]!r} not defined")
        if "depends" in task and "dependencies" in task:
            raise Rejected(f"{where}.tasks.{name}: depends and dependencies cannot be mixed")
        _called(f"{where}.tasks.{name}", task, names)
        above = _ancestors(tasks, name)
        seen = {tag for other in above for tag in _offered(f"tasks.{other}")}
        _tags(f"{where}.tasks.{name}", task, known | (_ITEM if loops(task) else set()), seen)


def _ancestors(tasks: Mapping[str, Manifest], name: str) -> set[str]:
    ancestors: set[str] = set()
    waiting = list(dependencies(depends_of(tasks[name])))
    while waiting:
        ancestor = waiting.pop()
        if ancestor == name:
            raise Rejected(f"tasks.{name}: DAG has a cycle")
        if ancestor not in ancestors:
            ancestors.add(ancestor)
            waiting += dependencies(depends_of(tasks[ancestor]))
    return ancestors


def _steps(where: str, template: Manifest, names: set[str], known: set[str]) -> None:
    before: set[str] = set()
    for group in template["steps"]:
        for step in group:
            _called(f"{where}.steps.{step['name']}", step, names)
            _tags(f"{where}.steps.{step['name']}", step, known | (_ITEM if loops(step) else set()), before)
        before |= {tag for step in group for tag in _offered(f"steps.{step['name']}")}


def _called(where: str, holder: Manifest, names: set[str]) -> None:
    if not _NAME.fullmatch(holder["name"]):
        raise Rejected(f"{where}: name is invalid")
    if "templateRef" not in holder and holder.get("template") not in names:
        raise Rejected(f"{where}: template name {holder.get('template')!r} undefined")


_ITEM = {"item"}


def _offered(prefix: str) -> set[str]:
    return {f"{prefix}.outputs.", f"{prefix}.status", f"{prefix}.id", f"{prefix}.exitCode"}


def _tags(where: str, node: Any, known: set[str], prefixes: set[str] | None = None) -> None:
    for name in _read(node):
        if name in known or any(name.startswith(prefix) for prefix in prefixes or ()):
            continue
        if "item" in known and name.startswith("item."):
            continue
        raise Rejected(f"{where}: failed to resolve {{{{{name}}}}}")


def _read(node: Any) -> Iterator[str]:
    for tag in placeholders(node):
        if tag.startswith("="):
            yield from expr.names(tag[1:])
        elif "{{" not in tag:  # a nested placeholder is only known at run time
            yield tag.strip()
