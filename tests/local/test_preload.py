"""What a worker imports ahead of its trials."""

# pyright: reportMissingImports=false, reportUnusedImport=false

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.local import preload
from katib_flow.spec import Experiment


def experiment(**trial: Any) -> Experiment:
    return Experiment.parse(
        {
            "name": "e",
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 1},
            "trial": {"function": "m:f", **trial},
        }
    )


@pytest.fixture(autouse=True)
def _libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kf_heavy").mkdir()
    for name, text in {"__init__": "", "part": "", "broken": "1 / 0"}.items():
        (tmp_path / "kf_heavy" / f"{name}.py").write_text(text)
    (tmp_path / "kf_other.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(preload, "FORKABLE", ("kf_heavy",))


def imports(x: float) -> Any:
    import kf_heavy.part
    import kf_other

    return kf_heavy, kf_other


def imports_inside(x: float) -> Any:
    def helper() -> Any:
        from kf_heavy import part

        return part

    return helper()


def sets_a_variable(x: float) -> Any:
    import os

    os.environ["OMP_NUM_THREADS"] = "1"
    import kf_heavy

    return kf_heavy


def fails(x: float) -> Any:
    import kf_heavy.broken
    import kf_heavy.missing

    return kf_heavy


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("kf_")}


@pytest.mark.parametrize(
    ("function", "trial", "expected"),
    [
        (imports, {}, {"kf_heavy", "kf_heavy.part"}),
        (imports_inside, {}, {"kf_heavy"}),
        (imports, {"env": {"OMP_NUM_THREADS": "1"}}, set()),
        (sets_a_variable, {}, set()),
        (fails, {}, {"kf_heavy"}),
        (print, {}, set()),
    ],
)
def test_libraries_that_survive_a_fork_are_imported_unless_variables_may_change_what_they_do(
    function: Callable[..., Any], trial: dict[str, Any], expected: set[str]
) -> None:
    preload.preload(experiment(**trial), function)
    assert loaded() == expected


def test_a_trial_finds_what_its_function_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def train(x: float) -> float:
        import sys

        known = "sklearn.svm" in sys.modules
        import sklearn.svm

        return float(known and sklearn.svm is not None)

    tuned = kf.experiment(parameters={"x": kf.Float(0, 1)}, maximize="score", max_trials=2, parallel_trials=1)(train)
    assert [trial.observations["score"] for trial in tuned.run().trials] == [1.0, 1.0]
