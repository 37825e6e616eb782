"""The cluster side of `submit`, `resume --argo`, `status` and `doctor`: create, watch and describe Workflows."""

import os
import sys
from typing import Any

import typer

from katib_flow.argo import cluster as cluster_module
from katib_flow.argo.cluster import Cluster, ClusterError
from katib_flow.argo.submit import Following, standing
from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.history import Trial
from katib_flow.local.progress import watching
from katib_flow.local.spool import Spool
from katib_flow.spec import Experiment
from katib_flow.tracking import Record, Status, Store

PATIENCE_SECONDS = 15.0  # for one answer of MLflow, before its absence is reported
GLANCE_SECONDS = 5.0  # for which `status` waits for the cluster


def store_of(experiment: Experiment, tracking_uri: str | None) -> Store | None:
    """The store of an experiment on a cluster, if its server is known and reachable here; otherwise print why not."""
    uri = tracking_uri or experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        print("no MLflow server is known here (see --tracking-uri); only what Argo knows is shown")
        return None
    try:
        return Store(uri, experiment.tracking.experiment, patience_seconds=PATIENCE_SECONDS)
    except TrackingError as error:
        print(f"{error}; only what Argo knows is shown")
        return None


def submitted(cluster: Cluster, name: str) -> None:
    """Print the name of a new Workflow, and the commands that show it."""
    print(f"workflow {cluster.namespace}/{name}: created")
    print(f"see it: argo get -n {cluster.namespace} {name}, kubectl get workflow -n {cluster.namespace} {name}")


def watch(
    cluster: Cluster, run: str, experiment: Experiment, store: Store | None, *, segment: int, quiet: bool
) -> None:
    """Show the progress of an experiment until it ends; Ctrl-C leaves it running.

    Args:
        run: the name of the run: that of its Workflows, without the segment.
        store: where the experiment records; None to show only what Argo knows.
        segment: the segment to begin with.

    Raises:
        typer.Exit: always: with 1 if the experiment failed, 130 on Ctrl-C, else 0.
        KatibFlowError: the cluster or the store cannot be read any more.
    """
    shown: set[str] = set()
    with watching(experiment, quiet=quiet) as display:

        def show(following: Following) -> None:
            if display is None or (progress := following.progress()) is None:
                return
            history, most_trials = progress
            fresh: list[Trial] = [trial for trial in history if trial.state.final and trial.id not in shown]
            for trial in fresh:
                shown.add(trial.id)
                display.trial_ended(trial)
            display.show(history, most_trials)

        say = display.say if display is not None else _complain
        following = Following(cluster, run, store, segment, show, say)
        try:
            status = following.wait()
        except KeyboardInterrupt:
            ends = f"katib-flow stop {experiment.name}, argo stop {run}"
            print(f"\ndetached: {run} continues in the cluster; to end it: {ends}")
            raise typer.Exit(130) from None
        except (ClusterError, TrackingError) as error:
            raise KatibFlowError(f"{error}; stopped watching, {run} continues in the cluster") from error
    print(f"{run}: {status}{': ' if following.reason else ''}{following.reason}")
    raise typer.Exit(1 if status is Status.FAILED else 0)


def _complain(text: str) -> None:
    """Print a message that matters even if progress is not wanted."""
    print(text, file=sys.stderr)


def seen_in_cluster(record: Record, namespace: str | None) -> dict[str, Any]:
    """The Workflow of an experiment that has not ended, and what waits in it; empty for one that runs on a machine.

    If the cluster does not answer, the value says why.
    """
    if record.status.final or not record.key or Spool.names(record.key):
        return {}
    try:
        where = namespace or record.experiment.argo.namespace
        cluster = cluster_module.KubernetesCluster(where, in_pod=False, seconds=GLANCE_SECONDS)
        workflow, waiting = standing(cluster, record.key)
    except KatibFlowError as error:
        return {"workflow": f"unknown here: {error}"}
    return {"workflow": f"{cluster.namespace}/{workflow}", "waiting": waiting}


def examine(namespace: str | None, argo_namespace: str, image: str) -> bool:
    """Print what a namespace has and lacks, one line per finding; True if nothing is wrong.

    Args:
        namespace: by default that of the kubeconfig.
        argo_namespace: where Argo's controller runs.
        image: the image of a pod that checks MLflow; "" to run no pod.
    """
    from katib_flow.argo.cluster import KubernetesCluster
    from katib_flow.argo.doctor import Health, examined

    cluster = KubernetesCluster(namespace, in_pod=False)
    controllers = [KubernetesCluster(name, in_pod=False) for name in dict.fromkeys((argo_namespace, cluster.namespace))]
    good = True
    for finding in examined(cluster, controllers, image=image):
        good = good and finding.health is not Health.WRONG
        print(
            f"{finding.health:<8} {finding.what}: {finding.says}"
            + (f"\n         -> {finding.do}" if finding.do else "")
        )
    return good
