"""The commands. Each imports what it needs when it is called, so that ``--help`` answers at once."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from katib_flow.cli.output import Format, Output

if TYPE_CHECKING:
    from katib_flow.local import Result
    from katib_flow.spec import Experiment
    from katib_flow.spec.config_maps import ConfigMaps
    from katib_flow.spec.rules import Rule
    from katib_flow.tracking import Record, Store

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="AutoML as plain workflows: one experiment, on this machine or on Argo, recorded in MLflow.",
)


def _duration(text: str) -> float:
    """Seconds, of a duration as a spec has it."""
    from pydantic import TypeAdapter, ValidationError

    from katib_flow.spec.sections import Duration

    try:
        return TypeAdapter[float](Duration).validate_python(float(text) if text.isdecimal() else text)
    except ValidationError:
        raise typer.BadParameter(f"found {text!r}, need a duration such as 90s, 10m, 2h or 1h30m") from None


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"katib-flow {version('katib-flow')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version, and end")
    ] = False,
) -> None: ...


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
DEFAULT_GROUP = "katib-flow"


def _store(uri: str | None, group: str) -> "Store":
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


def _config_maps(files: list[Path] | None, *, judging: bool = False) -> "ConfigMaps":
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


def _load(spec: Path, config_maps: "ConfigMaps", *further: "Rule") -> "Experiment":
    """The experiment of a file; what there is to tell about a Katib manifest goes to stderr."""
    from katib_flow.effects import tell
    from katib_flow.loop import read

    parsed = read(spec, further, config_maps)
    tell(parsed.notes)
    return parsed.experiment


def _write(text: str, out: Path | None) -> None:
    """Print a text, or write it to a file."""
    from katib_flow.errors import KatibFlowError

    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KatibFlowError(f"{out}: cannot be written: {error.strerror}") from None


@app.command()
def run(
    spec: Spec, output: As = Output.TABLE, tracking_uri: Uri = None, barrier: Barrier = False, quiet: Quiet = False,
    config_map: ConfigMapFiles = None, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Run an experiment on this machine. Ctrl-C stops it in order; `resume` goes on."""
    if dry_run:
        from katib_flow.cli.dry_run import show_preview

        show_preview(_load(spec, _config_maps(config_map)), tracking_uri, output)
        return
    from katib_flow.algorithms.auto import settled
    from katib_flow.local import run_experiment
    from katib_flow.local.progress import watching
    from katib_flow.tracking import Store

    experiment = settled(_load(spec, _config_maps(config_map)))
    if experiment.algorithm.why and not quiet and output is Output.TABLE:
        print(f"algorithm {experiment.algorithm.name}, {experiment.algorithm.why}")
    store = Store(tracking_uri, experiment.tracking.experiment) if tracking_uri else None
    with watching(experiment, quiet=quiet or output is Output.JSON) as progress:
        result = run_experiment(experiment, store=store, progress=progress, barrier=barrier)
    _conclude(result, output, tracking_uri or experiment.tracking.uri)


@app.command()
def resume(
    name: Name, max_trials: MaxTrials = None, timeout: Timeout = None, output: As = Output.TABLE,
    tracking_uri: Uri = None, group: Group = DEFAULT_GROUP, barrier: Barrier = False, quiet: Quiet = False,
    argo: OnArgo = False, watch: Watched = False, namespace: Namespace = None,
) -> None:  # fmt: skip
    """Go on with an experiment that was interrupted, stopped or paused, or give a finished one more trials or time."""
    from katib_flow.local import resume_experiment
    from katib_flow.local.progress import watching

    store = _store(tracking_uri, group)
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


def _where(uri: str | None, group: str) -> str:
    """What a printed command needs to act on the same store, but for a password."""
    from katib_flow.tracking.faults import shown

    where = f" --tracking-uri {shlex.quote(shown(uri))}" if uri else ""
    return where + ("" if group == DEFAULT_GROUP else f" --tracking-experiment {shlex.quote(group)}")


def _conclude(result: "Result", output: Output, uri: str | None) -> None:
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import conclusion, front_of, ranked
    from katib_flow.tracking import Status

    interrupted = result.status is Status.INTERRUPTED
    if output is Output.JSON:
        show_one(conclusion(result), output)
    else:
        where = _where(uri, result.experiment.tracking.experiment)
        several = len(result.experiment.objective) > 1
        found = (front_of if several else ranked)(result.experiment, result.history, 10)
        if found:
            show(found, output, title=f"{'front' if several else 'best trials'} of {result.name}")
        counts = ", ".join(f"{count} {state}" for state, count in sorted(result.history.counts().items()))
        counted = not found and result.status is Status.FAILED  # the reason sums up why there is no result
        print(result.reason if counted or not counts else f"{result.reason}: {counts}")
        print(f"see every trial, its metrics and its log in MLflow: katib-flow ui{where}   (run {result.run_id})")
        if interrupted or result.status is Status.PAUSED:
            print(f"go on: katib-flow resume {shlex.quote(result.name)}{where}")
    raise typer.Exit(130 if interrupted else 1 if result.status is Status.FAILED else 0)


