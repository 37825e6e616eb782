"""The commands that run, resume, pause and stop experiments."""

import shlex
from typing import TYPE_CHECKING, Any

import typer

from katib_flow.cli.options import (
    DEFAULT_GROUP,
    As,
    Barrier,
    ConfigMapFiles,
    DryRun,
    Group,
    MaxTrials,
    Name,
    Namespace,
    OnArgo,
    Quiet,
    Spec,
    Timeout,
    Uri,
    Watched,
    asked_for_config_maps,
    flags_of_store,
    load_spec,
    open_store,
)
from katib_flow.cli.output import Output

if TYPE_CHECKING:
    from katib_flow.local import Result
    from katib_flow.tracking import Record, Store


def run(
    spec: Spec, output: As = Output.TABLE, tracking_uri: Uri = None, barrier: Barrier = False, quiet: Quiet = False,
    config_map: ConfigMapFiles = None, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Run an experiment on this machine. Ctrl-C stops it cleanly; `resume` continues it."""
    if dry_run:
        from katib_flow.cli.dry_run import show_preview

        show_preview(load_spec(spec, asked_for_config_maps(config_map)), tracking_uri, output)
        return
    from katib_flow.algorithms.auto import settled
    from katib_flow.local import run_experiment
    from katib_flow.local.progress import watching
    from katib_flow.tracking import Store

    experiment = settled(load_spec(spec, asked_for_config_maps(config_map)))
    if experiment.algorithm.why and not quiet and output is Output.TABLE:
        print(f"algorithm {experiment.algorithm.name}, {experiment.algorithm.why}")
    store = Store(tracking_uri, experiment.tracking.experiment) if tracking_uri else None
    with watching(experiment, quiet=quiet or output is Output.JSON) as progress:
        result = run_experiment(experiment, store=store, progress=progress, barrier=barrier)
    _conclude(result, output, tracking_uri or experiment.tracking.uri)


def resume(
    name: Name, max_trials: MaxTrials = None, timeout: Timeout = None, output: As = Output.TABLE,
    tracking_uri: Uri = None, group: Group = DEFAULT_GROUP, barrier: Barrier = False, quiet: Quiet = False,
    argo: OnArgo = False, watch: Watched = False, namespace: Namespace = None,
) -> None:  # fmt: skip
    """Continue an experiment that was interrupted, stopped or paused, or give a finished one more trials or time."""
    from katib_flow.local import resume_experiment
    from katib_flow.local.progress import watching

    store = open_store(tracking_uri, group)
    record = store.find(name)
    more: dict[str, Any] = {"max_trials": max_trials, "timeout": timeout}
    if argo:
        _resume_on_argo(store, record, more, namespace, watch=watch, quiet=quiet)
        return
    with watching(record.experiment, quiet=quiet or output is Output.JSON) as progress:
        result = resume_experiment(store, record.run_id, **more, progress=progress, barrier=barrier)
    _conclude(result, output, tracking_uri)


def _resume_on_argo(
    store: "Store", record: "Record", more: dict[str, Any], namespace: str | None, *, watch: bool, quiet: bool
) -> None:
    from katib_flow.argo.cluster import KubernetesCluster
    from katib_flow.argo.submit import go_on
    from katib_flow.cli import cluster as on_cluster

    cluster = KubernetesCluster(namespace or record.experiment.argo.namespace, in_pod=False)
    name = go_on(cluster, store, record, **more)
    on_cluster.submitted(cluster, name)
    if watch:
        segment = int(name.removeprefix(f"{record.key}-s"))
        on_cluster.watch(cluster, record.key, record.experiment, store, segment=segment, quiet=quiet)


def _conclude(result: "Result", output: Output, uri: str | None) -> None:
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import conclusion, front_of, ranked
    from katib_flow.cli.ui import address_of
    from katib_flow.tracking import Status
    from katib_flow.tracking.views import trials_path

    interrupted = result.status is Status.INTERRUPTED
    if output is Output.JSON:
        show_one(conclusion(result), output)
    else:
        where = flags_of_store(uri, result.experiment.tracking.experiment)
        several = len(result.experiment.objective) > 1
        top = (front_of if several else ranked)(result.experiment, result.history, 10)
        if top:
            show(top, output, title=f"{'front' if several else 'best trials'} of {result.name}")
        counts = ", ".join(f"{count} {state}" for state, count in sorted(result.history.counts().items()))
        counted = not top and result.status is Status.FAILED  # the reason has the counts already
        print(result.reason if counted or not counts else f"{result.reason}: {counts}")
        print(f"see every trial, its metrics and its log in MLflow: katib-flow ui{where}   (run {result.run_id})")
        link = address_of(result.store, trials_path(result.store.get(result.run_id)))
        print(f"all trials side by side: {link}")
        if interrupted or result.status is Status.PAUSED:
            print(f"to continue: katib-flow resume {shlex.quote(result.name)}{where}")
    raise typer.Exit(130 if interrupted else 1 if result.status is Status.FAILED else 0)


def stop(name: Name, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """End a running experiment, wherever it runs; its running trials are killed."""
    store = open_store(tracking_uri, group)
    record = _going_on(store, name)
    store.set_control(record, stop=True)
    print(f"{record.name}: asked to stop, which takes a few seconds")


def pause(name: Name, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Start no more trials, and let the running ones finish; `resume` continues the experiment."""
    store = open_store(tracking_uri, group)
    record = _going_on(store, name)
    store.set_control(record, pause=True)
    where = flags_of_store(tracking_uri, group)
    print(f"{record.name}: asked to pause; to continue: katib-flow resume {shlex.quote(name)}{where}")


def _going_on(store: "Store", name: str) -> "Record":
    from katib_flow.cli.records import as_seen_here
    from katib_flow.errors import KatibFlowError

    record = as_seen_here(store.find(name))
    if record.status.final:
        raise KatibFlowError(f"{record.name}: has already ended, {record.status}: {record.reason}")
    return record
