"""``nasConfig`` and pbt of a Katib manifest: what reaches the trial is what Katib's own images read."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from katib_manifests import Data, algorithm, good, mistakes, notes, parameter, parsed, with_spec
from kit import skip_what_is_not_installed

from katib_flow.history import History
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec.load import Parsed
from katib_flow.spec.template import substitute_all

CONVOLUTION = {
    "operationType": "convolution",
    "parameters": [
        parameter("filter_size", "categorical", list=["3", "5"]),
        parameter("num_filter", "categorical", list=["32"]),
    ],
}
REDUCTION = {
    "operationType": "reduction",
    "parameters": [
        parameter("reduction_type", "categorical", list=["max_pooling"]),
        parameter("pool_size", "int", min="2", max="4", step="2"),
        parameter("rate", "double", min="0.1", max="0.3", step="0.1"),
    ],
}


def nas(name: str, references: list[str], layers: int = 1, operations: list[Data] | None = None, **values: str) -> Data:
    """A manifest that searches an architecture, whose trial gets ``--<reference>="<text>"`` each."""
    graph = {"numLayers": layers, "inputSizes": [32, 32, 3], "outputSizes": [10]}
    config = {"graphConfig": graph, "operations": operations or [CONVOLUTION, REDUCTION]}
    data = with_spec(algorithm=algorithm(name, **values), parameters=None, nasConfig=config)
    template = data["spec"]["trialTemplate"]
    template["trialParameters"] = [{"name": each.replace("-", ""), "reference": each} for each in references]
    command = [f'--{each}="${{trialParameters.{each.replace("-", "")}}}"' for each in references]
    template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"] = ["train", *command]
    return data


def texts(read: Parsed, values: dict[str, Any]) -> list[Any]:
    """What the trial's image makes of its arguments, as Katib's do: single quotes for double ones, then JSON."""
    arguments = substitute_all(read.data["trial"]["container"]["command"][1:], values)
    return [json.loads(each.partition("=")[2].replace("'", '"')) for each in arguments]


def test_an_enas_trial_is_told_its_architecture_in_katibs_form():
    read = parsed(nas("enas", ["architecture", "nn_config"], layers=3))
    assert list(read.experiment.parameters) == [
        "layer1.op", "layer2.op", "layer2.skip0", "layer3.op", "layer3.skip0", "layer3.skip1"
    ]  # fmt: skip
    values = {"layer1.op": 3, "layer2.op": 0, "layer2.skip0": 1, "layer3.op": 2, "layer3.skip0": 0, "layer3.skip1": 1}
    assert values in search_space(read.experiment)
    architecture, config = texts(read, values)
    assert architecture == [[3], [0, 1], [2, 0, 1]]
    assert (config["num_layers"], config["input_sizes"], config["output_sizes"]) == (3, [32, 32, 3], [10])
    assert config["embedding"]["3"] == {
        "opt_id": 3,
        "opt_type": "reduction",
        "opt_params": {"reduction_type": "max_pooling", "pool_size": 2, "rate": 0.2},
    }


def test_enas_counts_the_operations_as_katib_does():
    """Every combination of an operation's parameters, the last one changing fastest, counted on over the operations."""
    config = texts(parsed(nas("enas", ["nn_config"])), {})[0]
    listed = [
        ("convolution", {"filter_size": size, "num_filter": "32"}) for size in ("3", "5")
    ] + [
        ("reduction", {"reduction_type": "max_pooling", "pool_size": pool, "rate": rate})
        for pool in (2, 4)
        for rate in (0.1, 0.2, 0.3)
    ]  # fmt: skip
    assert list(config["embedding"]) == [str(number) for number in range(len(listed))]
    assert [(each["opt_type"], each["opt_params"]) for each in config["embedding"].values()] == listed


def test_katibs_enas_is_the_controller_of_nas_rl():
    settings = {"controller_hidden_size": "64", "controller_baseline_decay": "0.9", "controller_train_steps": "50"}
    read = parsed(nas("enas", ["architecture"], **settings))
    assert read.data["algorithm"] == {"name": "nas-rl", "settings": {"units": 64, "baseline_decay": 0.9}}
    assert notes(read)[0] == (
        "algorithm: left out the setting controller_train_steps: '50', because it has no counterpart here"
    )


def test_what_enas_decides_can_be_decided_by_another_algorithm():
    read = parsed(nas("tpe", ["architecture"], layers=2))
    assert list(read.experiment.parameters) == ["layer1.op", "layer2.op", "layer2.skip0"]


def test_the_controller_makes_architectures_that_katibs_image_reads():
    read = parsed(nas("enas", ["architecture", "nn_config"], layers=3))
    skip_what_is_not_installed(read.experiment)
    for suggestion in suggest(read.experiment, History(), 4):
        architecture, config = texts(read, dict(suggestion.assignment))
        assert [len(layer) for layer in architecture] == [1, 2, 3]
        assert all(str(layer[0]) in config["embedding"] for layer in architecture)


