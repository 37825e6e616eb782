"""What the commands have in common: their options, and how they open what these name."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from katib_flow.cli.output import Output

if TYPE_CHECKING:
    from katib_flow.spec import Experiment
    from katib_flow.spec.config_maps import ConfigMaps
    from katib_flow.spec.rules import Rule
    from katib_flow.tracking import Store


def _duration(text: str) -> float:
    """Seconds, of a duration as a spec has it."""
    from pydantic import TypeAdapter, ValidationError

    from katib_flow.spec.sections import Duration

    try:
        return TypeAdapter[float](Duration).validate_python(float(text) if text.isdecimal() else text)
    except ValidationError:
        raise typer.BadParameter(f"found {text!r}, need a duration such as 90s, 10m, 2h or 1h30m") from None


DEFAULT_GROUP = "katib-flow"
Spec = Annotated[Path, typer.Argument(help="the experiment's YAML file")]
Name = Annotated[str, typer.Argument(help="an experiment's name (the newest of it), or its run id")]
As = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
Uri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow store; default: the spec's, $MLFLOW_TRACKING_URI, or sqlite:///katib_flow.db here",
    ),
]
Group = Annotated[str, typer.Option("--tracking-experiment", help="MLflow experiment")]
MaxTrials = Annotated[
    int | None, typer.Option("--max-trials", min=1, help="trials in all, in place of limits.max_trials")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", parser=_duration, metavar="TIME", help="90s, 10m, 2h in all, in place of limits.timeout"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]
Barrier = Annotated[
    bool, typer.Option("--barrier", help="suggest only when no trial is running, as an iteration on Argo does")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="show the first suggestions and what would run for them; nothing is done")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="in the cluster; default: argo.namespace, then the kubeconfig's")
]
Watched = Annotated[bool, typer.Option("--watch", "-w", help="show its progress, and exit as it does")]
Image = Annotated[str | None, typer.Option("--image", help="in place of argo.image: has what the trials need")]
Inline = Annotated[bool, typer.Option("--inline", help="put the text of the trial function's module into the Workflow")]
OnArgo = Annotated[bool, typer.Option("--argo", help="go on in the cluster where it ran")]
ConfigMapFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config-map",
        metavar="FILE",
        help="manifests of ConfigMaps, for a Katib manifest whose trialTemplate names one; default: ask the cluster",
    ),
]


def open_store(uri: str | None, group: str) -> "Store":
    """A store to read from: where there is none, none is made.

    Raises:
        NoStore: there is none.
    """
    from katib_flow.errors import NoStore
    from katib_flow.tracking import Store, located

    address, path = located(uri)
    if path is not None and not path.exists():
        raise NoStore(f"{path}: there is no store yet; run an experiment here, or name a store by --tracking-uri")
    return Store(address, group)


def asked_for_config_maps(files: list[Path] | None, *, judging: bool = False) -> "ConfigMaps":
    """Who is asked for the ConfigMaps that a Katib manifest names: some files, else the cluster.

    Args:
        judging: a cluster that cannot be asked is no mistake.
    """
    from katib_flow.argo.config_maps import in_cluster, in_cluster_if_any
    from katib_flow.spec.config_maps import first_of, in_text
    from katib_flow.spec.load import read_text

    if files:
        return first_of(*(in_text(read_text(file), str(file)) for file in files))
    return in_cluster_if_any() if judging else in_cluster()


def load_spec(spec: Path, config_maps: "ConfigMaps", *further: "Rule") -> "Experiment":
    """The experiment of a file; what there is to tell about a Katib manifest goes to stderr."""
    from katib_flow.effects import tell
    from katib_flow.loop import read

    parsed = read(spec, further, config_maps)
    tell(parsed.notes)
    return parsed.experiment


def write_text(text: str, out: Path | None) -> None:
    """Print a text, or write it to a file."""
    from katib_flow.errors import KatibFlowError

    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KatibFlowError(f"{out}: cannot be written: {error.strerror}") from None


def flags_of_store(uri: str | None, group: str) -> str:
    """What a printed command needs to act on the same store, but for a password."""
    from katib_flow.tracking.faults import shown

    where = f" --tracking-uri {shlex.quote(shown(uri))}" if uri else ""
    return where + ("" if group == DEFAULT_GROUP else f" --tracking-experiment {shlex.quote(group)}")
