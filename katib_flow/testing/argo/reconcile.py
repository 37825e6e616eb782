"""The first part of an operation: update nodes from the states of their pods, and terminate pods that must end."""

from typing import TYPE_CHECKING

from katib_flow.testing.argo.nodes import Node, Phase
from katib_flow.testing.argo.pods import Pod

if TYPE_CHECKING:
    from katib_flow.testing.argo.operation import Operation

RECENTLY_SECONDS = 10.0
DEADLINE = "Step exceeded its deadline"


def reconcile(operation: "Operation") -> None:
    """Update the nodes from the states of their pods."""
    for pod in operation.controller.pods(operation.workflow):
        node = operation.nodes.get(pod.node)
        if node is None or node.phase.fulfilled:
            operation.controller.forget(pod)
            continue
        _observe(operation, pod, node)
        if not node.phase.fulfilled:
            _end_if_due(operation, pod, node)
    _find_the_missing(operation)


def _observe(operation: "Operation", pod: Pod, node: Node) -> None:
    if pod.phase is Phase.RUNNING and node.phase is Phase.PENDING:
        node.phase, node.message = Phase.RUNNING, ""
    if not pod.phase.fulfilled:
        return
    node.outputs, node.result, node.exit_code, node.finished = pod.outputs, pod.result, pod.exit_code, pod.ended
    for declared in pod.declared_outputs:
        value = (pod.outputs or {}).get(declared["name"])
        if "globalName" in declared and value is not None:
            operation.workflow.outputs[declared["globalName"]] = value
            operation.workflow.forget()
    operation.mark(node, pod.phase, pod.message)
    operation.workflow.disturb(node.name)
    operation.controller.forget(pod)


def _end_if_due(operation: "Operation", pod: Pod, node: Node) -> None:
    if not operation.may_start(on_exit=pod.on_exit):
        reason = f"workflow shutdown with strategy:  {operation.shutdown}"
    elif operation.late() and not pod.on_exit:
        reason = DEADLINE
    else:
        return
    operation.controller.terminate(pod)
    operation.workflow.disturb(node.name)
    operation.mark(node, Phase.FAILED, reason)


def _find_the_missing(operation: "Operation") -> None:
    """Handle nodes whose pods are gone: a running node ends in an error, a pending one gets another pod later."""
    workflow, controller = operation.workflow, operation.controller
    for node in operation.nodes:
        if node.kind != "Pod" or node.phase.fulfilled or controller.pod(workflow, node.name) is not None:
            continue
        workflow.disturb(node.name)
        if node.phase is Phase.PENDING:
            if operation.late() and not node.name.startswith(f"{workflow.name}.onExit"):
                operation.mark(node, Phase.FAILED, DEADLINE)
        elif operation.now - node.started <= RECENTLY_SECONDS:
            controller.look_again(workflow, node.started + RECENTLY_SECONDS + 1)
        else:
            operation.mark(node, Phase.ERROR, "pod deleted")
