"""The commands that show what is recorded."""

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
    """The experiments of a store, newest first."""
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
    """How an experiment stands; of one that runs on a cluster, what waits there and why."""
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
    """The best trial of an experiment; of several objectives, the trials that no other dominates."""
    from katib_flow.cli import records
    from katib_flow.cli.output import show, show_one
    from katib_flow.errors import NotFound

    store = open_store(tracking_uri, group)
    record = store.find(name)
    history = store.history(record)
    row, front = records.best(record.experiment, history), records.front_of(record.experiment, history)
    several = len(record.experiment.objective) > 1
    if row is None or (several and not front):
        wanted = " and ".join(repr(objective.metric) for objective in record.experiment.objective)
        raise NotFound(f"{name}: no trial has a finite value of {wanted} yet")
    if several:
        show(front, output, title=f"front of {record.name}")
    else:
        show_one(row, output)


def trials(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """The trials of an experiment."""
    from katib_flow.cli.output import show
    from katib_flow.trial.table import rows

    store = open_store(tracking_uri, group)
    record = store.find(name)
    show(rows(record.experiment, store.history(record)), output, empty="no trials yet")


def importance(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Which parameters matter: what share of the objective's variance each explains (needs scikit-learn)."""
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import mattering
    from katib_flow.reports.importance import importance as importance_of

    store = open_store(tracking_uri, group)
    record = store.find(name)
    history = store.history(record)
    found = [importance_of(record.experiment, history, objective) for objective in record.experiment.objective]
    if output is Output.JSON:
        show_one({each.metric: mattering(each) for each in found}, output)
        return
    for each in found:
        shares = [
            {"parameter": parameter, "share": share, "deviation": each.deviations[parameter]}
            for parameter, share in each.shares.items()
        ]
        show(shares, output, title=f"importance for {each.metric}")


def replay(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Derive every suggestion again from what was known before it; exit with 1 where one is not what is recorded."""
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import in_short, replayed, summed_up
    from katib_flow.replay import replay as derive_again

    store = open_store(tracking_uri, group)
    record = store.find(name)
    earlier = store.earlier(record.experiment)
    outcomes = derive_again(record.experiment, store.history(record), earlier=earlier, began=record.started)
    row = replayed(record, outcomes)
    if output is Output.JSON:
        show_one(row, output)
    else:
        for title, rows in (("different", in_short(row["different"])), ("unclear", row["unclear"])):
            if rows:
                show(rows, output, title=title)
        print(f"{record.name}: {summed_up(outcomes)}")
    raise typer.Exit(1 if row["different"] else 0)


def report(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write")] = Path("report.html"),
    serve: Annotated[
        bool, typer.Option("--serve", help="no file: serve the report on this machine, up to date while it runs")
    ] = False,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="port for --serve; 0: any")] = 5001,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Write all there is to know of an experiment into one HTML file, or serve it while it runs (needs Plotly)."""
    from katib_flow.cli.records import as_seen_here
    from katib_flow.reports.stored import write_report

    store = open_store(tracking_uri, group)
    if serve:
        from katib_flow.cli.live import serve_report

        serve_report(store, name, port)
        return
    write_report(store, as_seen_here(store.find(name)), out)
    print(f"{out}: open it in a browser; it needs nothing else")


def register(
    name: Name,
    model: Annotated[
        str | None, typer.Option("--model", help="default: tracking.register_model, or the experiment's name")
    ] = None,
    trial: Annotated[str | None, typer.Option("--trial", help="its id; default: the best")] = None,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Register the network of the best trial, or of another, in MLflow's model registry (needs PyTorch)."""
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
    """Open the store in MLflow's own UI on this machine. Ctrl-C ends it."""
    from katib_flow.cli.ui import serve
    from katib_flow.tracking import Store

    serve(port, Store(tracking_uri, group))  # it may be opened before the first experiment: a new store is made
