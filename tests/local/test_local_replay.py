"""`katib-flow replay` of experiments that have run: what was suggested is derived again, what was edited is found."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from katib_flow.cli import main
from katib_flow.local import resume_experiment, run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

MODULE = """\
def bowl(x, k):
    if x > 0.9:
        raise ValueError("too high")
    return {"loss": (x - 0.5) ** 2 + k}
"""
BOWL: dict[str, Any] = {
    "objective": {"metric": "loss", "direction": "minimize"},
    "parameters": {"x": {"type": "float", "min": 0, "max": 1}, "k": {"type": "int", "min": 1, "max": 9}},
    "limits": {"max_trials": 11, "parallel_trials": 2},
    "trial": {"function": "user_replay:bowl"},
}
KINDS: dict[str, dict[str, Any]] = {
    "random": {**BOWL, "algorithm": {"name": "random", "seed": 3}},
    "tpe": {
        **BOWL,
        "algorithm": {"name": "tpe", "seed": 3, "settings": {"startup": 3}},
        "initial": [{"x": 0.25}],
        "limits": {"max_trials": 12, "parallel_trials": 2},
    },
    "cells": {
        "objective": {"metric": "loss", "direction": "minimize"},
        "architecture": {"space": "cell"},
        "algorithm": {"name": "amoebanet", "seed": 3, "settings": {"population": 3, "sample": 2}},
        "limits": {"max_trials": 8, "parallel_trials": 2},
        "trial": {"command": ["sh", "-c", 'echo "loss=$(cksum < "$KATIB_FLOW_TRIAL_FILE" | cut -d" " -f1)"']},
    },
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of an experiment of each kind, which has ended, that of TPE with two trials of a resume."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "user_replay.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setattr("katib_flow.local.conclusion.keep_report", lambda *_: None)  # takes longer than the trials
        store = Store(f"sqlite:///{folder}/katib_flow.db")
        for name, data in KINDS.items():
            run_experiment(Experiment.parse({"name": name, **data}), store=store)
        resume_experiment(store, "tpe", max_trials=14)
    return folder


@pytest.fixture
def here(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that store, to edit; the artifacts stay where they are."""
    with (
        closing(sqlite3.connect(ran / "katib_flow.db")) as source,
        closing(sqlite3.connect(tmp_path / "katib_flow.db")) as target,
    ):
        source.backup(target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def replay(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command prints, and its exit code."""

    def replay(*arguments: str) -> tuple[str, int]:
        monkeypatch.setattr("sys.argv", ["katib-flow", "replay", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return capsys.readouterr().out, int(ended.value.code or 0)

    return replay


def edit(name: str, trial: str, key: str, value: Any) -> None:
    """Change one tag of a trial's run, as anybody can who may write to the store."""
    store = Store("sqlite:///katib_flow.db")
    found = store.trial(store.find(name), trial)
    assert found is not None
    with closing(sqlite3.connect("katib_flow.db")) as connection:
        where = (found.run_id, f"katib_flow.{key}")
        (before,) = connection.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = ?", where).fetchone()
        text = json.dumps(value(json.loads(before)))
        connection.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", (text, *where))
        connection.commit()


@pytest.mark.parametrize("name", KINDS)
def test_an_experiment_is_derived_again_to_the_same(replay: Any, name: str) -> None:
    count = 14 if name == "tpe" else KINDS[name]["limits"]["max_trials"]
    out, code = replay(name, "-o", "json")
    found = json.loads(out)
    assert found["equal"] == [f"t{index:05d}" for index in range(count)]
    assert (found["algorithm"], found["different"], found["unclear"], code) == (
        KINDS[name]["algorithm"]["name"],
        [],
        [],
        0,
    )


def test_it_sums_up_in_a_line(replay: Any) -> None:
    line = "random: reproduced 11 of 11 suggestions; 0 differ, 0 could not be compared\n"
    assert replay("random") == (line, 0)


def test_a_result_that_was_edited_is_found_out(replay: Any) -> None:
    edit("tpe", "t00001", "observations", lambda observed: {"loss": observed.get("loss", 0) - 20})
    out, code = replay("tpe", "-o", "json")
    found = json.loads(out)
    assert code == 1
    assert found["different"]
    assert {"t00000", "t00001"} <= set(found["equal"])
    assert found["unclear"] == []


def test_an_assignment_that_was_edited_is_shown_in_full_beside_what_was_derived(replay: Any) -> None:
    edit("random", "t00004", "suggestion", lambda data: data | {"assignment": data["assignment"] | {"x": 0.123456789}})
    out, code = replay("random")
    assert code == 1
    (row,) = [line for line in out.splitlines() if "t00004" in line]
    assert "assignment.x" in row
    assert "0.123456789" in row
    assert "reproduced 10 of 11 suggestions; 1 differs, 0 could not be compared" in out


def test_a_topology_that_was_replaced_is_found_out(replay: Any, here: Path) -> None:
    store = Store("sqlite:///katib_flow.db")
    first, second = store.history(store.find("cells"))[:2]
    paths = [store.read_artifact(trial.run_id, "topology.json") for trial in (first, second)]
    kept = here / "topology.json"
    shutil.copy(paths[0], kept)
    shutil.copy(paths[1], paths[0])
    try:
        out, code = replay("cells", "-o", "json")
    finally:
        shutil.copy(kept, paths[0])
    fields = {each["field"].split(".")[0] for each in json.loads(out)["different"] if each["trial"] == first.id}
    assert (fields, code) == ({"topology"}, 1)


def test_what_cannot_be_told_is_said_and_is_no_difference(replay: Any) -> None:
    edit("tpe", "t00005", "suggestion", lambda data: {name: each for name, each in data.items() if name != "basis"})
    out, code = replay("tpe")
    assert code == 0
    assert "the trials that were known when it was suggested are not recorded" in out
    assert "reproduced 13 of 14 suggestions; 0 differ, 1 could not be compared" in out


def test_a_note_that_is_none_is_one_message(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    edit("random", "t00004", "suggestion", lambda data: data | {"basis": ["0-3"]})
    monkeypatch.setattr("sys.argv", ["katib-flow", "replay", "random"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "of its trial cannot be read by this version" in capsys.readouterr().err