@app.command()
def init(
    command: Annotated[list[str] | None, typer.Argument(help="after --, the command that you run today")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write")] = Path("experiment.yaml"),
    nas: Annotated[bool, typer.Option("--nas", help="search a network's architecture instead")] = False,
) -> None:
    """Write a commented spec to begin with: `katib-flow init -- python train.py --lr 0.1`.

    The options of the command, and those that its program defines with argparse or click, become parameters. The
    program is read, and not run.
    """
    from katib_flow.cli import starter
    from katib_flow.errors import KatibFlowError

    if nas and command:
        raise typer.BadParameter("a command, or --nas, which trains the networks itself", param_hint="COMMAND")
    if out.exists():
        raise KatibFlowError(f"{out}: is there already; name another file with -o")
    script = starter.script_of(command or ())
    source = Path(script).read_text(encoding="utf-8", errors="replace") if script and Path(script).is_file() else ""
    text = starter.SEARCH_OF_NETWORKS if nas else starter.starter(command or ["python", "train.py"], source)
    _write(text, out)
    print(f"wrote {out}; adjust its ranges, then: katib-flow run {shlex.quote(str(out))}")


@app.command()
def validate(
    spec: Annotated[Path | None, typer.Argument(help="the experiment's YAML file")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of a spec, for editors")] = False,
    config_map: ConfigMapFiles = None,
) -> None:
    """Check a spec, and say every mistake in it."""
    from katib_flow.algorithms.auto import settled
    from katib_flow.cli.output import to_json
    from katib_flow.effects import not_installed, tell, without_effect
    from katib_flow.spaces import search_space
    from katib_flow.spec import Experiment
    from katib_flow.trial.functions import callable_here

    if schema:
        print(to_json(Experiment.model_json_schema()))
        return
    if spec is None:
        raise typer.BadParameter("a spec file, or --schema", param_hint="SPEC")
    experiment = settled(_load(spec, _config_maps(config_map, judging=True), callable_here))
    tell([*not_installed(experiment), *without_effect(experiment)])
    chosen, size = experiment.algorithm, search_space(experiment).size
    points = f"{size} points" if size is not None else "uncountably many points"
    why = f", {chosen.why}" if chosen.why else ""
    count = len(experiment.parameters)
    print(f"{spec}: good; {count} parameter{'s' * (count != 1)}, {points}, algorithm {chosen.name}{why}")


@app.command()
def compile(
    spec: Spec,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: stdout")] = None,
    image: Image = None,
    inline: Inline = False,
    config_map: ConfigMapFiles = None,
) -> None:
    """Print the Argo Workflow of an experiment: `argo submit` of it is all it takes."""
    from katib_flow.argo import compile_experiment, to_yaml

    _write(to_yaml(compile_experiment(_for_cluster(spec, image, config_map, inline=inline))), out)


def _for_cluster(spec: Path, image: str | None, config_maps: list[Path] | None, *, inline: bool) -> "Experiment":
    from katib_flow.algorithms.auto import settled
    from katib_flow.argo.imports import not_in_image
    from katib_flow.argo.inline import inlined
    from katib_flow.effects import on_a_cluster, tell, without_effect
    from katib_flow.spec.load import Note
    from katib_flow.spec.trainer import TRAINER

    experiment = _load(spec, _config_maps(config_maps))
    tell([*without_effect(settled(experiment)), *on_a_cluster(experiment)])
    if image is not None:
        experiment = experiment.model_copy(update={"argo": experiment.argo.model_copy(update={"image": image})})
    trial, no_image = experiment.trial, experiment.argo.image is None
    alone = no_image and trial.function not in (None, TRAINER) and not trial.code
    if alone and not inline:
        module = str(trial.function).partition(":")[0]
        text = f"none is named: the Workflow holds the text of {module}, and trials run in katib-flow's own image; "
        tell([Note("argo.image", f"{text}--image names one that has the code and what it imports")])
    experiment = inlined(experiment) if inline or alone else experiment
    if no_image and experiment.trial.code:
        for lacking in not_in_image(experiment.trial.code, trial.packages):
            text = f"line {lacking.line} imports {lacking.module}, which katib-flow's own image lacks; "
            tell([Note("trial.packages", f"{text}add {lacking.what} here, and pip installs it first")])
    return experiment


@app.command()
def spec(
    name: Name,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: stdout")] = None,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Print the spec of an experiment as it was run, to run it again."""
    from katib_flow.spec import dump_yaml

    _write(dump_yaml(_store(tracking_uri, group).find(name).experiment.to_dict()), out)


@app.command("import")
def import_(
    katib: Annotated[Path, typer.Argument(help="a Katib manifest: an Experiment of kubeflow.org/v1beta1")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: stdout")] = None,
    own_nas: Annotated[
        bool, typer.Option("--own-nas", help="search its nasConfig with the systems and the trainer of katib-flow")
    ] = False,
    config_map: ConfigMapFiles = None,
) -> None:
    """Write the spec of a Katib manifest, with comments on what was changed or has no counterpart.

    It need not be imported to run: `run`, `validate` and `compile` take a manifest as it is.
    """
    from katib_flow.effects import tell
    from katib_flow.errors import KatibFlowError
    from katib_flow.loop import checked, read
    from katib_flow.spec.written import write_spec

    parsed = read(katib, config_maps=_config_maps(config_map))
    if not parsed.katib:
        raise KatibFlowError(f"{katib}: found a spec of katib-flow's own, need a manifest of Katib's")
    if out is not None and out.exists() and out.samefile(katib):
        raise KatibFlowError(f"--out: found {out}, need another file: the manifest is not written over")
    if own_nas:
        from katib_flow.spec.katib.own_nas import own_search

        parsed = own_search(parsed, str(katib))
        checked(parsed.data, str(katib))
        tell(parsed.notes)
    _write(write_spec(parsed.data, parsed.notes, f"The Katib experiment {katib.name} as a spec of katib-flow."), out)


@app.command()
def submit(
    spec: Spec, watch: Watched = False, namespace: Namespace = None, image: Image = None, inline: Inline = False,
    tracking_uri: Uri = None, quiet: Quiet = False, config_map: ConfigMapFiles = None,
) -> None:  # fmt: skip
    """Run an experiment on a cluster, by the kubeconfig. Ctrl-C while it is watched leaves it running."""
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


@app.command()
def doctor(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="default: the kubeconfig's")] = None,
    argo_namespace: Annotated[str, typer.Option("--argo-namespace", help="where Argo's controller runs")] = "argo",
    image: Annotated[
        str,
        typer.Option("--image", help="of the steps; default: $KATIB_FLOW_IMAGE, or katib-flow's own of this version"),
    ] = "",
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="run a small pod that asks MLflow, and delete it")
    ] = True,
) -> None:
    """Say what a cluster's namespace has and lacks to run experiments, and what to do; exit with 1 where it lacks."""
    from katib_flow.argo.names import steps_image
    from katib_flow.cli.cluster import examine

    if not examine(namespace, argo_namespace, (image or steps_image()) if probe else ""):
        raise typer.Exit(1)


