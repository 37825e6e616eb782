"""Settings that would do nothing are told, and those that do something are not."""

# ruff: noqa: E501 - a case of a table stands on one line

import pytest
from kit import experiment

from katib_flow.algorithms.auto import settled
from katib_flow.effects import on_a_cluster, out_of_space, reported_once, without_effect
from katib_flow.history import State, Suggestion, Trial

BUDGET = {"parameter": "epochs", "min": 1, "max": 9, "eta": 3}
COMMAND = {"command": ["train", "${lr}"]}


def notes(**sections):
    return [f"{note.where}: {note.text}" for note in without_effect(settled(experiment(**sections)))]


@pytest.mark.parametrize(
    ("algorithm", "most", "said"),
    [
        ("hyperband", 12, "the search ends after 12 trials, but all brackets need 22 trials, and before any trial has the full budget (epochs = 9)"),
        ("hyperband", 21, "the search ends after 21 trials, but all brackets need 22 trials"),
        ("hyperband", 22, None),
        ("bohb", 12, "the search ends after 12 trials, before any trial has the full budget (epochs = 9); bohb needs 13 trials"),
        ("bohb", 13, None),
        ("asha", 12, "the search ends after 12 trials, before any trial has the full budget (epochs = 9); asha needs 13 trials"),
        ("asha", 13, None),
        ("mobster", 8, "the search ends after 8 trials, before any trial has the full budget (epochs = 9); mobster needs 9 trials"),
        ({"name": "mobster", "settings": {"startup": 3}}, 3, "the search ends after 3 trials, before any trial has the full budget (epochs = 9); mobster needs 4 trials"),
        ("mobster", 9, None),
    ],
)  # fmt: skip
def test_halving_that_ends_too_soon_is_told(algorithm, most, said):
    found = notes(algorithm=algorithm, budget=BUDGET, limits={"max_trials": most})
    assert found == ([f"limits.max_trials: {said}"] if said else [])


def test_mobster_with_one_rung_gives_every_trial_the_full_budget():
    assert not notes(algorithm="mobster", budget=BUDGET | {"min": 9}, limits={"max_trials": 2})


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({}, None),
        ({"algorithm": "tpe", "budget": BUDGET}, "budget: tpe sets no budgets, so epochs has no value, "),
        ({"algorithm": "amoebanet", "architecture": "cell", "budget": BUDGET}, "budget: amoebanet sets no budgets"),
        ({"algorithm": "nash", "architecture": "chain", "budget": BUDGET}, None),
        ({"algorithm": "random", "warm_start": ["a"]}, "warm_start: random does not use the trials of earlier"),
        ({"algorithm": "tpe", "warm_start": ["a"]}, None),
        ({"algorithm": "nsga2", "warm_start": ["a"]}, "warm_start: nsga2 does not use the trials of earlier"),
        ({"algorithm": "amoebanet", "architecture": "cell", "warm_start": ["a"]}, "warm_start: amoebanet does not use"),
        ({"algorithm": "nasbot", "architecture": "chain", "warm_start": ["a"]}, None),
        ({"initial": [{}] * 12}, "initial: 2 of 12 points will not be tried, because limits.max_trials is 10"),
        ({"trial": {"command": ["train"]}}, "parameters.lr: no argument contains ${lr}; it has an effect only if"),
        ({"trial": COMMAND}, None),
        ({"trial": {"command": ["train", "${trial.file}"]}}, None),
        ({"algorithm": "asha", "budget": BUDGET | {"max": 1}, "trial": COMMAND}, "budget.parameter: no argument contains ${epochs}"),
        ({"early_stopping": {"name": "median", "settings": {"min_trials": 10}}}, "early_stopping: median stops a trial only after 10"),
        ({"early_stopping": "median"}, None),
        ({"metrics": {"path": "x"}}, "metrics.path: it is not used, because metrics.source is stdout"),
        ({"metrics": {"source": "tensorboard", "path": "x", "filter": "(a)(b)"}}, "metrics.filter: it is not used, because"),
        ({"metrics": {"source": "file", "path": "x", "filter": "(a)(b)"}}, None),
        ({"tracking": {"register_model": "m"}}, "tracking.register_model: only networks of an architecture search"),
        ({"tracking": {"register_model": "m"}, "architecture": "chain", "algorithm": "nash"}, None),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_told(sections, said):
    found = notes(**sections)
    assert [line[: len(said or "")] for line in found] == ([said] if said else [])


def test_that_a_workflow_registers_no_model_is_told():
    (note,) = on_a_cluster(experiment(tracking={"register_model": "m"}, architecture="chain", algorithm="nash"))
    assert note.where == "tracking.register_model"
    assert note.text.startswith("a Workflow does not register models; run `katib-flow register digits-mlp`")
    assert on_a_cluster(experiment()) == []


def test_a_parameter_that_only_decides_about_others_is_used():
    parameters = {
        "opt": {"type": "categorical", "values": ["sgd", "adam"]},
        "momentum": {"type": "float", "min": 0, "max": 1, "when": {"opt": "sgd"}},
    }
    assert notes(parameters=parameters, trial={"command": ["train", "${momentum}"]}) == []


def trial(index, **assignment):
    return Trial(Suggestion(index, assignment), State.SUCCEEDED)


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([trial(0, lr=0.1), trial(1, lr=0.2)], None),
        ([], "0 of 0 trials of earlier lie in this space"),
        ([trial(0, lr=0.1), trial(1, lr=2.0)], "1 of 2 trials of earlier lie in this space: lr has a value that is not in this space (1 trial)"),
        ([trial(0)], "0 of 1 trial of earlier lie in this space: lr has no value (1 trial)"),
        ([trial(0, lr=0.1, wd=1.0)], "0 of 1 trial of earlier lie in this space: wd is not a parameter of this space (1 trial)"),
    ],
)  # fmt: skip
def test_earlier_trials_that_do_not_fit_are_counted_with_the_reason(trials, said):
    found = out_of_space(experiment(), "earlier", trials)
    assert [note.text for note in found] == ([said] if said else [])


@pytest.mark.parametrize(("reports", "told"), [(0, True), (1, True), (3, True), (4, False)])
def test_a_trial_that_reports_too_seldom_to_be_stopped_early_is_told(reports, told):
    assert bool(reported_once(experiment(early_stopping="median"), reports)) == told
    assert not reported_once(experiment(), reports)


def test_validate_and_run_tell_the_same_and_nothing_on_stdout(tmp_path, monkeypatch, capsys):
    from typer.testing import CliRunner

    from katib_flow.cli.app import app
    from katib_flow.spec import dump_yaml

    monkeypatch.chdir(tmp_path)
    made = experiment(limits={"max_trials": 1}, algorithm="random", trial={"command": ["echo", "accuracy=1"]})
    (tmp_path / "spec.yaml").write_text(dump_yaml(made.to_dict()))
    said = [CliRunner().invoke(app, [command, "spec.yaml"]) for command in ("validate", "run")]
    assert [each.exit_code for each in said] == [0, 0]
    for each in said:
        assert "note: parameters.lr: no argument contains ${lr}" in each.stderr
        assert "note:" not in each.stdout
