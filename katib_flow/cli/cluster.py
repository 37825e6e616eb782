"""`submit` and `resume --argo`: create a Workflow, and watch it where asked to."""

import os

import typer

from katib_flow.argo.cluster import Cluster
from katib_flow.argo.submit import Following
from katib_flow.history import Trial
from katib_flow.local.progress import watching
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store


def store_of(experiment: Experiment, tracking_uri: str | None) -> Store | None:
    """Where the cluster records, as far as it is known here; only an MLflow server can be both here and there."""
    uri = tracking_uri or experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    return Store(uri, experiment.tracking.experiment) if uri else None


def submitted(cluster: Cluster, name: str) -> None:
    """Say what is there now, and how to see it."""
    print(f"workflow {cluster.namespace}/{name}: created")
    print(f"see it: argo get -n {cluster.namespace} {name}, kubectl get workflow -n {cluster.namespace} {name}")


def watch(
    cluster: Cluster, run: str, experiment: Experiment, store: Store | None, *, segment: int, quiet: bool
) -> None:
    """Show an experiment until it has ended, and exit as it did; Ctrl-C leaves it running."""
    if store is None:
        print("no MLflow server is known here (--tracking-uri): only the end will be told")
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

        following = Following(cluster, run, store, segment, show)
        try:
            status = following.wait()
        except KeyboardInterrupt:
            ends = f"katib-flow stop {experiment.name}, argo stop {run}"
            print(f"\ndetached: {run} goes on in the cluster; to end it: {ends}")
            raise typer.Exit(130) from None
    reason = following.record.reason if following.record else ""
    print(f"{run}: {status}{': ' if reason else ''}{reason}")
    raise typer.Exit(1 if status is Status.FAILED else 0)
