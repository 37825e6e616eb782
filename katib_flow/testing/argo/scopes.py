"""The names under which other nodes read the outputs of a node, and the outputs of DAG and Steps templates."""

import json
import re
from collections.abc import Sequence

from katib_flow.testing.argo import expr
from katib_flow.testing.argo.nodes import Node, Phase, node_id
from katib_flow.testing.argo.refusal import ExpressionError
from katib_flow.testing.argo.substitution import Scope, expanded
from katib_flow.testing.argo.templates import TemplateError
from katib_flow.testing.argo.workflow import Manifest


def of_node(prefix: str, node: Node, workflow: str, template: Manifest) -> dict[str, str]:
    """The values of a node by name, such as ``tasks.suggest.outputs.parameters.ids``.

    Args:
        template: its template; a skipped node has the defaults of the template's outputs.
    """
    scope = {f"{prefix}.id": node_id(workflow, node.name), f"{prefix}.status": str(node.phase)}
    if node.phase in (Phase.SKIPPED, Phase.OMITTED):
        for declared in template.get("outputs", {}).get("parameters", []):
            if "default" in declared.get("valueFrom", {}):
                scope[f"{prefix}.outputs.parameters.{declared['name']}"] = str(declared["valueFrom"]["default"])
    for name, value in (node.outputs or {}).items():
        scope[f"{prefix}.outputs.parameters.{name}"] = value
    if node.result is not None:
        scope[f"{prefix}.outputs.result"] = node.result
    if node.exit_code is not None:
        scope[f"{prefix}.exitCode"] = node.exit_code
    return scope


def of_group(prefix: str, group: Node | None, nodes: Sequence[Node]) -> dict[str, str]:
    """The values of a fan-out by name: JSON lists of those of its successful children, in the order of the loop.

    Failed children are missing, so positions shift; if no child succeeded, there is no list of any parameter.

    Raises:
        TemplateError: a result is not JSON.
    """
    scope = {f"{prefix}.status": str(group.phase)} if group else {}
    succeeded = [node for node in nodes if node.phase is Phase.SUCCEEDED and not node.retried]
    succeeded.sort(key=lambda node: _index(node.name))
    scope[f"{prefix}.outputs.parameters"] = _json([node.outputs for node in succeeded if node.outputs])
    for name in dict.fromkeys(name for node in succeeded for name in node.outputs or {}):
        values = [node.outputs[name] for node in succeeded if node.outputs and name in node.outputs]
        scope[f"{prefix}.outputs.parameters.{name}"] = _json(_read(values))
    if results := [node.result for node in succeeded if node.result is not None]:
        try:
            scope[f"{prefix}.outputs.result"] = _json([json.loads(result) for result in results])
        except ValueError as error:
            raise TemplateError(f"{prefix}.outputs.result: {error}") from None
    return scope


def _index(name: str) -> int:
    match = re.search(r"\((\d+):[^()]*\)$", name)
    return int(match[1]) if match else 0


def _read(values: list[str]) -> list[object]:
    """The values, parsed if all of them are JSON maps or lists, or else as strings."""
    try:
        parsed = [json.loads(value) for value in values]
    except ValueError:
        return list(values)
    return parsed if all(isinstance(value, dict | list) for value in parsed) else list(values)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def outputs(template: Manifest, scope: Scope) -> dict[str, str] | None:
    """The output parameters of a DAG or Steps template.

    Raises:
        TemplateError: one cannot be resolved and has no default.
    """
    declared = template.get("outputs", {}).get("parameters", [])
    return {output["name"]: _output(output, scope) for output in declared} if declared else None


def _output(declared: Manifest, scope: Scope) -> str:
    source: Manifest = declared.get("valueFrom", {})
    try:
        if "expression" in source:
            value = expr.evaluate(source["expression"], expanded(scope))
            if value is not None:
                return expr.text_of(value)
        elif "parameter" in source:
            name = source["parameter"].removeprefix("{{").removesuffix("}}").strip()
            if name in scope:
                return scope[name]
        else:
            raise TemplateError("output parameters must have a valueFrom specified")
    except ExpressionError as error:
        if "default" not in source:
            raise TemplateError(str(error)) from None
    if "default" in source:
        return str(source["default"])
    raise TemplateError(f"unable to resolve output parameter {declared['name']}")
