"""`submit`, `resume --argo` and `status` of what runs on a cluster: create a Workflow, watch it, say how it stands."""

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

PATIENCE_SECONDS = 15.0  # of one look at MLflow, after which its absence is told
GLANCE_SECONDS = 5.0  # for which `status` waits for an answer of the cluster


def store_of(experiment: Experiment, tracking_uri: str | None) -> Store | None:
    """Where the cluster records, as far as it is known and reached here; only a server can be both here and there."""
    uri = tracking_uri or experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        print("no MLflow server is known here (--tracking-uri): only what Argo knows will be told")
        return None
    try:
        return Store(uri, experiment.tracking.experiment, patience_seconds=PATIENCE_SECONDS)
    except TrackingError as error:
        print(f"{error}; only what Argo knows will be told")
        return None


def submitted(cluster: Cluster, name: str) -> None:
    """Say what is there now, and how to see it."""
    print(f"workflow {cluster.namespace}/{name}: created")
    print(f"see it: argo get -n {cluster.namespace} {name}, kubectl get workflow -n {cluster.namespace} {name}")


def watch(
    cluster: Cluster, run: str, experiment: Experiment, store: Store | None, *, segment: int, quiet: bool
) -> None:
    """Show an experiment until it has ended, and exit as it did; Ctrl-C leaves it running."""
    told: set[str] = set()
    with watching(experiment, quiet=quiet) as display:

        def show(following: Following) -> None:
            if display is None or (found := following.progress()) is None:
                return
            history, most_trials = found
            fresh: list[Trial] = [trial for trial in history if trial.state.final and trial.id not in told]
            for trial in fresh:
                told.add(trial.id)
                display.trial_ended(trial)
            display.show(history, most_trials)

        say = display.say if display is not None else _complain
        following = Following(cluster, run, store, segment, show, say)
        try:
            status = following.wait()
        except KeyboardInterrupt:
            ends = f"katib-flow stop {experiment.name}, argo stop {run}"
            print(f"\ndetached: {run} goes on in the cluster; to end it: {ends}")
            raise typer.Exit(130) from None
        except (ClusterError, TrackingError) as error:
            raise KatibFlowError(f"{error}; not watched any more, {run} goes on in the cluster") from error
    print(f"{run}: {status}{': ' if following.reason else ''}{following.reason}")
    raise typer.Exit(1 if status is Status.FAILED else 0)


def _complain(text: str) -> None:
    """What a person must know even where progress is not wanted."""
    print(text, file=sys.stderr)


def seen_in_cluster(record: Record, namespace: str | None) -> dict[str, Any]:
    """How the Workflow of an experiment that is not over stands, and what waits in it; nothing of one that ran here.

    Where the cluster cannot be asked, why.
    """
    if record.status.final or not record.key or Spool.names(record.key):
        return {}
    try:
        where = namespace or record.experiment.argo.namespace
        cluster = cluster_module.KubernetesCluster(where, in_pod=False, seconds=GLANCE_SECONDS)
        workflow, waiting = standing(cluster, record.key)
    except KatibFlowError as error:
        return {"workflow": f"not known here: {error}"}
    return {"workflow": f"{cluster.namespace}/{workflow}", "waiting": waiting}


def examine(namespace: str | None, argo_namespace: str, image: str) -> bool:
    """Print what a namespace has and lacks, a line a piece; whether nothing is wrong."""
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
