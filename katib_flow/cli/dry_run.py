"""The output of `run --dry-run`: the first suggestions, what would run for each, and where it would be recorded."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from katib_flow.cli.output import Output, show_one
from katib_flow.effects import on_this_machine, tell, without_effect
from katib_flow.preview import Preview, preview
from katib_flow.spec import Experiment, dump_yaml
from katib_flow.trial.table import cell, printable
from katib_flow.wording import counted


def show_preview(experiment: Experiment, tracking_uri: str | None, output: Output) -> None:
    """Print the first suggestions of an experiment, and the trials that would run for them."""
    shown = preview(experiment, tracking_uri)
    tell([*without_effect(shown.experiment), *on_this_machine(shown.experiment)])
    if output is Output.JSON:
        show_one(shown.to_dict(), output)
        return
    _aligned(_about(shown))
    for trial in shown.trials:
        print()
        _aligned(_of_trial(trial, _shared(shown)))
    print()
    print("a dry run: no trial was started, and nothing was recorded" + _further(shown))


def _further(shown: Preview) -> str:
    if shown.on_a_cluster:
        kind = shown.experiment.trial.kind
        return f"; a {kind} trial runs only on a cluster: katib-flow submit SPEC"
    return ""


def _aligned(lines: Iterator[tuple[str, str]]) -> None:
    """Print one name and value per line, with the values aligned."""
    known = list(lines)
    width = max(len(name) for name, _ in known)
    for name, text in known:
        print(f"{name:<{width}}  {printable(text)}")


def _about(shown: Preview) -> Iterator[tuple[str, str]]:
    experiment = shown.experiment
    algorithm, limits = experiment.algorithm, experiment.limits
    objectives = (f"{objective.direction} {objective.metric}" for objective in experiment.objective)
    yield "experiment", f"{experiment.name}: {', '.join(objectives)}"
    yield "algorithm", f"{algorithm.name}{f', {algorithm.why}' if algorithm.why else ''}, seed {algorithm.seed}"
    if shown.asked:
        yield "asked", f"{shown.asked}, once, for {counted(len(shown.trials), 'suggestion')}"
    yield "limits", cell({name: value for name, value in limits.model_dump().items() if value is not None})
    where = shown.store or "the MLflow server of the cluster"
    new = " (would be created)" if shown.there is False else ""
    yield "recorded in", f"{where}{new}, MLflow experiment {experiment.tracking.experiment}"

    for name, text in sorted(_shared(shown).items()):
        yield "environment", _variable(name, text)


def _shared(shown: Preview) -> dict[str, str | None]:
    """The environment variables that all trials have in common."""
    environments = [set(trial.get("environment", {}).items()) for trial in shown.trials]
    return dict(set.intersection(*environments)) if environments else {}


def _variable(name: str, text: str | None) -> str:
    return f"{name} is removed" if text is None else f"{name}={text}"


def _of_trial(trial: Mapping[str, Any], shared: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """A trial, one fact per line.

    Args:
        shared: environment variables to leave out, because they have been shown.
    """
    budget = {"budget": trial["budget"]} if "budget" in trial else {}
    yield trial["trial"], ", ".join(filter(None, (cell(trial["parameters"]), cell(budget))))
    if "network" in trial:
        yield "  network", _network(trial["network"])
    if "command" in trial:
        yield "  command", shlex.join(trial["command"])
    elif "function" in trial:
        arguments = ", ".join(f"{name}={value!r}" for name, value in trial["arguments"].items())
        yield "  function", f"{trial['function']}({arguments})"
    for kind in ("container", "resource", "template"):
        for line in dump_yaml(trial[kind]).splitlines() if kind in trial else ():
            yield f"  {kind}", line
    if "working_directory" in trial:
        yield "  directory", trial["working_directory"]
    for name, text in trial.get("environment", {}).items():
        if name not in shared:
            yield "  environment", _variable(name, text)


def _network(network: Mapping[str, Any] | None) -> str:
    if network is None:
        return "no network of its own: the trial trains a part of the search, or its choices give no valid network"
    parameters = counted(network["parameters"], "parameter")
    return f"{parameters}, {network['flops']:,} FLOPs per input, hash {network['hash']}"
