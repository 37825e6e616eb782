"""The commands that show recorded experiments."""

from pathlib import Path
from typing import Annotated

import typer

from katib_flow.cli.options import (
    DEFAULT_GROUP,
    As,
    Group,
    Name,
    Namespace,
    Uri,
    open_store,
)
from katib_flow.cli.output import Format, Output


def list_(output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """List the experiments in a store, newest first."""
    from katib_flow.cli.output import show
    from katib_flow.cli.records import overview
    from katib_flow.errors import NoStore

    try:
        records = open_store(tracking_uri, group).records()
    except NoStore:
        records = []
    show([overview(record) for record in records], output, empty="no experiments yet")


def status(
    name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP,
    namespace: Namespace = None,
) -> None:  # fmt: skip
    """Show the status of an experiment, and on a cluster, what waits there and why."""
    from katib_flow.cli.output import show_one
    from katib_flow.cli.records import standing

    store = open_store(tracking_uri, group)
    record = store.find(name)
    row = standing(record, store.history(record), store.control(record))
    if not record.status.final:
        from katib_flow.cli.cluster import seen_in_cluster

        row |= seen_in_cluster(record, namespace)
    show_one(row, output)


def best(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Show the best trial; with several objectives, the trials that no other trial dominates."""
    from katib_flow.cli import records
    from katib_flow.cli.output import show, show_one
    from katib_flow.errors import NotFound

    store = open_store(tracking_uri, group)
    record = store.find(name)
    history = store.history(record)
    several = len(record.experiment.objective) > 1
    front = records.front_of(record.experiment, history) if several else []  # imports NumPy
    row = records.best(record.experiment, history)
    if row is None or (several and not front):
        wanted = " and ".join(repr(objective.metric) for objective in record.experiment.objective)
        raise NotFound(f"{name}: no trial has a finite value of {wanted} yet")
    if several:
        show(front, output, title=f"front of {record.name}")
    else:
        show_one(row, output)


def trials(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Show the trials of an experiment."""
    from katib_flow.cli.output import show
    from katib_flow.trial.table import rows

    store = open_store(tracking_uri, group)
    record = store.find(name)
    show(rows(record.experiment, store.history(record)), output, empty="no trials yet")


def importance(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Show which parameters matter: the share of the objective's variance that each explains (needs scikit-learn)."""
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import importance_of
    from katib_flow.reports.importance import importance as analysis_of

    store = open_store(tracking_uri, group)
    record = store.find(name)
    history = store.history(record)
    results = [analysis_of(record.experiment, history, objective) for objective in record.experiment.objective]
    if output is Output.JSON:
        show_one({result.metric: importance_of(result) for result in results}, output)
        return
    for result in results:
        shares = [
            {"parameter": parameter, "share": share, "deviation": result.deviations[parameter]}
            for parameter, share in result.shares.items()
        ]
        sample = "" if result.budget is None else f", {result.sample}"
        show(shares, output, title=f"importance for {result.metric}{sample}")


def replay(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Compute every suggestion again from the history before it; exit with 1 if one differs from the recorded one."""
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import replayed, shortened, summary_of
    from katib_flow.replay import replay as derive_again

    store = open_store(tracking_uri, group)
    record = store.find(name)
    earlier = store.earlier(record.experiment)
    outcomes = derive_again(record.experiment, store.history(record), earlier=earlier, began=record.started)
    row = replayed(record, outcomes)
    if output is Output.JSON:
        show_one(row, output)
    else:
        for title, rows in (("different", shortened(row["different"])), ("unclear", row["unclear"])):
            if rows:
                show(rows, output, title=title)
        print(f"{record.name}: {summary_of(outcomes)}")
    raise typer.Exit(1 if row["different"] else 0)


def report(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write")] = Path("report.html"),
    serve: Annotated[
        bool, typer.Option("--serve", help="serve the report on this machine instead, always up to date")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="port for --serve; 0 for any free one")
    ] = 5001,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Write everything about an experiment to one HTML file, or serve it while the experiment runs (needs Plotly)."""
    from katib_flow.cli.records import as_seen_here
    from katib_flow.reports.stored import write_report

    store = open_store(tracking_uri, group)
    if serve:
        from katib_flow.cli.live import serve_report

        serve_report(store, name, port)
        return
    write_report(store, as_seen_here(store.find(name)), out)
    print(f"wrote {out}; open it in a browser, it needs no other files")


def register(
    name: Name,
    model: Annotated[
        str | None,
        typer.Option("--model", help="model name; default: tracking.register_model, or the experiment's name"),
    ] = None,
    trial: Annotated[str | None, typer.Option("--trial", help="id of the trial; default: the best")] = None,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Register the network of the best trial, or of another one, in MLflow's model registry (needs PyTorch)."""
    from katib_flow.tracking.registry import register as register_network
    from katib_flow.tracking.registry import wanted

    store = open_store(tracking_uri, group)
    record = store.find(name)
    chosen = wanted(record, store.history(record), trial)
    model = model or record.experiment.tracking.register_model or record.experiment.name
    version = register_network(store, record, chosen, model)
    print(f"models:/{model}/{version}: trial {chosen.id} of {record.name}")


def export(
    name: Name,
    format_: Annotated[Format, typer.Option("--format", help="csv, json or parquet")] = Format.CSV,
    out: Annotated[Path | None, typer.Option("--out", help="file to write; default: stdout")] = None,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Write the trials of an experiment as CSV, JSON or Parquet."""
    from katib_flow.cli.output import export as write
    from katib_flow.trial.table import rows

    store = open_store(tracking_uri, group)
    record = store.find(name)
    write(rows(record.experiment, store.history(record)), format_, out)


def ui(
    port: Annotated[int, typer.Option("--port", "-p", help="port on this machine")] = 5000,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Serve MLflow's own UI for the store on this machine; Ctrl-C ends it."""
    from katib_flow.cli.ui import serve
    from katib_flow.tracking import Store

    serve(port, Store(tracking_uri, group))  # creates the store if there is no experiment yet
