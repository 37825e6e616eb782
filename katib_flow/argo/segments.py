"""The length of a segment: its Workflow must stay small enough for one Kubernetes object.

Argo keeps a node per step, two for a step that may be retried, in the Workflow itself, and rewrites them all on each
change. A node's name is its path. Each iteration calls the next, so names grow with the iterations, and each node
repeats the run's name several times.
"""

from dataclasses import dataclass

from katib_flow.argo.spec_text import encode_spec
from katib_flow.spec.experiment import Experiment

MAX_ITERATIONS = 40  # Argo limits nesting to 100 templates; an iteration takes one, retries and callers take more
MAX_BYTES = 530_000
"""Size limit of a Workflow, from the size of a node on a real controller (600 bytes with a name of 10 letters): half
of Kubernetes' limit, and a tenth below 600 kB to leave room for retries."""
_MANIFEST_BYTES = 12_000  # without the spec
_SUFFIX = 11  # letters that generateName and the segment's number add to the experiment's name
_SHORT_NAME = 10
_MENTIONS = 6.5  # of the run's name per node
_PER_CALL = len(".again")


@dataclass(frozen=True)
class Weight:
    """The nodes and bytes that one iteration adds to a Workflow.

    Attributes:
        nodes, nodes_per_trial: number of nodes, and of further nodes per trial.
        bytes, bytes_per_trial: their size in the first iteration of a run with a short name.
    """

    nodes: int
    nodes_per_trial: int
    bytes: int
    bytes_per_trial: int


def segment_length(experiment: Experiment, weight: Weight) -> int:
    """Return the number of iterations per segment: the spec's, or the default, reduced to what fits; at least 1."""
    most = experiment.argo.iterations_per_segment or MAX_ITERATIONS
    trials = experiment.limits.parallel_trials
    name = len(experiment.name) + _SUFFIX
    nodes = weight.nodes + weight.nodes_per_trial * trials
    first = weight.bytes + weight.bytes_per_trial * trials + nodes * _MENTIONS * max(0, name - _SHORT_NAME)
    left, iterations = MAX_BYTES - _MANIFEST_BYTES - len(encode_spec(experiment)), 0
    while iterations < most and left > 0:
        left -= first + nodes * _PER_CALL * iterations
        iterations += left >= 0
    return max(1, iterations)