@app.command("list")
def list_(output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """The experiments of a store, newest first."""
    from katib_flow.cli.output import show
    from katib_flow.cli.records import overview
    from katib_flow.errors import NoStore

    try:
        records = _store(tracking_uri, group).records()
    except NoStore:
        records = []
    show([overview(record) for record in records], output, empty="no experiments yet")


@app.command()
def status(
    name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP,
    namespace: Namespace = None,
) -> None:  # fmt: skip
    """How an experiment stands; of one that runs on a cluster, what waits there and why."""
    from katib_flow.cli.output import show_one
    from katib_flow.cli.records import standing

    store = _store(tracking_uri, group)
    record = store.find(name)
    row = standing(record, store.history(record), store.control(record))
    if not record.status.final:
        from katib_flow.cli.cluster import seen_in_cluster

        row |= seen_in_cluster(record, namespace)
    show_one(row, output)


@app.command()
def best(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """The best trial of an experiment; of several objectives, the trials that no other dominates."""
    from katib_flow.cli import records
    from katib_flow.cli.output import show, show_one
    from katib_flow.errors import NotFound

    store = _store(tracking_uri, group)
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


@app.command()
def trials(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """The trials of an experiment."""
    from katib_flow.cli.output import show
    from katib_flow.trial.table import rows

    store = _store(tracking_uri, group)
    record = store.find(name)
    show(rows(record.experiment, store.history(record)), output, empty="no trials yet")


@app.command()
def importance(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Which parameters matter: what share of the objective's variance each explains (needs scikit-learn)."""
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import mattering
    from katib_flow.reports.importance import importance as importance_of

    store = _store(tracking_uri, group)
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


@app.command()
def replay(name: Name, output: As = Output.TABLE, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Derive every suggestion again from what was known before it; exit with 1 where one is not what is recorded."""
    from katib_flow.cli.output import show, show_one
    from katib_flow.cli.records import in_short, replayed, summed_up
    from katib_flow.replay import replay as derive_again

    store = _store(tracking_uri, group)
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


@app.command()
def report(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write")] = Path("report.html"),
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Write all there is to know of an experiment into one HTML file (needs Plotly)."""
    from katib_flow.cli.records import as_seen_here
    from katib_flow.reports.stored import write_report

    store = _store(tracking_uri, group)
    write_report(store, as_seen_here(store.find(name)), out)
    print(f"{out}: open it in a browser; it needs nothing else")


@app.command()
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

    store = _store(tracking_uri, group)
    record = store.find(name)
    chosen = wanted(record, store.history(record), trial)
    model = model or record.experiment.tracking.register_model or record.experiment.name
    version = register_network(store, record, chosen, model)
    print(f"models:/{model}/{version}: trial {chosen.id} of {record.name}")


@app.command()
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

    store = _store(tracking_uri, group)
    record = store.find(name)
    write(rows(record.experiment, store.history(record)), format_, out)


def _going_on(store: "Store", name: str) -> "Record":
    from katib_flow.cli.records import as_seen_here
    from katib_flow.errors import KatibFlowError

    record = as_seen_here(store.find(name))
    if record.status.final:
        raise KatibFlowError(f"{record.name}: has ended already, {record.status}: {record.reason}")
    return record


@app.command()
def stop(name: Name, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """End a running experiment, wherever it runs; its running trials are cut short."""
    store = _store(tracking_uri, group)
    record = _going_on(store, name)
    store.set_control(record, stop=True)
    print(f"{record.name}: asked to stop; it does so within seconds where it is running")


@app.command()
def pause(name: Name, tracking_uri: Uri = None, group: Group = DEFAULT_GROUP) -> None:
    """Start no more trials; those that run finish. `resume` goes on."""
    store = _store(tracking_uri, group)
    record = _going_on(store, name)
    store.set_control(record, pause=True)
    print(
        f"{record.name}: asked to pause; go on with: katib-flow resume {shlex.quote(name)}{_where(tracking_uri, group)}"
    )


@app.command()
def algorithms(
    name: Annotated[str | None, typer.Argument(help="one algorithm, with its settings")] = None,
    output: As = Output.TABLE,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of what a program that suggests reads and writes.")
    ] = False,
) -> None:
    """The search algorithms, or one with its settings."""
    if schema:
        from katib_flow.cli.output import to_json
        from katib_flow.outside import protocol

        print(to_json(protocol.schema()))
        return
    from katib_flow.algorithms import find_algorithm, registered_algorithms
    from katib_flow.cli.output import show, show_one
    from katib_flow.errors import NotFound
    from katib_flow.nas.settings import SystemSettings
    from katib_flow.spec.problems import did_you_mean

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
        {"setting": key, "default": each.default}
        | ({} if paper is None else {"paper": {"preset": "paper", **paper}.get(key, each.default)})
        | {"about": texts.get(key, "")}
        for key, each in fields
    ]
    if output is Output.JSON:
        show_one(about | {"settings": settings}, output)
    else:
        show_one(about, output)
        show(settings, output, title="settings") if settings else print("it has no settings")


def _show_algorithms(output: Output) -> None:
    """All of them; systems of architecture search by the table of the paper, too."""
    from katib_flow.algorithms import registered_algorithms
    from katib_flow.cli.output import show
    from katib_flow.nas import table

    entries = list(registered_algorithms().values())
    listed = [{"name": each.name, "summary": each.summary} for each in entries]
    if output is Output.JSON:
        places = ({"strategy": each.strategy, "scope": list(each.scope)} for each in entries)
        show([about | place for about, place in zip(listed, places, strict=True)], output)
        return
    show(listed, output)
    show(table.rows(entries), output, title="Architecture search (Zhou et al., OpML 2019, table 1)", lines=True)
    print(table.caption(entries))


@app.command()
def ui(
    port: Annotated[int, typer.Option("--port", "-p", help="port on this machine")] = 5000,
    tracking_uri: Uri = None,
    group: Group = DEFAULT_GROUP,
) -> None:
    """Open the store in MLflow's own UI on this machine. Ctrl-C ends it."""
    from katib_flow.cli.ui import serve
    from katib_flow.tracking import Store

    serve(port, Store(tracking_uri, group))  # it may be opened before the first experiment: a new store is made
