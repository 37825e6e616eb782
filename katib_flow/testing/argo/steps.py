"""Steps templates: groups run one after another, the members of a group in parallel."""

from dataclasses import replace
from typing import TYPE_CHECKING

from katib_flow.testing.argo import scopes
from katib_flow.testing.argo.calls import Call, ParallelismReached
from katib_flow.testing.argo.expansion import expand, loops
from katib_flow.testing.argo.nodes import Node, Phase
from katib_flow.testing.argo.refusal import ExpressionError
from katib_flow.testing.argo.substitution import substitute
from katib_flow.testing.argo.templates import TemplateError
from katib_flow.testing.argo.when import should_execute
from katib_flow.testing.argo.workflow import Manifest

if TYPE_CHECKING:
    from katib_flow.testing.argo.operation import Operation


def execute(operation: "Operation", node: Node, template: Manifest, call: Call) -> None:
    """Advance a Steps node as far as it can go now.

    Raises:
        TemplateError: its outputs cannot be resolved.
    """
    scope: dict[str, str] = {}
    for index, members in enumerate(template["steps"]):
        group = _group(operation, node, index, call)
        _move(operation, group, members, scope, call)
        if not group.phase.fulfilled:
            return
        node.outbound = [last for child in group.children for last in operation.outbound(child)]
        if group.phase.bad:
            operation.mark(node, Phase.FAILED, group.message)
            return
        for step in members:
            scope |= _outputs_of(operation, group, step, call)
    if "outputs" in template:
        node.outputs = scopes.outputs(template, {**operation.workflow.globals, **scope})
    operation.mark(node, Phase.SUCCEEDED)


def _group(operation: "Operation", node: Node, index: int, call: Call) -> Node:
    """The node of a group, connected to the last nodes of the previous group."""
    name = f"{node.name}[{index}]"
    if (known := operation.nodes.get(name)) is not None:
        return known
    group = operation.add(name, "StepGroup", replace(call, holder={}), Phase.RUNNING)
    if index == 0:
        operation.connect(node.name, name)
        return group
    before = operation.nodes[f"{node.name}[{index - 1}]"]
    last = [last_node for child in before.children for last_node in operation.outbound(child)]
    for parent in last or [before.name]:
        operation.connect(parent, name)
    return group


def _move(operation: "Operation", group: Node, members: list[Manifest], scope: dict[str, str], call: Call) -> None:
    if group.phase.fulfilled:
        return
    try:
        expanded: list[Manifest] = operation.cached(
            "steps", group.name, lambda: _resolved(operation, group, members, scope, call)
        )
    except (TemplateError, ExpressionError) as error:
        operation.mark(group, Phase.ERROR, str(error))
        return
    for step in expanded:
        if not _start(operation, group, step, call):
            return
    _judge(operation, group, {f"{group.name}.{step['name']}": step for step in expanded})


def _resolved(
    operation: "Operation", group: Node, members: list[Manifest], scope: dict[str, str], call: Call
) -> list[Manifest]:
    known = {**operation.workflow.globals, **scope}
    expanded: list[Manifest] = []
    for step in members:
        resolved = substitute(step, known)
        if not loops(step):
            should_execute(resolved.get("when", ""))
        instances = expand(resolved, known)
        name = f"{group.name}.{step['name']}"
        if not instances and operation.nodes.get(name) is None:
            called = replace(call, holder=step)
            operation.add(name, "Skipped", called, Phase.SKIPPED, message="Skipped, empty params")
            operation.connect(group.name, name)
        expanded += instances
    return expanded


def _start(operation: "Operation", group: Node, step: Manifest, call: Call) -> bool:
    """Call the template of a step; False if that ended the group."""
    name = f"{group.name}.{step['name']}"
    called = replace(call, holder=step, arguments=step.get("arguments", {}))
    try:
        if not should_execute(step.get("when", "")):
            if operation.nodes.get(name) is None:
                why = f"when '{step['when']}' evaluated false"
                operation.add(name, "Skipped", called, Phase.SKIPPED, message=why)
                operation.connect(group.name, name)
            return True
    except ExpressionError as error:
        operation.add(name, "Skipped", called, Phase.ERROR, message=str(error))
        operation.connect(group.name, name)
        operation.mark(group, Phase.ERROR, str(error))
        return False
    try:
        operation.execute(name, called)
    except ParallelismReached:
        pass
    except TemplateError as error:
        operation.connect(group.name, name)
        operation.mark(group, Phase.ERROR, f"step group deemed errored due to child {name} error: {error}")
        return False
    if operation.nodes.get(name) is not None:
        operation.connect(group.name, name)
    return True


def _judge(operation: "Operation", group: Node, steps: dict[str, Manifest]) -> None:
    """Set the phase of a group whose members have all ended; a failure that ``continueOn`` allows does not count."""
    if any(operation.nodes.get(name) is None for name in steps):
        return
    children = [operation.nodes[name] for name in group.children]
    if not all(child.phase.fulfilled for child in children):
        return
    for child in children:
        continues = steps.get(child.name, {}).get("continueOn", {})
        excused = (child.phase is Phase.FAILED and continues.get("failed")) or (
            child.phase is Phase.ERROR and continues.get("error")
        )
        if child.phase.bad and not excused:
            operation.mark(group, Phase.FAILED, f"child '{child.name}' failed")
            return
    operation.mark(group, Phase.SUCCEEDED)


def _outputs_of(operation: "Operation", group: Node, step: Manifest, call: Call) -> dict[str, str]:
    name, prefix = f"{group.name}.{step['name']}", f"steps.{step['name']}"
    node = operation.nodes.get(name)
    if node is None:
        inner = [child for child in operation.nodes.inside(call.boundary) if child.name.startswith(f"{name}(")]
        return scopes.of_group(prefix, None, [child for child in inner if child.kind != "Skipped"])
    _, template = call.library.find(step)
    return scopes.of_node(prefix, node, operation.workflow.name, template)
