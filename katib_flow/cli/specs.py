"""The commands that read or write specs: init, validate, compile, spec, submit; and doctor."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from katib_flow.cli.options import (
    DEFAULT_GROUP,
    ConfigMapFiles,
    Group,
    Image,
    Inline,
    Name,
    Namespace,
    Quiet,
    Spec,
    Uri,
    Watched,
    asked_for_config_maps,
    load_spec,
    open_store,
    write_text,
)

if TYPE_CHECKING:
    from katib_flow.spec import Experiment
    from katib_flow.spec.load import Note


def init(
    command: Annotated[
        list[str] | None, typer.Argument(help="after --, the command that you run today; or a function as MODULE:NAME")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write")] = Path("experiment.yaml"),
    nas: Annotated[bool, typer.Option("--nas", help="write a spec for a neural architecture search instead")] = False,
) -> None:
    """Write a commented spec to start from: `katib-flow init -- python train.py --lr 0.1`.

    The options of the command, those that its program defines with argparse or click, or the arguments of a function
    become parameters. The program is read, but not run.
    """
    from katib_flow.cli import starter
    from katib_flow.errors import KatibFlowError

    if nas and command:
        raise typer.BadParameter(
            "use either a command or --nas, which trains the networks itself", param_hint="COMMAND"
        )
    if out.exists():
        raise KatibFlowError(f"{out}: already exists; name another file with -o")
    if command and len(command) == 1 and starter.FUNCTION.fullmatch(command[0]):
        module = Path(*command[0].partition(":")[0].split(".")).with_suffix(".py")
        if not module.is_file():
            raise KatibFlowError(f"{command[0]}: found no file {module}, need a function of a module in this directory")
        text = starter.function_starter(command[0], module.read_text(encoding="utf-8", errors="replace"))
        _write_starter(text, out)
        return
    script = starter.script_of(command or ())
    source = Path(script).read_text(encoding="utf-8", errors="replace") if script and Path(script).is_file() else ""
    text = starter.SEARCH_OF_NETWORKS if nas else starter.starter(command or ["python", "train.py"], source)
    _write_starter(text, out)


def _write_starter(text: str, out: Path) -> None:
    write_text(text, out)
    print(f"wrote {out}; adjust the ranges in it, then: katib-flow run {shlex.quote(str(out))}")


def validate(
    spec: Annotated[Path | None, typer.Argument(help="the experiment's YAML file")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of a spec, for editors")] = False,
    config_map: ConfigMapFiles = None,
) -> None:
    """Check a spec, and report every mistake in it."""
    from katib_flow.algorithms.auto import settled
    from katib_flow.cli.output import to_json
    from katib_flow.effects import not_installed, tell, without_effect
    from katib_flow.spaces import search_space
    from katib_flow.spec import Experiment
    from katib_flow.trial.functions import callable_here
    from katib_flow.wording import counted

    if schema:
        print(to_json(Experiment.model_json_schema()))
        return
    if spec is None:
        raise typer.BadParameter("need a spec file or --schema", param_hint="SPEC")
    experiment = settled(load_spec(spec, asked_for_config_maps(config_map, judging=True), callable_here))
    tell([*not_installed(experiment), *without_effect(experiment), *_of_warm_start(experiment)])
    chosen, size = experiment.algorithm, search_space(experiment).size
    points = "infinitely many points" if size is None else counted(size, "point")
    why = f", {chosen.why}" if chosen.why else ""
    parameters = counted(len(experiment.parameters), "parameter")
    print(f"{spec}: valid; {parameters}, {points}, algorithm {chosen.name}{why}")


def _of_warm_start(experiment: "Experiment") -> "list[Note]":
    if not experiment.warm_start:
        return []
    from katib_flow.preview import warm_start_here

    return warm_start_here(experiment)


def compile(
    spec: Spec,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: stdout")] = None,
    image: Image = None,
    inline: Inline = False,
    config_map: ConfigMapFiles = None,
) -> None:
    """Print the Argo Workflow of an experiment, to be created with `argo submit`."""
    from katib_flow.argo import compile_experiment, to_yaml

    write_text(to_yaml(compile_experiment(_for_cluster(spec, image, config_map, inline=inline))), out)


def _for_cluster(spec: Path, image: str | None, config_maps: list[Path] | None, *, inline: bool) -> "Experiment":
    from katib_flow.algorithms.auto import settled
    from katib_flow.argo.imports import not_in_image
    from katib_flow.argo.inline import inlined
    from katib_flow.effects import on_a_cluster, tell, without_effect
    from katib_flow.spec.load import Note
    from katib_flow.spec.trainer import TRAINER

    experiment = load_spec(spec, asked_for_config_maps(config_maps))
    tell([*without_effect(settled(experiment)), *on_a_cluster(experiment)])
    if image is not None:
        experiment = experiment.model_copy(update={"argo": experiment.argo.model_copy(update={"image": image})})
    trial, no_image = experiment.trial, experiment.argo.image is None
    alone = no_image and trial.function not in (None, TRAINER) and not trial.code
    if alone and not inline:
        module = str(trial.function).partition(":")[0]
        text = f"not set, so the Workflow contains the code of {module}, and trials run in katib-flow's own image; "
        tell([Note("argo.image", f"{text}use --image for an image with the code and its dependencies")])
    experiment = inlined(experiment) if inline or alone else experiment
    if no_image and experiment.trial.code:
        for lacking in not_in_image(experiment.trial.code, trial.packages):
            text = f"line {lacking.line} imports {lacking.module}, which is not in katib-flow's own image; "
            tell([Note("trial.packages", f"{text}add {lacking.what} here for pip to install it first")])
    return experiment


def spec(
    name: Name,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: stdout")] = None,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Print the spec of a recorded experiment, to run it again."""
    from katib_flow.spec import dump_yaml

    write_text(dump_yaml(open_store(tracking_uri, group).find(name).experiment.to_dict()), out)


def submit(
    spec: Spec, watch: Watched = False, namespace: Namespace = None, image: Image = None, inline: Inline = False,
    tracking_uri: Uri = None, quiet: Quiet = False, config_map: ConfigMapFiles = None,
) -> None:  # fmt: skip
    """Run an experiment on the cluster of the kubeconfig. Ctrl-C during --watch leaves it running."""
    from katib_flow.argo.cluster import KubernetesCluster
    from katib_flow.argo.submit import submit as create
    from katib_flow.cli import cluster as on_cluster

    experiment = _for_cluster(spec, image, config_map, inline=inline)
    cluster = KubernetesCluster(namespace or experiment.argo.namespace, in_pod=False)
    run = create(cluster, experiment)
    on_cluster.submitted(cluster, run)
    if watch:
        store = on_cluster.store_of(experiment, tracking_uri)
        on_cluster.watch(cluster, run, experiment, store, segment=0, quiet=quiet)


def doctor(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="default: the kubeconfig's")] = None,
    argo_namespace: Annotated[str, typer.Option("--argo-namespace", help="where Argo's controller runs")] = "argo",
    image: Annotated[
        str,
        typer.Option(
            "--image", help="image of the steps; default: $KATIB_FLOW_IMAGE, or katib-flow's own of this version"
        ),
    ] = "",
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="run a small pod that connects to MLflow, and delete it")
    ] = True,
) -> None:
    """Check whether a cluster's namespace can run experiments, and say what to do; exit with 1 if anything is wrong."""
    from katib_flow.argo.names import steps_image
    from katib_flow.cli.cluster import examine

    if not examine(namespace, argo_namespace, (image or steps_image()) if probe else ""):
        raise typer.Exit(1)
