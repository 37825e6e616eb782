"""``import --own-nas``: a ``nasConfig`` of Katib's, searched by our own systems and trained by our own trainer."""

from typing import Any

import pytest
from katib_manifests import Data, algorithm, good, notes, parameter, parsed, with_spec
from kit import skip_what_is_not_installed

import katib_flow as kf
from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec
from katib_flow.history import Kind, State
from katib_flow.models.presets import presets
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment
from katib_flow.spec.katib.own_nas import own_search
from katib_flow.spec.load import Parsed


def choice(name: str, *values: str) -> Data:
    return parameter(name, "categorical", list=list(values))


def operation(kind: str, *parameters: Data) -> Data:
    return {"operationType": kind, "parameters": list(parameters)}


CONVOLUTIONS = [
    operation(
        "convolution", choice("filter_size", "3", "5"), choice("num_filter", "8", "16"), choice("stride", "1", "2")
    ),
    operation("separable_convolution", choice("filter_size", "3"), choice("depth_multiplier", "1")),
    operation("reduction", choice("reduction_type", "max_pooling"), parameter("pool_size", "int", min="2", max="3")),
]


def nas(
    name: str, operations: list[Data] | None = None, layers: int = 3, objective: Data | None = None, **values: str
) -> Parsed:
    graph = {"numLayers": layers, "inputSizes": [32, 32, 3], "outputSizes": [10]}
    config = {"graphConfig": graph, "operations": operations or CONVOLUTIONS}
    data = with_spec(algorithm=algorithm(name, **values), parameters=None, nasConfig=config)
    data["spec"]["objective"] = objective or {"type": "maximize", "objectiveMetricName": "Validation-Accuracy"}
    del data["spec"]["trialTemplate"]["trialParameters"]
    container = data["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["train"]
    return own_search(parsed(data), "k.yaml")


def sound(read: Parsed) -> Experiment:
    return Experiment.parse(read.data, "own", [check_algorithm])


def settings_of(read: Parsed) -> Any:
    return read.data["architecture"]["settings"]


def test_enas_decides_on_a_chain_of_layers() -> None:
    read = nas("enas")
    assert read.data["architecture"] == {
        "space": "macro",
        "settings": {
            "layers": 3,
            "channels": 8,
            "reductions": [1, 2],
            "operations": ["conv3", "conv5", "sep3", "max3"],
        },
    }
    experiment = sound(read)
    assert (experiment.algorithm.name, experiment.trial.function) == ("enas", "katib_flow.nas:train")
    space = architectures(experiment)
    assert space is not None
    assert set(space.slots) == {"1.op", "2.op", "2.skip0", "3.op", "3.skip0", "3.skip1"}


def test_darts_decides_on_two_cells() -> None:
    operations = [
        operation("max_pooling", choice("filter_size", "3")),
        operation("dilated_convolution", choice("filter_size", "3", "5")),
        operation("skip_connection"),
    ]
    read = nas("darts", operations, layers=8, num_nodes="2", init_channels="4", stem_multiplier="3")
    assert read.data["architecture"] == {
        "space": "dense",
        "settings": {
            "nodes": 2, "stages": 3, "cells": 2, "channels": 4, "operations": ["none", "max3", "dil3", "dil5", "skip"],
        },
    }  # fmt: skip
    assert sound(read).algorithm.name == "darts"
    assert "algorithm: left out the setting stem_multiplier: '3', because it has no counterpart here" in notes(read)


@pytest.mark.parametrize(
    ("layers", "stages", "cells", "told"),
    [
        (1, 1, 1, False),
        (2, 1, 2, False),
        (3, 2, 1, False),
        (4, 2, 1, True),
        (5, 3, 1, False),
        (8, 3, 2, False),
        (20, 3, 6, False),
    ],
)
def test_the_cells_of_darts_are_as_many_where_they_can_be(layers: int, stages: int, cells: int, told: bool) -> None:
    read = nas("darts", layers=layers)
    assert (settings_of(read)["stages"], settings_of(read)["cells"]) == (stages, cells)
    assert (stages * cells + stages - 1 != layers) is told
    assert any(f"{layers} cells in Katib" in note for note in notes(read)) is told


def test_the_settings_of_a_search_are_kept() -> None:
    read = nas(
        "darts", num_epochs="3", w_lr="0.05", w_lr_min="0.01", w_momentum="0.8", w_weight_decay="0.001",
        w_grad_clip="3.", alpha_lr="0.02", alpha_weight_decay="0.1", batch_size="64", random_state="4",
    )  # fmt: skip
    assert read.data["algorithm"] == {
        "name": "darts",
        "seed": 4,
        "settings": {
            "epochs": 3, "lr": 0.05, "lr_end": 0.01, "momentum": 0.8, "weight_decay": 0.001, "clip": 3.0,
            "alpha_lr": 0.02, "alpha_weight_decay": 0.1, "batch": 64,
        },
    }  # fmt: skip
    sound(read)
    read = nas("enas", controller_hidden_size="32", controller_entropy_weight="0.001", controller_learning_rate="0.01")
    assert read.data["algorithm"]["settings"] == {"units": 32, "entropy": 0.001, "controller_lr": 0.01}
    sound(read)
    assert nas("darts", batch_size="None").data["algorithm"] == "darts"


def test_another_algorithm_searches_the_same_layers() -> None:
    read = nas("random")
    assert (read.data["algorithm"], read.data["limits"]["max_trials"]) == ("random", 12)
    sound(read)


@pytest.mark.parametrize(
    ("kind", "metric", "other"), [("maximize", "accuracy", "loss"), ("minimize", "loss", "accuracy")]
)
def test_the_objective_is_what_the_trainer_reports(kind: str, metric: str, other: str) -> None:
    read = nas("enas", objective={"type": kind, "goal": 0.5, "objectiveMetricName": "x"})
    assert read.data["objective"] == {"metric": metric, "direction": kind, "goal": 0.5}
    assert read.data["additional_metrics"] == [other]
    assert "objective: x in Katib; the trainer here reports accuracy and loss" in notes(read)
    named = nas("enas", objective={"type": kind, "objectiveMetricName": metric})
    assert not any(note.startswith("objective:") for note in notes(named))


def test_what_cannot_be_carried_over_is_told() -> None:
    assert notes(nas("enas"))[1:] == [
        "architecture: Katib's trials read images of size 32x32x3 in 10 classes from the container image; this trial "
        "reads scikit-learn's digits. For other images, name a function that returns them, trial: {arguments: {data: "
        '"module:function"}}, and add the settings shape: [3, 32, 32] and classes: 10',
        "architecture: strides are not searched here; feature maps are halved after layers 1 and 2",
        "architecture: num_filter is one of 8, 16 in Katib; it is not searched here",
        "architecture: left out the parameter depth_multiplier of operations, because it has no counterpart here",
        "architecture: max_pooling of size 2 x 2 becomes max3, the nearest size available here",
        "limits: left out maxTrialCount 12: the search is one trial, and each of the best networks (retrain) another",
        "trial: the built-in trainer builds and trains the networks, not the image of Katib's trial",
    ]


def test_an_unknown_operation_is_left_out_and_told() -> None:
    read = nas("enas", [operation("convolutions"), operation("avg_pooling", choice("filter_size", "3"))])
    assert settings_of(read)["operations"] == ["avg3"]
    assert any("left out the operation 'convolutions', because it is unknown here; did" in note for note in notes(read))


def test_where_no_operation_is_known_there_is_nothing_to_search() -> None:
    with pytest.raises(InvalidSpec) as caught:
        nas("enas", [operation("attention")])
    assert str(caught.value).startswith(
        "k.yaml: spec.nasConfig.operations[0].operationType: found 'attention', need one of"
    )


def test_a_manifest_without_nas_config_is_refused() -> None:
    with pytest.raises(InvalidSpec) as caught:
        own_search(parsed(good()), "k.yaml")
    assert str(caught.value).startswith("k.yaml: spec.nasConfig: found nothing, need an architecture to search")


def test_every_operation_that_has_a_name_of_a_size_is_one() -> None:
    sizes = choice("filter_size", "1", "3", "5", "7")
    kinds = ("convolution", "separable_convolution", "depthwise_convolution", "dilated_convolution")
    read = nas("enas", [operation(kind, sizes) for kind in (*kinds, "avg_pooling", "max_pooling")])
    assert settings_of(read)["operations"] == [
        *("conv1", "conv3", "conv5", "conv7", "sep3", "sep5", "sep7", "dw3", "dw5", "dw7", "dil3", "dil5"),
        *("avg3", "avg5", "max3", "max5"),
    ]
    sound(read)


def test_as_many_layers_as_there_may_be() -> None:
    read = nas("enas", layers=100)
    assert settings_of(read)["layers"] == 24
    assert "architecture: 100 layers in Katib; the maximum here is 24" in notes(read)
    assert presets.get("macro", "").settings.model_validate(settings_of(read))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"), [("enas", {}), ("darts", {"num_epochs": "1", "num_nodes": "1", "init_channels": "2"})]
)
def test_what_is_imported_searches_and_trains(name: str, more: dict[str, str], tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    operations = [
        operation("convolution", choice("filter_size", "3"), choice("num_filter", "2")),
        operation("skip_connection"),
    ]
    read = nas(name, operations, layers=2, **more)
    data = {**read.data, "trial": {"arguments": {"epochs": 1, "train_size": 64}}}
    data["algorithm"] = {
        "name": name,
        "settings": {"epochs": 1, "retrain": 1, "candidates": 2} if name == "enas" else {"epochs": 1, "retrain": 1},
    }
    experiment = Experiment.parse(data)
    skip_what_is_not_installed(experiment)
    segment, network = kf.run(experiment).trials
    assert segment.suggestion.origin.kind is Kind.SEGMENT
    assert (segment.state, network.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert 0 <= network.observations["accuracy"] <= 1
