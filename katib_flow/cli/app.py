"""The program and its commands, each of which imports what it needs when called, so that ``--help`` is fast."""

from typing import Annotated

import typer

from katib_flow.cli import imported, recorded, running, specs
from katib_flow.cli.options import As
from katib_flow.cli.output import Output

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="AutoML as plain workflows: run experiments on this machine or on Argo, recorded in MLflow.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"katib-flow {version('katib-flow')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None: ...


def algorithms(
    name: Annotated[str | None, typer.Argument(help="show one algorithm with its settings")] = None,
    output: As = Output.TABLE,
    schema: Annotated[
        bool, typer.Option("--schema", help="print the JSON schema of the requests and replies of a suggesting program")
    ] = False,
) -> None:
    """List the search algorithms, or show one with its settings."""
    if schema:
        from katib_flow.cli.output import to_json
        from katib_flow.outside import protocol

        print(to_json(protocol.schema()))
        return
    from katib_flow.algorithms import find_algorithm, registered_algorithms
    from katib_flow.cli.output import show, show_one
    from katib_flow.errors import NotFound
    from katib_flow.nas.settings import SystemSettings
    from katib_flow.wording import did_you_mean

    if name is None:
        _show_algorithms(output)
        return
    entry = find_algorithm(name)
    if entry is None:
        raise NotFound(f"{name}: no such algorithm{did_you_mean(name, registered_algorithms())}")
    about = {"name": entry.name, "aliases": ", ".join(entry.aliases), "summary": entry.summary}
    about |= {"strategy": entry.strategy, "scope": ", ".join(entry.scope)}
    fields, texts = entry.settings.model_fields.items(), entry.settings.about()
    paper = entry.settings.paper if issubclass(entry.settings, SystemSettings) else None
    settings = [
        {"setting": key, "default": field.default}
        | ({} if paper is None else {"paper": {"preset": "paper", **paper}.get(key, field.default)})
        | {"about": texts.get(key, "")}
        for key, field in fields
    ]
    if output is Output.JSON:
        show_one(about | {"settings": settings}, output)
    else:
        show_one(about, output)
        show(settings, output, title="settings") if settings else print("no settings")


def _show_algorithms(output: Output) -> None:
    """All algorithms, and the NAS systems again in the table of the paper."""
    from katib_flow.algorithms import registered_algorithms
    from katib_flow.cli.output import show
    from katib_flow.nas import table

    entries = list(registered_algorithms().values())
    listed = [{"name": entry.name, "summary": entry.summary} for entry in entries]
    if output is Output.JSON:
        details = ({"strategy": entry.strategy, "scope": list(entry.scope)} for entry in entries)
        show([about | detail for about, detail in zip(listed, details, strict=True)], output)
        return
    show(listed, output)
    show(table.rows(entries), output, title="Architecture search (Zhou et al., OpML 2019, table 1)", lines=True)
    print(table.caption(entries))


COMMANDS = {
    "run": running.run,
    "resume": running.resume,
    "init": specs.init,
    "validate": specs.validate,
    "compile": specs.compile,
    "spec": specs.spec,
    "import": imported.import_,
    "submit": specs.submit,
    "doctor": specs.doctor,
    "list": recorded.list_,
    "status": recorded.status,
    "best": recorded.best,
    "trials": recorded.trials,
    "importance": recorded.importance,
    "replay": recorded.replay,
    "report": recorded.report,
    "register": recorded.register,
    "export": recorded.export,
    "stop": running.stop,
    "pause": running.pause,
    "algorithms": algorithms,
    "ui": recorded.ui,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
