"""One operation of the controller on a Workflow, from the entrypoint down.

It is idempotent: it may run at any time and any number of times, and skips what earlier operations have done.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from katib_flow.testing.argo import dag, retries, steps
from katib_flow.testing.argo.calls import Call, Controller, ParallelismReached, TooDeep
from katib_flow.testing.argo.nodes import Node, Phase, node_id, time_text
from katib_flow.testing.argo.pods import build_pod
from katib_flow.testing.argo.reconcile import reconcile
from katib_flow.testing.argo.refusal import Rejected
from katib_flow.testing.argo.substitution import Scope
from katib_flow.testing.argo.templates import KINDS, Library, TemplateError, kind_of, process
from katib_flow.testing.argo.workflow import Manifest, Workflow

MAX_DEPTH = 100
TOO_DEEP = "Maximum recursion depth exceeded. See https://argo-workflows.readthedocs.io/en/latest/scaling/"
_PHASES = {Phase.SUCCEEDED: "Succeeded", Phase.SKIPPED: "Succeeded", Phase.OMITTED: "Succeeded"}


class Operation:
    """One operation of the controller on a Workflow; see the module.

    Args:
        shutdown: "", ``Stop`` or ``Terminate``.
    """

    def __init__(
        self, workflow: Workflow, controller: Controller, *, suspended: bool = False, shutdown: str = ""
    ) -> None:
        self.workflow, self.controller, self.shutdown, self._suspended = workflow, controller, shutdown, suspended
        self.nodes = workflow.nodes
        self.now = controller.now
        self._depth = 0
        self.waiting = 0  # nodes seen that wait for a slot, a lock or the next attempt, and must be visited again
        if self.over() or suspended:
            workflow.quiet.clear()

    # the whole

    def run(self) -> None:
        """Advance the Workflow as far as it can go now."""
        workflow = self.workflow
        if workflow.completed:
            return
        if not workflow.phase:
            workflow.phase, workflow.started = "Running", self.now
            if (deadline := workflow.deadline()) is not None:
                self.controller.look_again(workflow, deadline + 1)
        else:
            reconcile(self)
        if self._suspended:
            return
        entrypoint, library = workflow.spec["entrypoint"], Library.of(workflow.spec, self.controller.fetch)
        call = Call({"template": entrypoint}, workflow.spec.get("arguments", {}), library)
        node = self._entered(workflow.name, call, "entry")
        if node is None or not node.phase.fulfilled:
            return
        handler = self._exit_handler(library, node)
        if handler is not None and not handler.phase.fulfilled:
            return
        if workflow.completed:
            return
        self._end(node, handler)

    def _entered(self, name: str, call: Call, what: str) -> Node | None:
        try:
            return self.execute(name, call)
        except ParallelismReached:
            return None
        except TemplateError as error:
            message = f"error in {what} template execution: {error}"
            self.workflow.phase, self.workflow.message = "Error", message
            self.workflow.finished = self.now
            return None

    def _exit_handler(self, library: Library, node: Node) -> Node | None:
        """Run the exit handler if it is due, and return its node; None if there is no exit handler."""
        workflow, template = self.workflow, self.workflow.spec.get("onExit")
        name = f"{workflow.name}.onExit"
        if not template or (self.nodes.get(name) is None and not self.may_start(on_exit=True)):
            return None
        failed = [bad for bad in self.nodes if bad.phase.bad]
        failures = json.dumps([self._failure(bad) for bad in failed] or None, separators=(",", ":"))
        status = _PHASES.get(node.phase, str(node.phase))
        workflow.globals.update({"workflow.status": status, "workflow.failures": json.dumps(failures)})
        call = Call({"template": template}, workflow.spec.get("arguments", {}), library, on_exit=True, hooked=True)
        handler = self._entered(name, call, "exit")
        return handler or self.nodes.get(name) or self._pending(name)

    def _pending(self, name: str) -> Node:
        return Node(name, "Skipped", "", "", Phase.PENDING, name, self.now)

    def _failure(self, node: Node) -> dict[str, Any]:
        return {
            "displayName": node.display,
            "message": node.message,
            "templateName": node.template,
            "phase": str(node.phase),
            "podName": node_id(self.workflow.name, node.name),
            "finishedAt": time_text(node.finished),
        }

    def _end(self, node: Node, handler: Node | None) -> None:
        """End the Workflow with the phase of its entrypoint, or of an exit handler that failed after a success."""
        workflow = self.workflow
        workflow.phase = _PHASES.get(node.phase, str(node.phase))
        workflow.message = node.message
        if workflow.phase == "Succeeded":
            workflow.message = ""
            if handler is not None and handler.phase.bad:
                workflow.phase, workflow.message = str(handler.phase), handler.message
        elif self.shutdown:
            workflow.message = f"Stopped with strategy '{self.shutdown}'"
        workflow.finished = self.now
        self.controller.release(workflow, "")

    def late(self) -> bool:
        """Whether the Workflow's deadline has passed."""
        deadline = self.workflow.deadline()
        return deadline is not None and self.now > deadline

    def over(self) -> bool:
        """Whether the Workflow is ending, so that nothing is retried."""
        return bool(self.shutdown) or self.late()

    def over_message(self) -> str:
        """Argo's message for a node that is not retried because the Workflow is ending."""
        if self.shutdown:
            return f"Stopped with strategy '{self.shutdown}'"
        return f"retry exceeded workflow deadline {time_text(self.workflow.deadline())}"

    def may_start(self, *, on_exit: bool) -> bool:
        """Whether pods may start; after ``Stop``, only those of the exit handler may."""
        return not self.shutdown or (self.shutdown == "Stop" and on_exit)

    # templates

    def execute(self, name: str, call: Call) -> Node:
        """Create the node of a call if need be, advance it as far as it can go now, and return it.

        Raises:
            ParallelismReached: the node may not start now.
            TooDeep: the call is nested too deeply; its node has the error.
            TemplateError: the template cannot be called; its node has the error.
        """
        self._depth += 1
        self.workflow.deepest = max(self.workflow.deepest, self._depth)
        try:
            return self._execute(name, call)
        finally:
            self._depth -= 1

    def _execute(self, name: str, call: Call) -> Node:
        node = self.nodes.get(name)
        if self._depth >= MAX_DEPTH:
            raise self._broken(name, call, node, TooDeep(TOO_DEEP))
        if node is not None and node.phase.fulfilled:
            self.controller.release(self.workflow, name)
            return node
        if node is not None and (name in self.workflow.quiet or (node.kind == "Retry" and self._in_progress(node))):
            return node
        try:
            library, template, inputs = self._called(name, call)
        except TemplateError as error:
            raise self._broken(name, call, node, error) from None
        try:
            self._check_parallelism(template, node, call)
        except ParallelismReached:
            self.waiting += 1
            raise
        if "synchronization" in template and not self._locked(name, call, template, inputs):
            return self.nodes[name]
        if "retryStrategy" in template:
            return self._retried(name, call, library, template, inputs)
        return self._body(name, call, library, template, inputs)

    def _in_progress(self, retry: Node) -> bool:
        """Whether the last attempt has a pod that is running, so that there is nothing to do."""
        last = self.nodes[retry.children[-1]] if retry.children else None
        return (
            last is not None
            and not last.phase.fulfilled
            and self.controller.pod(self.workflow, last.name) is not None
            and not retry.waiting
        )

    def _called(self, name: str, call: Call) -> tuple[Library, Manifest, dict[str, str]]:
        """The template of a call with its inputs filled in; computed once while the Workflow is in memory."""
        key = ("template", name)
        if key not in self.workflow.cache:
            library, template = call.library.find(call.holder)
            scope: Scope = {**self.workflow.globals, "node.name": name}
            self.workflow.cache[key] = (library, *process(template, call.arguments, scope))
        return self.workflow.cache[key]

    def cached(self, what: str, name: str, compute: Callable[[], Any]) -> Any:
        """Compute a value that does not change while a node exists, or return it from the cache."""
        key = (what, name)
        if key not in self.workflow.cache:
            self.workflow.cache[key] = compute()
        return self.workflow.cache[key]

    def _broken(self, name: str, call: Call, node: Node | None, error: TemplateError) -> TemplateError:
        if node is None:
            node = self.add(name, "Skipped", call, Phase.ERROR)
            node.message, node.finished = str(error), self.now
        else:
            self.mark(node, Phase.ERROR, str(error))
        return error

    def _locked(self, name: str, call: Call, template: Manifest, inputs: dict[str, str]) -> bool:
        """Whether the node has its locks; until then it is Pending, and has no pod."""
        node = self.nodes.get(name)
        try:
            waiting = self.controller.acquire(self.workflow, name, template["synchronization"])
        except Rejected as error:
            raise self._broken(name, call, node, TemplateError(str(error))) from None
        if waiting:
            self.waiting += 1
            if node is None:
                kind = "Retry" if "retryStrategy" in template else _NODE_KINDS[kind_of(template)]
                node = self.add(name, kind, call, Phase.PENDING, inputs)
            node.waiting, node.message = waiting, f"Waiting for {waiting} lock"
            return False
        if node is not None and node.waiting:
            node.waiting, node.message = "", ""
            if node.kind != "Pod":
                node.phase = Phase.RUNNING
        return True

    def _retried(self, name: str, call: Call, library: Library, template: Manifest, inputs: dict[str, str]) -> Node:
        parent = self.nodes.get(name) or self.add(name, "Retry", call, Phase.RUNNING, inputs)
        if not retries.go_on(self, parent, template["retryStrategy"]):
            self.waiting += 1
            return parent
        attempts = self.nodes.attempts(parent)
        last = attempts[-1] if attempts else None
        if parent.phase.fulfilled:
            if last is not None:
                parent.outputs, parent.result, parent.exit_code = last.outputs, last.result, last.exit_code
            self.controller.release(self.workflow, name)
            return parent
        if last is not None and not last.phase.fulfilled:
            attempt = last.name
        else:
            attempt = f"{name}({len(attempts)})"
            parent.children.append(attempt)
        node = self._body(attempt, call, library, template, inputs, retried=True)
        if node.phase.fulfilled and not parent.phase.fulfilled:
            return self.execute(name, call)
        return parent

    def _body(
        self,
        name: str,
        call: Call,
        library: Library,
        template: Manifest,
        inputs: dict[str, str],
        *,
        retried: bool = False,
    ) -> Node:
        kind = kind_of(template)
        node = self.nodes.get(name)
        if node is None:
            phase = Phase.PENDING if kind == "container" else Phase.RUNNING
            node = self.add(name, _NODE_KINDS[kind], call, phase, inputs, retried=retried)
        self.workflow.cache[("template", name)] = (library, template, inputs)
        inner = Call(call.holder, call.arguments, library, name, call.on_exit)
        before = self.waiting
        if kind == "dag":
            dag.execute(self, node, template, inner)
        elif kind == "steps":
            steps.execute(self, node, template, inner)
        else:
            self._pod(node, call, template)
        if node.phase.fulfilled:
            self.controller.release(self.workflow, name)
        elif kind != "container" and self.waiting == before:
            self.workflow.quiet.add(name)
        return node

    def _pod(self, node: Node, call: Call, template: Manifest) -> None:
        """Start the pod of a node, unless it has one already."""
        if node.phase.fulfilled or self.controller.pod(self.workflow, node.name) is not None:
            return
        if not self.may_start(on_exit=call.on_exit):
            self.mark(node, Phase.FAILED, f"workflow shutdown with strategy: {self.shutdown}")
        elif self.late() and not call.on_exit:
            self.controller.look_again(self.workflow, self.now)  # the next operation fails it as pending and late
            self.waiting += 1
        else:
            self.controller.start(self.workflow, build_pod(self.workflow, node, template, self.now, call.on_exit))

    # parallelism

    def _check_parallelism(self, template: Manifest, node: Node | None, call: Call) -> None:
        """Check the limits of parallelism. A Retry node does not count, nor do nodes that wait for a lock.

        Raises:
            ParallelismReached: a limit is reached.
        """
        limit = self.workflow.spec.get("parallelism")
        if limit is not None and len(self._active("Pod")) >= int(limit):
            raise ParallelismReached
        if node is not None and kind_of(template) in ("dag", "steps"):
            limit = template.get("parallelism")
            if limit is not None and len(self._active("Pod", boundary=node.name)) >= int(limit):
                raise ParallelismReached
        if call.boundary and node is None:
            around = self.workflow.cache[("template", call.boundary)][1]
            limit = around.get("parallelism")
            if limit is not None and len(self._active("Pod", "Steps", "DAG", boundary=call.boundary)) >= int(limit):
                raise ParallelismReached

    def _active(self, *kinds: str, boundary: str | None = None) -> list[Node]:
        among = self.nodes if boundary is None else self.nodes.inside(boundary)
        return [node for node in among if node.kind in kinds and not node.phase.fulfilled and not node.waiting]

    # nodes

    def add(
        self,
        name: str,
        kind: str,
        call: Call,
        phase: Phase,
        inputs: Mapping[str, str] | None = None,
        *,
        message: str = "",
        retried: bool = False,
    ) -> Node:
        """Add a node for a call."""
        display = _SEPARATOR.sub("", name.removeprefix(call.boundary)) if call.boundary else name
        template = call.holder.get("template") or call.holder.get("templateRef", {}).get("template", "")
        node = Node(
            name, kind, template, call.boundary, phase, display, self.now, message=message, inputs=dict(inputs or {})
        )
        node.retried, node.hooked = retried, call.hooked
        if phase.fulfilled:
            node.finished = self.now
        return self.nodes.add(node)

    def mark(self, node: Node, phase: Phase, message: str | None = None) -> Node:
        """Set the phase of a node, its message if one is given, and the time at which it finished."""
        node.phase = phase
        if message is not None:
            node.message = message
        if phase.fulfilled and node.finished is None:
            node.finished = self.now
        return node

    def connect(self, parent: str, child: str) -> None:
        """Make a node a child of another, if it is not one yet."""
        children = self.nodes[parent].children
        if child not in children:
            children.append(child)

    def outbound(self, name: str) -> list[str]:
        """The last nodes inside a node, to which its successors are connected."""
        node = self.nodes[name]
        if node.kind in ("Skipped", "Pod"):
            return [name]
        if node.kind == "Retry":
            return node.children[-1:]
        if node.kind == "TaskGroup":
            if not node.children:
                return [name]
            return [last for child in node.children for last in self.outbound(child)]
        return [last for inner in node.outbound for last in self.outbound(inner)]


_SEPARATOR = re.compile(r"^(\[\d+\])?\.")
_NODE_KINDS: dict[str, str] = dict(zip(KINDS, ("Pod", "DAG", "Steps"), strict=True))
