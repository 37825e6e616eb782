"""Searches on a real cluster that need more than one iteration to show: budgets, populations, weights, checkpoints."""

import json
import shutil
import subprocess
from typing import Any

import pytest
from cluster_kit import Bench, most_at_a_time
from searches import CHECKPOINTS, ENAS, HYPERBAND, PBT, SLEEPS, katib

from katib_flow.history import State
from katib_flow.spec import Experiment
from katib_flow.spec.load import parse_spec
from katib_flow.tracking import Status

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def test_a_checkpoint_outlives_a_pod_that_is_deleted_without_grace(bench: Bench) -> None:
    run = bench.run(**CHECKPOINTS)
    pod, trial = run.running_pod(), run.running_trial()
    run.until(lambda: bench.store.checkpoints.find(trial.run_id), "a checkpoint")
    bench.force_delete(pod)
    (trial,) = run.ends()
    assert (trial.state, trial.retries) == (State.SUCCEEDED, 1)
    assert trial.observations["first"] > 0, "it went on where the checkpoint was"
    assert [metric.step for metric in trial.series["score"]] == list(range(40)), "as if it had run once"


def test_hyperband_halves_by_rungs_and_each_goes_on_from_its_parent(bench: Bench) -> None:
    trials = bench.run(**HYPERBAND).ends("hyperband", turns=9)
    assert (len(trials), sum(trial.suggestion.budget or 0 for trial in trials)) == (22, 78)
    budgets = {trial.index: trial.suggestion.budget for trial in trials}
    for trial in trials:
        parent = trial.suggestion.parent
        assert trial.observations["done"] == (0 if parent is None else budgets[parent])


def test_a_population_takes_over_its_parents_checkpoints(bench: Bench) -> None:
    trials = bench.run(**PBT).ends("pbt", turns=3)
    budgets = {trial.index: trial.suggestion.budget for trial in trials}
    children = [trial for trial in trials if trial.suggestion.parent is not None]
    assert children
    for trial in children:
        assert trial.suggestion.parent is not None
        assert trial.observations["done"] == budgets[trial.suggestion.parent]


def test_shared_weights_go_from_segment_to_segment(bench: Bench, nas_image: str) -> None:
    trials = bench.run(**ENAS, argo={"image": nas_image}).ends("enas, four segments", turns=5)
    assert len(trials) == 5
    assert [trial.state for trial in trials] == [State.SUCCEEDED] * 5
    for trial in trials:
        assert bench.store.read_artifact(trial.run_id, "weights.safetensors").stat().st_size > 0


@pytest.mark.parametrize("mode", ["barrier", "lanes"])
def test_a_semaphore_holds_trials_back_and_costs_none(bench: Bench, mode: str) -> None:
    limits = {"max_trials": 4, "parallel_trials": 4}
    argo = {"mode": mode, "trial": {"semaphore": bench.limit(1)}}
    trials = bench.run(parameters=SLEEPS, limits=limits, argo=argo).ends(f"one at a time, {mode}", turns=1)
    assert len([trial for trial in trials if trial.state is State.SUCCEEDED]) == 4
    assert most_at_a_time(trials) == 1


def test_a_manifest_of_katibs_runs_as_it_is(bench: Bench) -> None:
    parsed = parse_spec(json.dumps(katib(bench.name(), bench.image)), "katib.json")
    trials = bench.submit(bench.placed(parsed)).ends("a Katib manifest", turns=2)
    assert len(trials) == 4
    for trial in trials:
        assert trial.observations["loss"] == pytest.approx(float(str(trial.assignment["lr"])))


@pytest.mark.skipif(shutil.which("argo") is None, reason="needs the argo command")
def test_argo_submits_an_experiment_from_the_template(bench: Bench) -> None:
    experiment: Experiment = bench.experiment(limits={"max_trials": 1})
    bench.names.add(experiment.name)
    text = json.dumps(experiment.to_dict())
    words: list[Any] = ["argo", "submit", "-n", bench.cluster.namespace, "--from"]
    words += [f"workflowtemplate/{bench.template()}", "-p", f"spec={text}", "--wait", "-o", "name"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = [each for each in bench.store.records() if each.name == experiment.name]
    assert record.status is Status.SUCCEEDED
