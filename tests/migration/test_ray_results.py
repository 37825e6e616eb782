"""A folder of Ray Tune's results, in the form in which Ray 2.60 writes it, as an experiment to start from."""

import json
from pathlib import Path
from typing import Any

import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.history import State
from katib_flow.migration.ray import read_ray
from katib_flow.migration.recorded import record_study
from katib_flow.migration.study import Study
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

TRIALS: list[dict[str, Any]] = [
    {"lr": 0.0013, "depth": 1, "opt": {"name": "sgd", "momentum": 0.9}, "fixed": 7},
    {"lr": 0.0101, "depth": 2, "opt": {"name": "sgd", "momentum": 0.5}, "fixed": 7},
    {"lr": 0.0024, "depth": 1, "opt": {"name": "adam"}, "fixed": 7},
    {"lr": 0.2007, "depth": 4, "opt": {"name": "adam"}, "fixed": 7},
]
BEGAN = 1_795_949_813


def report(number: int, iteration: int, config: Any) -> dict[str, Any]:
    """A line of result.json, as Ray 2.60 writes it."""
    return {
        "loss": config["lr"] * (3 - iteration), "nested": {"acc": iteration / 3}, "timestamp": BEGAN + iteration,
        "checkpoint_dir_name": None, "done": False, "training_iteration": iteration, "trial_id": f"90bd5_{number:05d}",
        "date": "2026-11-29_10-56-53", "time_this_iter_s": 1.5, "time_total_s": 1.5 * iteration, "pid": 19150,
        "hostname": "vm", "node_ip": "192.0.2.2", "config": config, "time_since_restore": 1.5 * iteration,
        "iterations_since_restore": iteration,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four trials, of which the last failed; with the pickles that Ray leaves, which must not be opened."""
    root = tmp_path / "exp"
    for number, config in enumerate(TRIALS):
        path = root / f"train_90bd5_{number:05d}_{number}_depth={config['depth']}_2026-11-29_10-56-48"
        path.mkdir(parents=True)
        (path / "params.json").write_text(json.dumps(config, indent=2, sort_keys=True))
        (path / "result.json").write_text("".join(json.dumps(report(number, i, config)) + "\n" for i in (1, 2, 3)))
        (path / "params.pkl").write_bytes(b"not to be opened")
    (path / "error.txt").write_text("Traceback (most recent call last):\n  ...\nRuntimeError: too deep\n")
    (root / "tuner.pkl").write_bytes(b"not to be opened")
    (root / "experiment_state-2026-11-29_10-56-48.json").write_text("{}")
    return root


def read(folder: Path) -> Study:
    return read_ray(folder, "loss", "minimize")


def test_the_space_is_that_which_the_trials_span(folder: Path) -> None:
    study = read(folder)
    assert study.parameters == {
        "lr": {"type": "float", "min": 0.0013, "max": 0.2007, "scale": "log"},
        "depth": {"type": "int", "min": 1, "max": 4},
        "opt.name": {"type": "categorical", "values": ["sgd", "adam"]},
        "opt.momentum": {"type": "float", "min": 0.5, "max": 0.9, "when": {"opt.name": ["sgd"]}},
    }
    assert study.constants == {"fixed": 7}
    assert (study.name, study.others) == ("exp", ("nested/acc",))


def test_every_trial_is_recorded_with_its_steps(folder: Path, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/katib_flow.db")
    record, reasons = record_study(read(folder), store)
    history = store.history(record, series=True)
    assert not reasons
    assert [trial.state for trial in history] == [State.SUCCEEDED] * 3 + [State.FAILED]
    assert history[3].message == "RuntimeError: too deep"
    first = history[0]
    assert first.assignment == {"lr": 0.0013, "depth": 1, "opt.name": "sgd", "opt.momentum": 0.9}
    assert first.observations == {"loss": 0.0, "nested/acc": 1.0}
    assert [(point.step, point.value) for point in first.series["loss"]] == [(1, 0.0026), (2, 0.0013), (3, 0.0)]
    assert (first.started, first.ended) == (BEGAN + 1 - 1.5, BEGAN + 3)
    assert store.earlier(Experiment.parse(read(folder).spec())).completed("loss")


def test_the_table_is_read_where_there_is_no_json(folder: Path) -> None:
    expected = read(folder)
    for path in folder.glob("train_*"):
        lines = [json.loads(line) for line in (path / "result.json").read_text().splitlines()]
        (path / "result.json").unlink()
        table = [
            f"{each['loss']},{each['timestamp']},,False,{each['training_iteration']},{each['nested']['acc']}"
            for each in lines
        ]
        header = "loss,timestamp,checkpoint_dir_name,done,training_iteration,nested/acc"
        (path / "progress.csv").write_text("\n".join([header, *table]) + "\n")
    study = read(folder)
    assert study.parameters == expected.parameters
    assert [trial.metrics for trial in study.trials] == [trial.metrics for trial in expected.trials]


def test_few_numbers_that_repeat_are_choices(folder: Path) -> None:
    for path in sorted(folder.glob("train_*")):
        config = json.loads((path / "params.json").read_text())
        (path / "params.json").write_text(json.dumps({**config, "batch": 32}))
    for number in range(8):
        config = {**TRIALS[0], "batch": 64 if number % 2 else 32, "shape": [1, 2]}
        (folder / f"train_more_{number}").mkdir()
        (folder / f"train_more_{number}" / "params.json").write_text(json.dumps(config))
        (folder / f"train_more_{number}" / "result.json").write_text(json.dumps(report(9, 1, config)) + "\n")
    study = read(folder)
    assert study.parameters["batch"] == {"type": "ordinal", "values": [32, 64]}
    assert any(note.text.startswith("left out shape") for note in study.notes)


def test_what_is_damaged_is_counted_and_the_rest_is_read(folder: Path) -> None:
    first, second, third, _ = sorted(folder.glob("train_*"))
    (first / "params.json").write_text("{")
    (first / "result.json").write_text("[" * 100_000 + "\n")
    (second / "result.json").write_text((second / "result.json").read_text()[:-20] + "\nnull\n7\n")
    (third / "result.json").write_text("")
    study = read(folder)
    assert study.left_out == {"its params.json is missing or damaged": 1, "it has reported nothing": 1}
    assert [len(trial.metrics) for trial in study.trials] == [4, 6]


def test_the_metric_and_the_direction_must_be_told(folder: Path) -> None:
    with pytest.raises(KatibFlowError, match=r"--metric: found nothing, .* report loss, nested/acc"):
        read_ray(folder, None, "minimize")
    with pytest.raises(KatibFlowError, match=r"--metric: found 'los', .* did you mean 'loss'"):
        read_ray(folder, "los", "minimize")
    with pytest.raises(KatibFlowError, match="--direction: found nothing, need maximize or minimize"):
        read_ray(folder, "loss")


def test_a_folder_without_trials_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(KatibFlowError, match="empty: found no trials, need a Ray Tune results folder"):
        read(tmp_path / "empty")
    with pytest.raises(
        KatibFlowError, match=r"found the folder of one trial, need the folder of the experiment: .*/exp"
    ):
        read(next(folder.glob("train_*")))
