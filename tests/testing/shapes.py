"""Small Workflows of the constructs that ran on a real controller, and programs for their pods."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from katib_flow.testing.argo import FREE, Pod, Program, Result, Simulator

Manifest = dict[str, Any]
LOCKED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
RETRY_IF = 'lastRetry.exitCode != "42" && !(lastRetry.message matches "OOMKilled|specified deadline")'


def retry(limit: int = 3, **more: Any) -> Manifest:
    backoff = {"duration": "2s", "factor": "2", "cap": "1m"}
    return {"limit": str(limit), "retryPolicy": "Always", "backoff": backoff, **more}


def pod(name: str, *, inputs: tuple[str, ...] = (), outputs: Mapping[str, Any] | None = None, **more: Any) -> Manifest:
    """A template of a pod; ``outputs`` are further fields of valueFrom, by name."""
    container = {"image": "any", "command": ["run"], "args": [name], "securityContext": LOCKED}
    template: Manifest = {"name": name, "container": container, **more}
    if inputs:
        template["inputs"] = {"parameters": [{"name": each} for each in inputs]}
    if outputs:
        files = [{"name": each, "valueFrom": {"path": f"/kf/{each}", **fields}} for each, fields in outputs.items()]
        template["outputs"] = {"parameters": files}
    return template


def arguments(**values: Any) -> Manifest:
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}


def task(name: str, template: str = "", *, given: Mapping[str, Any] | None = None, **more: Any) -> Manifest:
    passed = {"arguments": arguments(**given)} if given else {}
    return {"name": name, "template": template or name, **passed, **more}


def dag(name: str, *tasks: Manifest, inputs: tuple[str, ...] = (), **more: Any) -> Manifest:
    template: Manifest = {"name": name, "dag": {"tasks": list(tasks)}, **more}
    return template | ({"inputs": {"parameters": [{"name": each} for each in inputs]}} if inputs else {})


def steps(name: str, *groups: list[Manifest], inputs: tuple[str, ...] = (), **more: Any) -> Manifest:
    template: Manifest = {"name": name, "steps": list(groups), **more}
    return template | ({"inputs": {"parameters": [{"name": each} for each in inputs]}} if inputs else {})


def workflow(entrypoint: str, *templates: Manifest, given: Mapping[str, Any] | None = None, **spec: Any) -> Manifest:
    passed = {"arguments": arguments(**given)} if given else {}
    whole = {"entrypoint": entrypoint, **passed, "templates": list(templates), **spec}
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    return {**kind, "metadata": {"generateName": "wf-", "labels": {"katib-flow/experiment": "e"}}, "spec": whole}


K = "{{inputs.parameters.k}}"
NEXT = "{{=string(int(inputs.parameters.k) + 1)}}"
GO = "{{tasks.collect-metrics.outputs.parameters.go}} == true"


def trial(**more: Any) -> Manifest:
    prepare = {"name": "prepare", "image": "any", "command": ["prepare"], "securityContext": LOCKED}
    fields: Manifest = {
        "activeDeadlineSeconds": "300",
        "metadata": {"labels": {"katib-flow/trial": "{{inputs.parameters.id}}"}},
        "retryStrategy": retry(expression=RETRY_IF),
        "initContainers": [prepare],
        "sidecars": [{**prepare, "name": "collector"}],
    }
    return pod("trial", inputs=("id",), **{**fields, **more})


def barrier(*, last: int = 3, parallelism: int = 3, **trial_fields: Any) -> Manifest:
    """The shape of barrier mode, build-model included."""
    contained = {"continueOn": {"failed": True, "error": True}}
    fan_out = task("trial", given={"id": "{{item}}"}, withParam="{{inputs.parameters.ids}}", **contained)
    iteration = dag(
        "iteration",
        task("suggest", given={"k": K}),
        task("build-model", given={"k": K}, depends="suggest.Succeeded"),
        task("train", given={"ids": "{{tasks.suggest.outputs.parameters.ids}}"}, depends="build-model.Succeeded"),
        task("collect-metrics", given={"k": K}, depends="train.Succeeded"),
        task(
            "again",
            "iteration",
            given={"k": NEXT},
            depends="collect-metrics.Succeeded",
            when=f"{GO} && {K} < {{{{workflow.parameters.last}}}}",
        ),
        task("handover", depends="collect-metrics.Succeeded", when=f"{GO} && {K} >= {{{{workflow.parameters.last}}}}"),
        inputs=("k",),
    )
    step = {"inputs": ("k",), "retryStrategy": retry()}
    return workflow(
        "iteration",
        iteration,
        pod("suggest", outputs={"ids": {}}, **step),
        pod("build-model", **step),
        steps("train", [fan_out], inputs=("ids",), parallelism=parallelism),
        trial(**trial_fields),
        pod("collect-metrics", outputs={"go": {}}, **step),
        pod("handover", retryStrategy=retry(5)),
        pod("finish", retryStrategy=retry()),
        given={"run": "{{workflow.name}}", "segment": "0", "k": "1", "last": str(last)},
        onExit="finish",
    )


def lanes(*, lanes: int = 3, last: int = 3) -> Manifest:
    """The shape of lanes mode."""
    lane, contained = "{{inputs.parameters.lane}}", {"continueOn": {"failed": True, "error": True}}
    main = dag(
        "main",
        task("lane", given={"lane": "{{item}}", "k": "1"}, withSequence={"count": "{{workflow.parameters.lanes}}"}),
        task("collect-metrics", depends="lane.Succeeded || lane.Failed || lane.Errored"),
        task("handover", depends="collect-metrics.Succeeded", when=GO),
    )
    one = dag(
        "lane",
        task("suggest", given={"lane": lane, "k": K}),
        task(
            "train",
            given={"id": "{{tasks.suggest.outputs.parameters.id}}"},
            depends="suggest.Succeeded",
            when="{{tasks.suggest.outputs.parameters.go}} == true",
        ),
        task(
            "again",
            "lane",
            given={"lane": lane, "k": NEXT},
            depends="train.Succeeded",
            when=f"{K} < {{{{workflow.parameters.last}}}}",
        ),
        inputs=("lane", "k"),
    )
    return workflow(
        "main",
        main,
        one,
        pod("suggest", inputs=("lane", "k"), outputs={"id": {}, "go": {}}, retryStrategy=retry()),
        steps("train", [task("trial", given={"id": "{{inputs.parameters.id}}"}, **contained)], inputs=("id",)),
        trial(),
        pod("collect-metrics", outputs={"go": {}}, retryStrategy=retry()),
        pod("handover", retryStrategy=retry(5)),
        pod("finish", retryStrategy=retry()),
        given={"run": "{{workflow.name}}", "segment": "0", "lanes": str(lanes), "last": str(last)},
        onExit="finish",
    )


Answer = Result | int | Mapping[str, str]
"""A result; or an exit code; or output files by name."""


@dataclass
class Scripts:
    """Programs by template, each told by a function of its pod; the others end well.

    Attributes:
        ran: node and inputs of each program that ran, in order.
    """

    answers: Mapping[str, Callable[[Pod], Answer] | Answer] = field(default_factory=dict[str, Any])
    seconds: Callable[[Pod], float] = lambda pod: 1.0
    ran: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])

    def __call__(self, pod: Pod) -> Program:
        return Program(self._run, self.seconds)

    def _run(self, pod: Pod) -> Result:
        self.ran.append((pod.template, pod.inputs))
        answer = self.answers.get(pod.template, 0)
        answer = answer(pod) if callable(answer) else answer
        if isinstance(answer, Result):
            return answer
        if isinstance(answer, int):
            return Result(answer)
        return Result(files={f"/kf/{name}": f"{text}\n" for name, text in answer.items()})


def three_iterations(**answers: Any) -> Scripts:
    """Three trials an iteration, three iterations; collect-metrics says when to end."""

    def suggest(pod: Pod) -> Mapping[str, str]:
        return {"ids": json.dumps([f"{pod.inputs['k']}-{letter}" for letter in "abc"])}

    def collect(pod: Pod) -> Mapping[str, str]:
        return {"go": "true" if int(pod.inputs["k"]) < 3 else "false"}

    return Scripts({"suggest": suggest, "collect-metrics": collect, **answers})


def run(manifest: Manifest, programs: Any = None, **settings: Any) -> tuple[Simulator, Any]:
    """Run a Workflow to its end, in no time but that of its programs; the simulator, and the Workflow."""
    simulator = Simulator(programs or Scripts(), **{"costs": FREE, **settings})
    name = simulator.submit(manifest)
    simulator.run()
    return simulator, simulator[name]


def phases(workflow: Any) -> dict[str, str]:
    """Phase of each node, by what its name adds to the Workflow's."""
    return {node.name.removeprefix(workflow.name): str(node.phase) for node in workflow.nodes}
