"""The command that imports from other tools: a Katib manifest, an Optuna study, Ray Tune results."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from katib_flow.cli.options import DEFAULT_GROUP, ConfigMapFiles, Group, Uri, asked_for_config_maps, write_text

if TYPE_CHECKING:
    from katib_flow.migration.study import Study

Kind = Literal["katib", "optuna", "ray"]


def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="a Katib manifest; an Optuna storage (sqlite:///study.db or a journal); a Ray Tune results folder"
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: stdout")] = None,
    own_nas: Annotated[
        bool,
        typer.Option("--own-nas", help="Katib: search the nasConfig with katib-flow's own NAS systems and trainer"),
    ] = False,
    study: Annotated[
        str | None, typer.Option("--study", help="Optuna: name of the study, if the storage has several")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Ray Tune: the metric of the objective")] = None,
    direction: Annotated[str | None, typer.Option("--direction", help="Ray Tune: maximize or minimize")] = None,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
    config_map: ConfigMapFiles = None,
) -> None:
    """Write the spec of a Katib manifest, an Optuna study or a Ray Tune search, with comments on what differs.

    A manifest need not be imported to run: `run`, `validate` and `compile` accept it unchanged. The trials of Optuna
    and Ray Tune are recorded in MLflow as a finished experiment, which `warm_start` in the spec names.
    """
    from katib_flow.errors import KatibFlowError

    kind = _kind(source)
    foreign = {"--study": (study, "optuna"), "--metric": (metric, "ray"), "--direction": (direction, "ray")}
    foreign |= {"--own-nas": (own_nas or None, "katib")}
    for option, (value, needed) in foreign.items():
        if value is not None and kind != needed:
            raise KatibFlowError(f"{option}: does not apply to {source}, which was read as {_NAMES[kind]}")
    if kind == "katib":
        _import_katib(Path(source), out, config_map, own_nas=own_nas)
    else:
        _import_study(_study(source, kind, study, metric, direction), out, tracking_uri, group)


_NAMES = {"katib": "a Katib manifest", "optuna": "an Optuna storage", "ray": "a Ray Tune folder"}


def _kind(source: str) -> Kind:
    """The kind of a source, judged by its form and its first bytes."""
    if "://" in source:
        return "optuna"
    path = Path(source)
    if path.is_dir():
        return "ray"
    if not path.is_file():
        return "katib"  # reading it reports that there is no such file
    with path.open("rb") as file:
        first = file.readline(100_000)
    if first.startswith(b"SQLite format 3\0"):
        return "optuna"
    try:
        entry = json.loads(first)
    except (ValueError, RecursionError):
        return "katib"
    return "optuna" if isinstance(entry, dict) and "op_code" in entry else "katib"


def _import_katib(katib: Path, out: Path | None, config_map: list[Path] | None, *, own_nas: bool) -> None:
    from katib_flow.effects import tell
    from katib_flow.errors import KatibFlowError
    from katib_flow.loop import checked, read
    from katib_flow.spec.written import write_spec

    parsed = read(katib, config_maps=asked_for_config_maps(config_map))
    if not parsed.katib:
        raise KatibFlowError(f"{katib}: found a katib-flow spec, need a Katib manifest")
    if out is not None and out.exists() and out.samefile(katib):
        raise KatibFlowError(f"--out: found {out}, need another file, because this is the manifest")
    if own_nas:
        from katib_flow.spec.katib.own_nas import own_search

        parsed = own_search(parsed, str(katib))
        checked(parsed.data, str(katib))
        tell(parsed.notes)
    write_text(write_spec(parsed.data, parsed.notes, f"The Katib experiment {katib.name} as a katib-flow spec."), out)


def _study(source: str, kind: Kind, study: str | None, metric: str | None, direction: str | None) -> "Study":
    if kind == "optuna":
        from katib_flow.migration.optuna import read_optuna

        return read_optuna(source, study)
    from katib_flow.migration.ray import read_ray

    return read_ray(Path(source), metric, direction)


def _import_study(study: "Study", out: Path | None, tracking_uri: str | None, group: str) -> None:
    from katib_flow.errors import KatibFlowError
    from katib_flow.migration.recorded import record_study
    from katib_flow.spec.load import Note
    from katib_flow.spec.written import write_spec
    from katib_flow.tracking import Store

    if out is not None and out.exists():
        raise KatibFlowError(f"{out}: already exists; name another file with -o")
    record, reasons = record_study(study, Store(tracking_uri, group))
    left = f"; left out: {_counted(reasons)}" if reasons else ""
    _say(f"recorded {record.name} ({record.run_id[:8]}), {record.reason}{left}")
    notes = [
        *study.notes,
        Note("warm_start", f"{record.reason}{left}"),
        Note("trial", "how to run your program, which Optuna and Ray Tune do not record"),
    ]
    data = study.spec()
    header = f"The search {study.name!r} of {study.tuner} as a katib-flow spec that learns from its trials."
    write_text(write_spec(data, notes, header.replace("\n", " ")), out)


def _counted(reasons: Counter[str]) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(10))


def _say(text: str) -> None:
    """Print to stderr, so that stdout stays readable for programs."""
    from katib_flow.trial.table import printable

    typer.echo(printable(text), err=True)
