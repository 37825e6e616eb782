"""Lanes mode: each lane loops suggest -> train without a barrier, for trials whose durations vary widely.

Segments overlap so that no lane waits for the slowest one. The first lane to begin its last turn hands over, and each
lane of the next segment starts when the same lane of this segment has ended. A mutex per lane of the run ensures this;
a lane that waits for its mutex holds no pod.

The step ``open`` records the experiment before the lanes start, because their first steps run at the same time and
MLflow has no compare-and-set. A lane continues after a failed trial through ``depends``, which takes two nodes a turn
fewer than a steps template around the trial.
"""

from typing import Any

from hera.workflows import DAG, Parameter, Task, models

from katib_flow.argo import pods
from katib_flow.argo.algorithm_pod import algorithm_fields
from katib_flow.argo.barrier import GO, K, Shape, collect_metrics, own_step
from katib_flow.argo.segments import Weight, segment_length
from katib_flow.argo.trial_pod import TRIAL_PODS
from katib_flow.spec.experiment import Experiment

LANE = "{{inputs.parameters.lane}}"
LANES, LAST = "{{workflow.parameters.lanes}}", "{{workflow.parameters.last}}"
WEIGHT = Weight(nodes=0, nodes_per_trial=6, bytes=0, bytes_per_trial=3_900)


def shape(experiment: Experiment) -> Shape:
    """Return the entrypoint, parameters and templates of lanes mode."""
    lanes = experiment.limits.parallel_trials
    run = ["--run", pods.RUN, "--segment", pods.SEGMENT, "--out", pods.SHARED]
    lane = ["--iteration", K, "--lane", LANE, "--lanes", LANES, "--last", LAST]
    fields: dict[str, Any] = {"inputs": ["lane", "k"], "outputs": ["id", "go", "handover"]}
    fields |= pods.Accounts.of(experiment).judging(experiment) | algorithm_fields(experiment, starts_trials=True)
    templates = [
        _main(),
        _lane(),
        _turn(),
        own_step(experiment, "open", "suggest", ["--run", pods.RUN, "--segment", pods.SEGMENT, "--open"]),
        own_step(experiment, "suggest", "suggest", [*run, *lane], **fields),
        TRIAL_PODS[experiment.trial.kind](experiment),
        collect_metrics(experiment, run),
    ]
    return Shape("main", {"lanes": str(lanes), "last": str(segment_length(experiment, WEIGHT))}, templates)


def _main() -> DAG:
    count = models.Sequence(count=models.IntOrString(root=LANES))
    ended = "lane.Succeeded || lane.Failed || lane.Errored"  # collect-metrics also closes the trials of a failed lane
    numbered = [Parameter(name="lane", value="{{item}}")]
    return DAG(
        name="main",
        tasks=[
            Task(name="open", template="open", when=f"{pods.SEGMENT} == 0"),
            Task(name="lane", template="lane", depends="open", with_sequence=count, arguments=numbered),
            Task(name="collect-metrics", template="collect-metrics", depends=ended),
            Task(name="handover", template="handover", depends="collect-metrics.Succeeded", when=GO),
        ],
    )


def _lane() -> DAG:
    """Return the turns of a lane. Across the segments of a run, one lane of each number runs at a time."""
    first = [Parameter(name="lane", value=LANE), Parameter(name="k", value="1")]
    return DAG(
        name="lane",
        inputs=[Parameter(name="lane")],
        synchronization=models.Synchronization(mutexes=[models.Mutex(name=f"{pods.RUN}-{LANE}")]),
        tasks=[Task(name="turn", template="turn", arguments=first)],
    )


def _turn() -> DAG:
    lane, k = Parameter(name="lane", value=LANE), Parameter(name="k", value=K)
    following = Parameter(name="k", value="{{=string(int(inputs.parameters.k) + 1)}}")
    suggested = Parameter(name="id", value="{{tasks.suggest.outputs.parameters.id}}")
    go, more = "{{tasks.suggest.outputs.parameters.go}} == true", f"{K} < {LAST}"
    first = "{{tasks.suggest.outputs.parameters.handover}} == true"
    ended = "train.Succeeded || train.Failed || train.Errored"
    return DAG(
        name="turn",
        inputs=[Parameter(name="lane"), Parameter(name="k")],
        tasks=[
            Task(name="suggest", template="suggest", arguments=[lane, k]),
            Task(name="train", template="trial", depends="suggest.Succeeded", when=go, arguments=[suggested]),
            Task(name="handover", template="handover", depends="suggest.Succeeded", when=first),
            Task(name="again", template="turn", depends=ended, when=more, arguments=[lane, following]),
        ],
    )
