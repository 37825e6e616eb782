"""The options that commands share, and functions that open what these options name."""

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
    """Convert a duration, written as in a spec, to seconds."""
    from pydantic import TypeAdapter, ValidationError

    from katib_flow.spec.sections import Duration

    try:
        return TypeAdapter[float](Duration).validate_python(float(text) if text.isdecimal() else text)
    except ValidationError:
        raise typer.BadParameter(f"found {text!r}, need a duration such as 90s, 10m, 2h or 1h30m") from None


DEFAULT_GROUP = "katib-flow"
Spec = Annotated[Path, typer.Argument(help="the experiment's YAML file")]
Name = Annotated[str, typer.Argument(help="name of an experiment (the newest one), or its run id")]
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
    int | None, typer.Option("--max-trials", min=1, help="total number of trials, instead of limits.max_trials")
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", parser=_duration, metavar="TIME", help="total time such as 90s, 10m, 2h, instead of limits.timeout"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")]
Barrier = Annotated[
    bool, typer.Option("--barrier", help="suggest only when no trial is running, like iterations on Argo")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="show the first suggestions and what would run for them, without running anything"),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="namespace in the cluster; default: argo.namespace, then the kubeconfig's"),
]
Watched = Annotated[
    bool, typer.Option("--watch", "-w", help="show the progress, and exit with the experiment's status")
]
Image = Annotated[
    str | None, typer.Option("--image", help="image with the dependencies of the trials, instead of argo.image")
]
Inline = Annotated[bool, typer.Option("--inline", help="put the code of the trial function's module into the Workflow")]
OnArgo = Annotated[bool, typer.Option("--argo", help="resume in the cluster in which it ran")]
ConfigMapFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config-map",
        metavar="FILE",
        help="manifests of ConfigMaps, for a Katib manifest whose trialTemplate names one; default: ask the cluster",
    ),
]


def open_store(uri: str | None, group: str) -> "Store":
    """Open a store for reading, without creating it.

    Raises:
        NoStore: the store does not exist.
    """
    from katib_flow.errors import NoStore
    from katib_flow.tracking import Store, located

    address, path = located(uri)
    if path is not None and not path.exists():
        raise NoStore(f"{path}: no store exists yet; run an experiment here, or name a store with --tracking-uri")
    return Store(address, group)


def asked_for_config_maps(files: list[Path] | None, *, judging: bool = False) -> "ConfigMaps":
    """The lookup of ConfigMaps that a Katib manifest names: in files, or else in the cluster.

    Args:
        judging: do not fail if the cluster cannot be asked, because only the spec itself is checked.
    """
    from katib_flow.argo.config_maps import in_cluster, in_cluster_if_any
    from katib_flow.spec.config_maps import first_of, in_text
    from katib_flow.spec.load import read_text

    if files:
        return first_of(*(in_text(read_text(file), str(file)) for file in files))
    return in_cluster_if_any() if judging else in_cluster()


def load_spec(spec: Path, config_maps: "ConfigMaps", *further: "Rule") -> "Experiment":
    """The experiment in a file; notes on a Katib manifest go to stderr."""
    from katib_flow.effects import tell
    from katib_flow.loop import read

    parsed = read(spec, further, config_maps)
    tell(parsed.notes)
    return parsed.experiment


def write_text(text: str, out: Path | None) -> None:
    """Write a text to a file, or print it if ``out`` is None.

    Raises:
        KatibFlowError: the file cannot be written.
    """
    from katib_flow.errors import KatibFlowError

    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KatibFlowError(f"{out}: cannot be written: {error.strerror}") from None


def flags_of_store(uri: str | None, group: str) -> str:
    """The options that a printed command needs to use the same store, without a password."""
    from katib_flow.tracking.faults import shown

    where = f" --tracking-uri {shlex.quote(shown(uri))}" if uri else ""
    return where + ("" if group == DEFAULT_GROUP else f" --tracking-experiment {shlex.quote(group)}")
