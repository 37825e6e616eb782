"""What became of a trial that MLflow has as open though nobody runs it any more: by Argo's own account of its pods."""

from collections.abc import Callable, Sequence

from katib_flow.argo.cluster import WORKFLOW, Cluster, ClusterError, Missing, patiently
from katib_flow.argo.names import segment_name
from katib_flow.argo.nodes import Node, nodes_of, tries_of
from katib_flow.argo.steps.context import Context
from katib_flow.errors import KatibFlowError
from katib_flow.history import Trial

Connect = Callable[[], Cluster]
"""Opens the cluster, for a step that may not need it."""
_DIED = "its pod ended without a result"


def connect() -> Cluster:
    """The cluster that this pod runs in, by the pod's own account."""
    from katib_flow.argo.cluster import KubernetesCluster  # looked up when it is called: tests have one in memory

    return KubernetesCluster()


class Fates:
    """Why trials of an experiment died, each Workflow read once.

    Args:
        connect: None where there is no cluster to be asked.
    """

    def __init__(self, context: Context, connect: Connect | None) -> None:
        self._context, self._connect = context, connect
        self._cluster: Cluster | None = None
        self._read: dict[int, list[Node] | str] = {}

    def died_of(self, trial: Trial) -> str:
        """Why an open trial has failed, for a person; "" where it was cut short, or never began, and is not to blame.

        The pods in the newest Workflow that has any tell. Where Argo cannot be asked, a trial of an earlier Workflow
        that has not begun, as far as MLflow knows, was cut short.

        Raises:
            ClusterError: the cluster has not answered for a while.
        """
        for segment in self._segments(trial):
            nodes = self._nodes(segment)
            if isinstance(nodes, str):
                begun = trial.started is not None or segment == self._started_in(trial)
                return f"{_DIED}; why is not known here: {nodes}" if begun else ""
            if tries := tries_of(nodes, trial.id):
                return _reason(tries)
        return ""

    def _segments(self, trial: Trial) -> Sequence[int]:
        """Numbers of the Workflows that may have run it, this one first."""
        return range(self._context.segment, self._started_in(trial) - 1, -1)

    def _started_in(self, trial: Trial) -> int:
        return min(trial.place.segment, self._context.segment) if trial.place else 0

    def _nodes(self, segment: int) -> list[Node] | str:
        """The nodes of a Workflow, none where it is gone; or why they are not known."""
        if segment not in self._read:
            self._read[segment] = self._ask(segment_name(self._context.record.key, segment))
        return self._read[segment]

    def _ask(self, name: str) -> list[Node] | str:
        if self._connect is None:
            return "there is no cluster to be asked"
        try:
            nodes = nodes_of(patiently(lambda: self._open().get(WORKFLOW, name)))
        except Missing:
            return []
        except KatibFlowError as error:
            if isinstance(error, ClusterError) and error.transient:
                raise
            return str(error)  # no right to read it, or no token of an account
        return f"Argo does not keep the nodes of workflow {name} in the Workflow itself" if nodes is None else nodes

    def _open(self) -> Cluster:
        if self._cluster is None:
            assert self._connect is not None
            self._cluster = self._connect()
        return self._cluster


def _reason(tries: Sequence[Node]) -> str:
    last = tries[-1]
    if last.ended_from_outside or not last.ended:
        return ""
    how = last.message or f"Argo has it as {last.phase} and says no more"
    return f"{_DIED}: {how}" + (f", at try {len(tries)}" if len(tries) > 1 else "")
