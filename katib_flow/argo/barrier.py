"""Barrier mode: an iteration suggests a batch, trains it side by side, collects, and calls itself again.

Departs from shared/argo/barrier.yaml: build-model is there only where there is an architecture to search, because a pod
costs ten seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hera.workflows import DAG, Container, Parameter, Step, Steps, Task, models

from katib_flow.argo import pods
from katib_flow.argo.algorithm_pod import beside
from katib_flow.argo.placement import resources
from katib_flow.argo.segments import Weight, segment_length
from katib_flow.argo.trial_pod import TRIAL_PODS
from katib_flow.spec.experiment import Experiment

WEIGHT = Weight(nodes=8, nodes_per_trial=2, bytes=4_600, bytes_per_trial=1_210)
BUILD_WEIGHT = Weight(nodes=10, nodes_per_trial=2, bytes=5_800, bytes_per_trial=1_210)
STEP_SECONDS = 7200
"""Deadline of a step of our own, from when its pod is on a node, the time in which its image is pulled included: an
image that cannot be had would otherwise be waited for without an end."""
K = "{{inputs.parameters.k}}"
GO = "{{tasks.collect-metrics.outputs.parameters.go}} == true"


@dataclass(frozen=True)
class Shape:
    """What differs between the modes."""

    entrypoint: str
    parameters: dict[str, str]
    templates: Sequence[Any]


def collect_metrics(experiment: Experiment, args: Sequence[str], inputs: Sequence[str] = ()) -> Container:
    account = pods.Accounts.of(experiment).judging(experiment)
    fields: dict[str, Any] = {"inputs": inputs, "outputs": ["go"], **account}
    fields |= beside(experiment)  # it asks whether there is more to suggest
    return own_step(experiment, "collect-metrics", "collect_metrics", args, **fields)


def own_step(experiment: Experiment, name: str, program: str, args: Sequence[str], **fields: Any) -> Container:
    """A pod of one of our own steps, which ends in minutes or hangs; a trial's may take as long as it likes."""
    fields["resources"] = resources(experiment.argo.steps.resources)
    return pods.step(experiment, name, program, args, active_deadline_seconds=str(STEP_SECONDS), **fields)


def shape(experiment: Experiment) -> Shape:
    builds = experiment.architecture is not None
    last = segment_length(experiment, BUILD_WEIGHT if builds else WEIGHT)
    where = ["--run", pods.RUN, "--segment", pods.SEGMENT, "--iteration", K]
    out = ["--out", pods.SHARED]
    company = beside(experiment, starts_trials=True)
    templates = [
        _iteration(builds=builds),
        own_step(experiment, "suggest", "suggest", [*where, *out], inputs=["k"], outputs=["ids"], **company),
        *([own_step(experiment, "build-model", "build_model", where, inputs=["k"])] if builds else []),
        _train(experiment),
        TRIAL_PODS[experiment.trial.kind](experiment),
        collect_metrics(experiment, [*where, *out], inputs=["k"]),
    ]
    return Shape("iteration", {"k": "1", "last": str(last)}, templates)


def _iteration(*, builds: bool) -> DAG:
    k = Parameter(name="k", value=K)
    ids = Parameter(name="ids", value="{{tasks.suggest.outputs.parameters.ids}}")
    following = Parameter(name="k", value="{{=string(int(inputs.parameters.k) + 1)}}")
    suggested = "suggest.Succeeded"
    build = [Task(name="build-model", template="build-model", depends=suggested, arguments=[k])] if builds else []
    before_train = "build-model.Succeeded" if builds else suggested
    more, full = f"{K} < {{{{workflow.parameters.last}}}}", f"{K} >= {{{{workflow.parameters.last}}}}"
    collected = "collect-metrics.Succeeded"
    return DAG(
        name="iteration",
        inputs=[Parameter(name="k")],
        tasks=[
            Task(name="suggest", template="suggest", arguments=[k]),
            *build,
            Task(name="train", template="train", depends=before_train, arguments=[ids]),
            Task(name="collect-metrics", template="collect-metrics", depends="train.Succeeded", arguments=[k]),
            Task(name="again", template="iteration", depends=collected, when=f"{GO} && {more}", arguments=[following]),
            Task(name="handover", template="handover", depends=collected, when=f"{GO} && {full}"),
        ],
    )


def _train(experiment: Experiment) -> Steps:
    """The fan-out. A failed trial is a result: continueOn keeps it from failing the iteration."""
    trial = Step(
        name="trial",
        template="trial",
        continue_on=models.ContinueOn(failed=True, error=True),
        with_param="{{inputs.parameters.ids}}",
        arguments=[Parameter(name="id", value="{{item}}")],
    )
    parallel = experiment.limits.parallel_trials
    return Steps(name="train", inputs=[Parameter(name="ids")], parallelism=parallel, sub_steps=[trial])
