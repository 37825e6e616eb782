"""Lanes mode: no barrier; each lane loops suggest -> train by itself, for heavy-tailed trials.

Departs from shared/argo/lanes.yaml: ``open`` records the experiment before the lanes start, because their first steps
run at once and MLflow has no compare-and-set; and no semaphore, which needs a ConfigMap that a namespace may not have.
"""

from hera.workflows import DAG, Parameter, Step, Steps, Task, models

from katib_flow.argo import pods
from katib_flow.argo.barrier import GO, K, Shape, collect_metrics, segment_length
from katib_flow.argo.trial_pod import TRIAL_PODS
from katib_flow.spec.experiment import Experiment

LANE = "{{inputs.parameters.lane}}"
LANES, LAST = "{{workflow.parameters.lanes}}", "{{workflow.parameters.last}}"


def shape(experiment: Experiment) -> Shape:
    lanes = experiment.limits.parallel_trials
    run = ["--run", pods.RUN, "--segment", pods.SEGMENT, "--out", pods.SHARED]
    lane = ["--iteration", K, "--lane", LANE, "--lanes", LANES, "--last", LAST]
    templates = [
        _main(),
        _lane(),
        pods.step(experiment, "open", "suggest", ["--run", pods.RUN, "--segment", pods.SEGMENT, "--open"]),
        pods.step(experiment, "suggest", "suggest", [*run, *lane], inputs=["lane", "k"], outputs=["id", "go"]),
        _train(),
        TRIAL_PODS[experiment.trial.kind](experiment),
        collect_metrics(experiment, run),
    ]
    return Shape("main", {"lanes": str(lanes), "last": str(segment_length(experiment))}, templates)


def _main() -> DAG:
    first = [Parameter(name="lane", value="{{item}}"), Parameter(name="k", value="1")]
    count = models.Sequence(count=models.IntOrString(root=LANES))
    ended = "lane.Succeeded || lane.Failed || lane.Errored"  # what a broken lane left open is closed and judged too
    return DAG(
        name="main",
        tasks=[
            Task(name="open", template="open", when=f"{pods.SEGMENT} == 0"),
            Task(name="lane", template="lane", depends="open", with_sequence=count, arguments=first),
            Task(name="collect-metrics", template="collect-metrics", depends=ended),
            Task(name="handover", template="handover", depends="collect-metrics.Succeeded", when=GO),
        ],
    )


def _lane() -> DAG:
    lane, k = Parameter(name="lane", value=LANE), Parameter(name="k", value=K)
    following = Parameter(name="k", value="{{=string(int(inputs.parameters.k) + 1)}}")
    suggested = Parameter(name="id", value="{{tasks.suggest.outputs.parameters.id}}")
    go, more = "{{tasks.suggest.outputs.parameters.go}} == true", f"{K} < {LAST}"
    return DAG(
        name="lane",
        inputs=[Parameter(name="lane"), Parameter(name="k")],
        tasks=[
            Task(name="suggest", template="suggest", arguments=[lane, k]),
            Task(name="train", template="train", depends="suggest.Succeeded", when=go, arguments=[suggested]),
            Task(name="again", template="lane", depends="train.Succeeded", when=more, arguments=[lane, following]),
        ],
    )


def _train() -> Steps:
    """One trial; the steps template is there for continueOn, which keeps its failure from ending the lane."""
    trial = Step(
        name="trial",
        template="trial",
        continue_on=models.ContinueOn(failed=True, error=True),
        arguments=[Parameter(name="id", value="{{inputs.parameters.id}}")],
    )
    return Steps(name="train", inputs=[Parameter(name="id")], sub_steps=[trial])
