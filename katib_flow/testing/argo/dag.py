"""DAG templates: which tasks run now, and the phase of the whole DAG."""

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from katib_flow.testing.argo import scopes
from katib_flow.testing.argo.calls import Call, ParallelismReached, TooDeep
from katib_flow.testing.argo.depends import RESULTS, dependencies, depends_of, holds
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
    """Advance a DAG as far as it can go now.

    Raises:
        TemplateError: its outputs cannot be resolved.
    """
    walk = _Walk(operation, node, template, call)
    targets = walk.targets()
    for name in targets:
        walk.visit(name)
    phase = walk.phase(targets)
    if phase is Phase.RUNNING:
        return
    node.outbound = [last for name in targets if walk.node(name) for last in operation.outbound(walk.name(name))]
    if phase is Phase.SUCCEEDED and "outputs" in template:
        scope = dict(operation.workflow.globals)
        for name in walk.tasks:
            scope |= walk.outputs_of(name)
        node.outputs = scopes.outputs(template, scope)
    operation.mark(node, phase)


class _Walk:
    def __init__(self, operation: "Operation", dag: Node, template: Manifest, call: Call) -> None:
        self._operation, self._dag, self._template, self._call = operation, dag, template, call
        self.tasks: dict[str, Manifest] = {task["name"]: task for task in template["dag"]["tasks"]}
        self._visited: set[str] = set()

    def name(self, task: str) -> str:
        return f"{self._dag.name}.{task}"

    def node(self, task: str) -> Node | None:
        return self._operation.nodes.get(self.name(task))

    def targets(self) -> list[str]:
        """The tasks of the DAG's ``target`` or, without it, those on which no other task depends."""
        if target := self._template["dag"].get("target"):
            return target.split(" ")
        needed = {name for task in self.tasks.values() for name in dependencies(depends_of(task))}
        return sorted(name for name in self.tasks if name not in needed)

    def visit(self, name: str) -> None:
        """Run a task if it is due, after visiting the tasks that it depends on."""
        if name in self._visited:
            return
        self._visited.add(name)
        node, task = self.node(name), self.tasks[name]
        if node is not None and node.phase.fulfilled:
            self._operation.controller.release(self._operation.workflow, node.name)
            return
        depends = depends_of(task)
        for dependency in dependencies(depends):
            self.visit(dependency)
        if depends and node is None:
            needed = [self.node(dependency) for dependency in dependencies(depends)]
            if not all(other and other.phase.fulfilled for other in needed):
                return
            try:
                if not holds(depends, self._results):
                    self._leave_out(task, Phase.OMITTED, "omitted: depends condition not met")
                    return
            except ExpressionError as error:
                self._leave_out(task, Phase.ERROR, str(error))
                return
        self._run(task)

    def _results(self, name: str) -> dict[str, bool]:
        node = self.node(name)
        assert node is not None
        inner = [self._operation.nodes[child].phase for child in node.children] if node.kind == "TaskGroup" else []
        phases = (Phase.SUCCEEDED, Phase.FAILED, Phase.ERROR, Phase.SKIPPED, Phase.OMITTED)
        truths = [node.phase is phase for phase in phases]
        some = Phase.SUCCEEDED in inner
        return dict(zip(RESULTS, [*truths, False, some, set(inner) == {Phase.FAILED}], strict=True))

    def _leave_out(self, task: Manifest, phase: Phase, message: str, name: str = "") -> None:
        called = replace(self._call, holder=task)
        node = self._operation.add(name or self.name(task["name"]), "Skipped", called, phase, message=message)
        self._connect(task["name"], node.name)

    def _connect(self, task: str, node: str) -> None:
        """Connect a node to the last nodes of its task's dependencies, or to the task's own group."""
        needed = dependencies(depends_of(self.tasks[task]))
        group = self.node(task)
        if group is not None and group.kind == "TaskGroup" and group.name != node:
            self._operation.connect(group.name, node)
        elif not needed:
            self._operation.connect(self._dag.name, node)
        else:
            for parent in [last for dependency in needed for last in self._operation.outbound(self.name(dependency))]:
                self._operation.connect(parent, node)

    def _run(self, task: Manifest) -> None:
        name = self.name(task["name"])
        operation = self._operation
        try:
            expanded: list[Manifest] = operation.cached("tasks", name, lambda: self._resolved(task))
        except (TemplateError, ExpressionError) as error:
            self._leave_out(task, Phase.ERROR, str(error))
            return
        if loops(task):
            if not expanded:
                self._leave_out(task, Phase.SKIPPED, "Skipped, empty params")
                return
            if self.node(task["name"]) is None:
                self._connect_group(task, name)
        for instance in expanded:
            if not self._start(task, instance):
                return
        if loops(task):
            self._judge_group(name, expanded)

    def _connect_group(self, task: Manifest, name: str) -> None:
        called = replace(self._call, holder=task)
        self._operation.add(name, "TaskGroup", called, Phase.RUNNING)
        self._connect(task["name"], name)

    def _resolved(self, task: Manifest) -> list[Manifest]:
        scope = dict(self._operation.workflow.globals)
        for name in self._ancestors(task["name"]):
            scope |= self.outputs_of(name)
        resolved = substitute(task, scope)
        if not loops(task):
            should_execute(resolved.get("when", ""))
        return expand(resolved, scope)

    def _ancestors(self, name: str) -> list[str]:
        ancestors: dict[str, None] = {}
        waiting = list(dependencies(depends_of(self.tasks[name])))
        while waiting:
            ancestor = waiting.pop()
            if ancestor not in ancestors:
                ancestors[ancestor] = None
                waiting += dependencies(depends_of(self.tasks[ancestor]))
        return list(ancestors)

    def outputs_of(self, name: str) -> dict[str, str]:
        node, prefix = self.node(name), f"tasks.{name}"
        if node is None:
            return {}
        if node.kind == "TaskGroup":
            siblings = self._operation.nodes.inside(self._dag.name)
            inner = [sibling for sibling in siblings if sibling.name.startswith(f"{node.name}(")]
            return scopes.of_group(prefix, node, inner)
        _, template = self._call.library.find(self.tasks[name])
        return scopes.of_node(prefix, node, self._operation.workflow.name, template)

    def _start(self, task: Manifest, instance: Manifest) -> bool:
        """Call the template of a task; False if the walk ends here for now."""
        name, operation = self.name(instance["name"]), self._operation
        node = operation.nodes.get(name)
        if node is None:
            try:
                proceed = should_execute(instance.get("when", ""))
            except ExpressionError as error:
                self._leave_out(task, Phase.ERROR, str(error), name)
                return True
            if not proceed:
                self._leave_out(task, Phase.SKIPPED, f"when '{instance['when']}' evaluated false", name)
                return True
        above = self._call
        call = type(above)(instance, instance.get("arguments", {}), above.library, above.boundary, above.on_exit)
        try:
            operation.execute(name, call)
        except ParallelismReached:
            return node is not None
        except TooDeep:
            pass  # its node has the error
        except TemplateError as error:
            operation.mark(operation.nodes[name], Phase.ERROR, f"task '{name}' errored: {error}")
        if node is None:
            self._connect(task["name"], name)
        return True

    def _judge_group(self, name: str, expanded: list[Manifest]) -> None:
        nodes = [self.node(task["name"]) for task in expanded]
        phase = Phase.SUCCEEDED
        for node in nodes:
            if node is None or not node.phase.fulfilled:
                return
            if node.phase.bad:
                phase = node.phase  # that of the last bad node counts
        self._operation.mark(self._operation.nodes[name], phase)

    def phase(self, targets: list[str]) -> Phase:
        """The phase of the DAG: that of its targets, where an omitted target inherits the phase of its branch."""
        known = [self.node(name) for name in self.tasks]
        if any(node is not None and not node.phase.fulfilled for node in known):
            return Phase.RUNNING
        reached = self._branch_phases([self.name(name) for name in targets])
        fail_fast = self._template["dag"].get("failFast", True)
        result = Phase.SUCCEEDED
        for name in targets:
            phase = reached[self.name(name)]
            if phase is None:
                result = Phase.FAILED if self._operation.shutdown else Phase.RUNNING
                if not fail_fast:
                    break
            elif phase.bad:
                result = phase
                if fail_fast:
                    break
        return result

    def _branch_phases(self, targets: list[str]) -> dict[str, Phase | None]:
        """Walk all descendants breadth first: each completed node passes its phase on to its branch."""
        nodes = self._operation.nodes
        reached: dict[str, Phase | None] = dict.fromkeys(targets)
        waiting = deque((first, Phase.SUCCEEDED) for first in self._dag.children)
        seen = set(waiting)
        while waiting:
            name, branch = waiting.popleft()
            node = nodes[name]
            if not node.phase.fulfilled:
                return dict.fromkeys(targets)
            if node.phase.completed:
                branch = node.phase
            before = reached.get(name)
            if name in reached and not (before and before.bad):
                reached[name] = branch
            following = nodes[node.children[-1]].children if node.kind == "Retry" and node.children else node.children
            for child in following:
                if (child, branch) not in seen:
                    seen.add((child, branch))
                    waiting.append((child, branch))
        return reached
