"""How long a segment is: its Workflow must stay small enough to be one object of Kubernetes.

Argo keeps a node for each step, twice for one that may be retried, in the Workflow itself, and writes all of it again
after each change. A node's name is its path, so each iteration, which calls the next, makes longer ones; and the run's
name is in each of them several times.
"""

from dataclasses import dataclass

from katib_flow.argo.spec_text import encode_spec
from katib_flow.spec.experiment import Experiment

MAX_ITERATIONS = 40  # Argo ends a path of 100 nested templates; one iteration takes one, retries and callers take more
MAX_BYTES = 530_000
"""Of a Workflow, by what a node weighed on a real controller (600 bytes, under a name of 10 letters): half of what
Kubernetes takes, and a tenth below 600 kB, for attempts that a fault of a machine adds."""
_MANIFEST_BYTES = 12_000  # all but the spec
_SUFFIX = 11  # what generateName and the number of a segment add to the experiment's name
_SHORT_NAME = 10
_MENTIONS = 6.5  # of the run's name, a node
_PER_CALL = len(".again")


@dataclass(frozen=True)
class Weight:
    """What one iteration adds to a Workflow.

    Attributes:
        nodes, nodes_per_trial: nodes, and how many more for each trial.
        bytes, bytes_per_trial: what they weigh in the first iteration, under a short name.
    """

    nodes: int
    nodes_per_trial: int
    bytes: int
    bytes_per_trial: int


def segment_length(experiment: Experiment, weight: Weight) -> int:
    """Iterations of one segment: as many as the spec asks for, or as fit, at least 1."""
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
