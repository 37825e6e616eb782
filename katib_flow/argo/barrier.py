"""Barrier mode: each iteration suggests a batch of trials, trains them in parallel, collects metrics and calls itself.

Only an architecture search has the build-model step, because a pod costs about ten seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hera.workflows import DAG, Container, Parameter, Step, Steps, Task, models

from katib_flow.argo import pods
from katib_flow.argo.algorithm_pod import algorithm_fields
from katib_flow.argo.placement import resources
from katib_flow.argo.segments import Weight, segment_length
from katib_flow.argo.trial_pod import TRIAL_PODS
from katib_flow.spec.experiment import Experiment

WEIGHT = Weight(nodes=8, nodes_per_trial=2, bytes=4_600, bytes_per_trial=1_210)
BUILD_WEIGHT = Weight(nodes=10, nodes_per_trial=2, bytes=5_800, bytes_per_trial=1_210)
STEP_SECONDS = 7200
"""Deadline of a katib-flow step, counted from the scheduling of its pod and including the image pull. Without it, the
pod of an image that cannot be pulled would wait forever."""
K = "{{inputs.parameters.k}}"
GO = "{{tasks.collect-metrics.outputs.parameters.go}} == true"


@dataclass(frozen=True)
class Shape:
    """The parts of a Workflow that differ between barrier and lanes mode."""

    entrypoint: str
    parameters: dict[str, str]
    templates: Sequence[Any]


def collect_metrics(experiment: Experiment, args: Sequence[str], inputs: Sequence[str] = ()) -> Container:
    """Return the template of collect-metrics, which asks the algorithm whether it has more to suggest."""
    account = pods.Accounts.of(experiment).judging(experiment)
    fields: dict[str, Any] = {"inputs": inputs, "outputs": ["go"], **account}
    fields |= algorithm_fields(experiment)
    return own_step(experiment, "collect-metrics", "collect_metrics", args, **fields)


def own_step(experiment: Experiment, name: str, program: str, args: Sequence[str], **fields: Any) -> Container:
    """Return the template of a katib-flow step, with a deadline: unlike a trial, it ends within minutes or hangs."""
    fields["resources"] = resources(experiment.argo.steps.resources)
    return pods.step(experiment, name, program, args, active_deadline_seconds=str(STEP_SECONDS), **fields)


def shape(experiment: Experiment) -> Shape:
    """Return the entrypoint, parameters and templates of barrier mode."""
    builds = experiment.architecture is not None
    last = segment_length(experiment, BUILD_WEIGHT if builds else WEIGHT)
    where = ["--run", pods.RUN, "--segment", pods.SEGMENT, "--iteration", K]
    out = ["--out", pods.SHARED]
    suggest = algorithm_fields(experiment, starts_trials=True)
    templates = [
        _iteration(builds=builds),
        own_step(experiment, "suggest", "suggest", [*where, *out], inputs=["k"], outputs=["ids"], **suggest),
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
    """Return the fan-out over trials. A failed trial is a result, so continueOn keeps it from failing the iteration."""
    trial = Step(
        name="trial",
        template="trial",
        continue_on=models.ContinueOn(failed=True, error=True),
        with_param="{{inputs.parameters.ids}}",
        arguments=[Parameter(name="id", value="{{item}}")],
    )
    parallel = experiment.limits.parallel_trials
    return Steps(name="train", inputs=[Parameter(name="ids")], parallelism=parallel, sub_steps=[trial])
