"""Every example and every manifest of Katib's, compiled and run to its end in the simulator."""

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from experiments import Cluster, seen
from kit import skip_what_is_not_installed

from katib_flow.argo import compile_experiment
from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Kind, State, Trial
from katib_flow.loop import load, proposed, verdict
from katib_flow.models import Topology
from katib_flow.models.choices import PROGRESS, choice_metrics
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment
from katib_flow.testing.argo import Simulator
from katib_flow.testing.argo.fast import FastPrograms
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Status

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
KATIB = ROOT.parent / "shared" / "katib-examples"
MANIFESTS = sorted(KATIB.glob("*.yaml"))


# with trials that only say a number: all that Argo, the steps and the algorithms do, but no program of a user


def outcome(trial: Trial) -> tuple[State, float]:
    """A number that follows from the assignment; one trial in nine fails."""
    values = [each for each in trial.assignment.values() if isinstance(each, int | float)]
    value = math.sin(1 + sum(float(each) for each in values)) + (trial.suggestion.budget or 0) / 100
    return (State.FAILED, 0.0) if trial.index % 9 == 5 else (State.SUCCEEDED, value)


def beside_the_objective(of: Experiment) -> Any:
    """What a trial reports too whose algorithm reads more than the objective.

    One that trains all architectures at once says in four segments the first of each slot; one of cells whose branches
    may be pruned the variance of each branch; an ensemble its objective, which falls with every trial.
    """

    def also(trial: Trial) -> dict[str, float]:
        network = trial.suggestion.topology
        if of.algorithm.name == "adanet":
            return {"ensemble/objective": 1 / (1 + trial.index)}
        if network is not None and "cells" in dict(network.get("meta", {})):  # type: ignore[call-overload]
            return {f"variance/{edge.key}": len(edge.key) % 7 for edge in Topology.parse(network).flat.edges}
        space = architectures(of)
        if trial.suggestion.origin.kind is not Kind.SEGMENT or space is None:
            return {}
        return {PROGRESS: min(1.0, (trial.index + 1) / 4), **choice_metrics([dict.fromkeys(space.parameters, 0)])}

    return also


def reference(of: Experiment) -> History:
    """The trials of an experiment by iterations, without Argo, without MLflow, without steps."""
    history = History()
    while (found := verdict(of, history)).go:
        fresh = proposed(of, history, found.may_start).suggestions
        if not fresh:
            break
        ended: list[Trial] = []
        for suggestion in fresh:
            state, value = outcome(Trial(suggestion))
            told = {**beside_the_objective(of)(Trial(suggestion)), **{each.metric: value for each in of.objective}}
            observed = told if state is State.SUCCEEDED else {}
            ended.append(replace(Trial(suggestion), state=state, observations=observed))
        history = history.replaced(ended)
    return history


def compiled(path: Path) -> Experiment:
    """An experiment that is small enough to run in a moment, and has an image."""
    of = load(path)
    argo = of.argo.model_copy(update={"image": of.argo.image or "user:1"})
    enough = 14 if of.architecture else 24  # the more networks, the longer some think about the next
    most = min(enough, of.limits.max_trials or enough)
    limits = of.limits.model_copy(update={"max_trials": most, "max_failed_trials": most})
    return of.model_copy(update={"argo": argo, "limits": limits})


@pytest.mark.parametrize("path", [*EXAMPLES, *MANIFESTS], ids=lambda path: path.stem)
def test_it_compiles_and_runs_to_its_end_with_the_trials_of_the_loop(path: Path) -> None:
    try:
        of = compiled(path)
        manifest = compile_experiment(of).to_dict()
    except KatibFlowError as problem:
        pytest.skip(f"cannot be compiled yet: {problem}")
    skip_what_is_not_installed(of)
    cluster = FakeCluster()
    programs = FastPrograms(of, cluster, outcome, also=beside_the_objective(of))
    simulator = Simulator(programs, cluster=cluster)
    name = simulator.submit(manifest)
    simulator.run()
    record = programs.store.keyed(name)
    assert record is not None
    assert {each.phase for each in simulator.workflows.values()} == {"Succeeded"}
    assert record.status is Status.SUCCEEDED
    ran, wanted = programs.store.history(record), reference(of)
    assert [facts(trial) for trial in ran] == [facts(trial) for trial in wanted]
    assert len(ran) > 0


def facts(trial: Trial) -> Any:
    of = trial.suggestion
    return of.id, dict(of.assignment), of.budget, of.parent, of.topology, trial.state, trial.observations


@pytest.mark.skipif(not MANIFESTS, reason="needs Katib's manifests in ../shared/katib-examples")
def test_most_of_katibs_manifests_can_be_compiled() -> None:
    def compiles(path: Path) -> bool:
        try:
            compile_experiment(compiled(path))
        except KatibFlowError:
            return False
        return True

    assert sum(compiles(path) for path in MANIFESTS) >= len(MANIFESTS) - 4


# with their own programs

SMALLER: dict[str, dict[str, Any]] = {
    "digits": {"limits": {"max_trials": 2, "parallel_trials": 2}},
    "svm": {"limits": {"max_trials": 2, "parallel_trials": 2}},
    "pbt": {"limits": {"max_trials": 8, "parallel_trials": 2}, "budget": {"parameter": "epochs", "min": 1, "max": 2}},
}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLER)
def test_an_example_has_the_trials_of_the_local_scheduler(
    name: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "image"
    shutil.copytree(ROOT / "examples", workdir / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(workdir)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")  # `python` is this one
    data = load(workdir / "examples" / f"{name}.yaml").to_dict()
    of = Experiment.parse({**data, **SMALLER[name], "argo": {"image": "examples:1"}})
    cluster = Cluster(uri, tmp_path, workdir)
    run = cluster.submit(of)
    assert run.record.status is Status.SUCCEEDED, run.record.reason
    assert seen(run.trials) == seen(cluster.here(of))