def test_a_darts_trial_is_told_what_katib_tells_it():
    operations = [
        {"operationType": "max_pooling", "parameters": [parameter("filter_size", "categorical", list=["3", "5"])]},
        {"operationType": "skip_connection"},
    ]
    references = ["algorithm-settings", "search-space", "num-layers"]
    read = parsed(nas("darts", references, 2, operations, num_epochs="1", batch_size="None"))
    (only,) = search_space(read.experiment).enumerate()
    settings, space, layers = texts(read, only)
    assert (settings["num_epochs"], settings["batch_size"], settings["w_lr"], len(settings)) == ("1", None, 0.025, 14)
    assert space == ["max_pooling_3x3", "max_pooling_5x5", "skip_connection"]
    assert layers == 2
    assert any("searches inside the trial's image" in note for note in notes(read))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graphConfig": {}}, "graphConfig.numLayers: found nothing, need a value; it is required"),
        ({"operations": []}, "operations: found [], need 1 or more items"),
        ({"operations": [{"operationType": "x", "parameters": [parameter("a", "int", min="1", max="many")]}]},
         "operations[0].parameters[0].feasibleSpace: found \"min '1', max 'many', step ''\", need numbers as text, with at most 1000 "
         "steps from min to max"),
        ({"operations": [{"operationType": "x", "parameters": [parameter("a", "categorical")]}]},
         "operations[0].parameters[0].feasibleSpace.list: found [], need a list of values"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_nas_config_is_told(change: Data, message: str):
    data = nas("enas", ["architecture"])
    data["spec"]["nasConfig"] |= change
    assert mistakes(data) == [f"spec.nasConfig.{message}"]


# pbt


def pbt(*arguments: str) -> Parsed:
    settings = {"suggestion_trial_dir": "/var/katib/checkpoints/", "n_population": "6", "truncation_threshold": "0.2"}
    data = with_spec(algorithm=algorithm("pbt", **settings))
    container = data["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container |= {"command": ["sh", "-c"], "args": [" ".join(["train", *arguments])]} if arguments else {}
    return parsed(data)


def test_pbt_keeps_its_settings():
    assert pbt().data["algorithm"] == {"name": "pbt", "settings": {"n_population": 6, "truncation_threshold": 0.2}}


def test_pbt_says_where_checkpoints_must_be_when_no_argument_does():
    assert notes(pbt())[1].endswith("the trial must write its checkpoints to ${trial.checkpoint_dir}")
    assert not any("its checkpoints" in note for note in notes(pbt("--dir=/var/katib/checkpoints")))


@pytest.mark.parametrize(("parent", "own", "found"), [("old", "", "old"), ("", "", ""), ("old", "new", "new")])
def test_a_pbt_trial_finds_its_parents_checkpoint_in_its_own_directory(
    tmp_path: Path, parent: str, own: str, found: str
):
    """The command as it is imported, run: unless it has begun before, its directory holds what the parent left."""
    here, before = tmp_path / "here", tmp_path / "before"
    for directory, text in ((here, own), (before, parent)):
        directory.mkdir()
        if text:
            (directory / "weights").write_text(text)
    values = {
        "lr": 0.01,
        "trial.checkpoint_dir": str(here),
        "trial.parent_checkpoint_dir": str(before) if parent else "",
    }
    program = "cat ${trial.checkpoint_dir}/weights 2>/dev/null; echo $1"
    command = pbt("--dir=/var/katib/checkpoints/").data["trial"]["container"]["command"]
    position = command.index("sh", 1)
    argv = substitute_all([*command[:position], "sh", "-c", program, "x", "--lr=${lr}"], values)
    out = subprocess.run(argv, capture_output=True, text=True, check=True, env=os.environ).stdout
    assert out == f"{found}--lr=0.01\n"


def test_an_object_has_no_checkpoints():
    data = with_spec(algorithm=algorithm("pbt", suggestion_trial_dir="/c"))
    data["spec"]["trialTemplate"]["trialSpec"] |= {"kind": "PyTorchJob"}
    assert notes(parsed(data)) == [
        "trial.resource: /c is empty in every trial, because only a container trial finds its parent's checkpoint"
    ]


def test_good_needs_no_directory():
    assert "sh" not in parsed(good()).data["trial"]["container"]["command"]


def test_operations_that_multiply_beyond_measure_are_refused_at_once():
    many = [parameter(f"p{number}", "categorical", list=["3", "5"]) for number in range(60)]
    data = nas("enas", ["architecture"], operations=[{"operationType": "convolution", "parameters": many}])
    (mistake,) = [line for line in mistakes(data) if "operations" in line]
    assert mistake.endswith(f"found '{2**60} combinations', need at most 1000 combinations in all operations together")


@pytest.mark.parametrize("name", ["enas", "darts"])
def test_an_architecture_beside_parameters_that_are_no_list_is_refused_in_words(name):
    data = nas(name, ["architecture"], operations=[CONVOLUTION])
    data["spec"]["parameters"] = -3
    assert "spec.parameters: found -3, need a list" in mistakes(data)
