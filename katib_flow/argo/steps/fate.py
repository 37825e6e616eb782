"""Find out from Argo why a trial that no pod runs any more has recorded no end in MLflow."""

from collections.abc import Callable, Sequence

from katib_flow.argo.cluster import WORKFLOW, Cluster, ClusterError, Missing, patiently
from katib_flow.argo.names import segment_name
from katib_flow.argo.nodes import Node, nodes_of, tries_of
from katib_flow.argo.steps.context import Context
from katib_flow.errors import KatibFlowError
from katib_flow.history import Trial

Connect = Callable[[], Cluster]
"""Opens the cluster. Steps open it only when needed."""
_DIED = "its pod ended without a result"


def connect() -> Cluster:
    """Open the cluster that this pod runs in, with the pod's service account."""
    from katib_flow.argo.cluster import KubernetesCluster  # imported on each call, because tests replace it

    return KubernetesCluster()


class Fates:
    """Why trials of an experiment died. Each Workflow is read once.

    Args:
        context: the experiment.
        connect: opens the cluster; None without a cluster.
    """

    def __init__(self, context: Context, connect: Connect | None) -> None:
        self._context, self._connect = context, connect
        self._cluster: Cluster | None = None
        self._read: dict[int, list[Node] | str] = {}

    def died_of(self, trial: Trial) -> str:
        """Return why an open trial failed; "" if it was cut short or never started, which is not its fault.

        The answer comes from the newest Workflow that has pods of the trial. If Argo cannot be asked, a trial of an
        earlier Workflow that MLflow does not have as started counts as cut short.

        Raises:
            ClusterError: the cluster did not answer for as long as the step tried.
        """
        for segment in self._segments(trial):
            nodes = self._nodes(segment)
            if isinstance(nodes, str):
                started = trial.started is not None or segment == self._started_in(trial)
                return f"{_DIED}, and the reason could not be read: {nodes}" if started else ""
            if attempts := tries_of(nodes, trial.id):
                return _reason(attempts)
        return ""

    def _segments(self, trial: Trial) -> Sequence[int]:
        """Return the numbers of the segments that may have run the trial, this one first."""
        return range(self._context.segment, self._started_in(trial) - 1, -1)

    def _started_in(self, trial: Trial) -> int:
        return min(trial.position.segment, self._context.segment) if trial.position else 0

    def _nodes(self, segment: int) -> list[Node] | str:
        """Return the nodes of a segment, none if its Workflow no longer exists, or why they cannot be read."""
        if segment not in self._read:
            self._read[segment] = self._ask(segment_name(self._context.record.key, segment))
        return self._read[segment]

    def _ask(self, name: str) -> list[Node] | str:
        if self._connect is None:
            return "no cluster is connected"
        try:
            nodes = nodes_of(patiently(lambda: self._open().get(WORKFLOW, name)))
        except Missing:
            return []
        except KatibFlowError as error:
            if isinstance(error, ClusterError) and error.transient:
                raise
            return str(error)  # no right to read the Workflow, or no token
        return f"Argo does not keep the nodes of workflow {name} in the Workflow itself" if nodes is None else nodes

    def _open(self) -> Cluster:
        if self._cluster is None:
            assert self._connect is not None
            self._cluster = self._connect()
        return self._cluster


def _reason(attempts: Sequence[Node]) -> str:
    last = attempts[-1]
    if last.ended_from_outside or not last.ended:
        return ""
    how = last.message or f"phase {last.phase}, and Argo gives no reason"
    return f"{_DIED}: {how}" + (f", at attempt {len(attempts)}" if len(attempts) > 1 else "")
