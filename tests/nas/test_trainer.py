"""The trainer of a trial: which suggestion it trains how, by the trial's file alone."""

import inspect
import json
from pathlib import Path

import pytest
from kit import spec

from katib_flow.algorithms import find_algorithm
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import History, Suggestion
from katib_flow.loop import suggest
from katib_flow.models.manager import TOPOLOGY
from katib_flow.spec import Experiment
from katib_flow.trial.functions import check_arguments
from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory

pytest.importorskip("torch")
from katib_flow.nas import train
from katib_flow.training import classify

CELL = {"space": "cell", "settings": {"nodes": 3, "channels": 3, "stages": 1}}


def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suggestion: Suggestion, made: Experiment) -> set[str]:
    """The metrics that a trial of an experiment reports in its first epoch."""
    place = TrialDirectory(tmp_path)
    place.create(made, suggestion)
    place.model.mkdir()
    (place.model / TOPOLOGY).write_text(json.dumps(suggestion.topology))
    monkeypatch.setenv(TRIAL_FILE, str(place.trial_file))
    return set(next(train(train_size=64, epochs=1)))


def searched(name: str, **settings: object) -> Experiment:
    return Experiment.parse(spec(architecture=CELL, parameters={}, algorithm={"name": name, "settings": settings}))


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize(("name", "own"), [("darts", "supernet/loss"), ("enas", "reward"), ("proxylessnas", "latency")])
def test_a_segment_is_trained_as_its_system_has_it_with_the_settings_of_the_spec(
    name: str, own: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = searched(name, epochs=epochs, batch=32)
    (first,) = suggest(made, History(), 1)
    assert {own, "search/progress"} <= trained(tmp_path, monkeypatch, first, made)
    told = next(train(train_size=64))  # it goes on from its checkpoint, or begins again
    assert told["search/progress"] == told["step"] / epochs  # type: ignore[operator]


def test_any_other_trial_is_trained_as_classify_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = searched("random")
    (only,) = suggest(made, History(), 1)
    assert trained(tmp_path, monkeypatch, only, made) == {"step", "accuracy", "loss", "train_loss"}


def test_a_segment_of_an_algorithm_that_trains_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = suggest(searched("darts"), History(), 1)
    with pytest.raises(KatibFlowError, match=r"t00000: is a segment of a supernet.s search, and random trains none"):
        trained(tmp_path, monkeypatch, first, searched("random"))


def test_parameters_are_checked_against_the_arguments_of_classify() -> None:
    assert inspect.signature(train) == inspect.signature(classify)
    with pytest.raises(SpecError, match="epoch"):
        check_arguments(train, "katib_flow.nas:train", {"epoch": True})


def test_each_setting_of_a_search_says_what_it_is() -> None:
    for name in ("darts", "enas", "proxylessnas"):
        entry = find_algorithm(name)
        assert entry is not None
        assert entry.settings.about().keys() == entry.settings.model_fields.keys()
