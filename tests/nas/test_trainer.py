"""The trainer of a trial: which suggestion it trains how, by the trial's file alone."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms import find_algorithm
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.history import History, Suggestion
from katib_flow.loop import suggest
from katib_flow.models.manager import TOPOLOGY
from katib_flow.spec import Experiment
from katib_flow.trial.functions import callable_here, check_arguments
from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory

pytest.importorskip("torch")
from katib_flow.nas import train
from katib_flow.training import Text, classify

CELL = {"space": "cell", "settings": {"nodes": 3, "channels": 3, "stages": 1}}


def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suggestion: Suggestion, made: Experiment, **how: object
) -> set[str]:
    """The metrics that a trial of an experiment reports in its first epoch."""
    place = TrialDirectory(tmp_path)
    place.create(made, suggestion)
    place.model.mkdir(exist_ok=True)
    (place.model / TOPOLOGY).write_text(json.dumps(suggestion.topology))
    monkeypatch.setenv(TRIAL_FILE, str(place.trial_file))
    return set(next(train(**(how or {"train_size": 64, "epochs": 1}))))


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
    with pytest.raises(
        KatibFlowError, match=r"t00000: this suggestion is a segment of a supernet.s search, which random cannot train"
    ):
        trained(tmp_path, monkeypatch, first, searched("random"))


def test_parameters_are_checked_against_the_arguments_of_classify() -> None:
    assert inspect.signature(train) == inspect.signature(classify)
    with pytest.raises(SpecError, match="epoch"):
        check_arguments(train, "katib_flow.nas:train", {"epoch": True})


CELLS = {"space": "tree", "settings": {"tokens": 3, "features": 2}}


def letters() -> Text:
    text = np.resize([0, 0, 1, 2], 200)
    return Text(3, text, text, text)


def test_a_recurrent_network_is_trained_on_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Experiment.parse(spec(architecture=CELLS, parameters={}, algorithm="random"))
    (only,) = suggest(made, History(), 1)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    how: dict[str, object] = {"data": f"{Path(__file__).stem}:letters", "epochs": 2}
    assert trained(tmp_path, monkeypatch, only, made, **how) == {"step", "perplexity", "loss", "train_loss"}
    with pytest.raises(KatibFlowError, match="a text of 97 different tokens, but the topology reads 3 tokens and"):
        trained(tmp_path, monkeypatch, only, made, train_size=100, epochs=1)


@pytest.mark.parametrize(
    ("space", "trial", "message"),
    [
        ("tree", {"arguments": {"augment": "flip"}}, r"trial\.arguments\.augment: .*need an argument of .*length"),
        ("cell", {"arguments": {"length": 9}}, r"trial\.arguments\.length: .*need an argument of .*augment"),
        (
            "tree",
            {"function": "katib_flow.training:classify"},
            r"trial\.function: .*networks for tokens, as those of the space, such as katib_flow\.nas:train",
        ),
        ("cell", {"function": "katib_flow.training:predict"}, r"trial\.function: .*networks for images"),
    ],
)
def test_images_and_text_are_not_mixed_up(space: str, trial: dict[str, object], message: str) -> None:
    data = spec(architecture=space, parameters={}, algorithm="random")
    experiment = Experiment.parse({**data, "trial": trial})
    (problem,) = callable_here(experiment)
    assert re.search(message, str(problem))


@pytest.mark.parametrize("function", ["katib_flow.nas:train", "katib_flow.training:predict"])
def test_a_space_for_text_takes_the_arguments_of_its_trainer(function: str) -> None:
    data = spec(architecture="tree", parameters={"length": {"type": "int", "min": 5, "max": 9}}, algorithm="random")
    assert not list(callable_here(Experiment.parse({**data, "trial": {"function": function}})))


@pytest.mark.parametrize("name", ["darts", "snas", "enas"])
def test_no_supernet_is_trained_on_text(name: str) -> None:
    made = Experiment.parse(spec(architecture="tree", parameters={}, algorithm=name))
    with pytest.raises(InvalidSpec, match=rf"images, such as cell or dense, because {name} trains a supernet"):
        suggest(made, History(), 1)


def test_each_setting_of_a_search_says_what_it_is() -> None:
    for name in ("darts", "enas", "proxylessnas", "smash"):
        entry = find_algorithm(name)
        assert entry is not None
        assert entry.settings.about().keys() == entry.settings.model_fields.keys()


@pytest.mark.parametrize("name", ["nash", "nasbot", "network-morphism", "large-scale-evolution"])
def test_no_recurrent_network_is_grown(name: str) -> None:
    edges = [
        {"id": "in", "src": "x", "dst": "h", "op": "linear", "params": {"features": 4}},
        {"id": "state", "src": "h", "dst": "h", "op": "delay", "params": {"features": 4}},
        {"id": "out", "src": "h", "dst": "y", "op": "linear", "params": {"features": 3}},
    ]
    graphs = {"net": {"vertices": {"h": "add", "y": "add"}, "edges": edges}}
    space = {"input": {"tokens": 3}, "output": {"classes": 3}, "graphs": graphs}
    made = Experiment.parse(spec(architecture={"space": space}, parameters={}, algorithm=name))
    with pytest.raises(InvalidSpec, match="an initial network that reads images, such as chain"):
        suggest(made, History(), 1)
