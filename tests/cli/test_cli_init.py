"""`katib-flow init`: what a command and its program's options become, a sound spec whatever they hold."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.cli.starter import SEARCH_OF_NETWORKS, Option, options_of, searched, starter
from katib_flow.loop import checked
from katib_flow.spec import Experiment
from katib_flow.spec.yaml12 import load_yaml

ARGPARSE = """
import argparse
p = argparse.ArgumentParser()
p.add_argument("-l", "--lr", type=float, default=1)
p.add_argument("--batch-size", type=int, default=32)
p.add_argument("--optimizer", choices=["sgd", "adam"], default="adam")
p.add_argument("--dropout", type=float, default=0.2)
p.add_argument("--epochs", type=int, default=3)
p.add_argument("--verbose", action="store_true")
p.add_argument("data")
print(f"accuracy={1}")
"""
CLICK = """
import click

@click.command()
@click.option("--rate", default=0.25, type=float)
@click.option("--kernel", type=click.Choice(["rbf", "poly"]), default="rbf")
@click.option("--shout/--no-shout", default=False)
def main(rate, kernel, shout):
    click.echo(f"val_loss: {rate}")
"""


def spec_of(text: str) -> Experiment:
    return checked(load_yaml(text).data)


def parameters(text: str) -> dict[str, Any]:
    return dict(load_yaml(text).data["parameters"])


def test_options_of_argparse_become_parameters() -> None:
    text = starter(["python", "my train.py", "data.csv"], ARGPARSE)
    assert parameters(text) == {
        "lr": {"type": "float", "min": 0.1, "max": 10.0, "scale": "log"},
        "batch-size": {"type": "int", "min": 8, "max": 128, "scale": "log"},
        "optimizer": {"type": "categorical", "values": ["sgd", "adam"]},
        "dropout": {"type": "float", "min": 0.0, "max": 0.9},
    }
    of = spec_of(text)
    assert (of.name, of.objective[0].metric, of.objective[0].direction) == ("my-train", "accuracy", "maximize")
    assert of.trial.command == (
        "python", "my train.py", "data.csv",
        "--lr=${lr}", "--batch-size=${batch-size}", "--optimizer=${optimizer}", "--dropout=${dropout}",
    )  # fmt: skip


def test_options_of_click_become_parameters() -> None:
    text = starter(["python", "train.py"], CLICK)
    assert parameters(text) == {
        "rate": {"type": "float", "min": 0.025, "max": 2.5, "scale": "log"},
        "kernel": {"type": "categorical", "values": ["rbf", "poly"]},
    }
    assert spec_of(text).objective[0].direction == "minimize"


def test_what_the_command_gives_decides_over_the_programs_default() -> None:
    text = starter(["python", "train.py", "--lr", "0.01", "--optimizer=sgd", "--epochs", "7"], ARGPARSE)
    assert parameters(text)["lr"] == {"type": "float", "min": 0.001, "max": 0.1, "scale": "log"}
    command = spec_of(text).trial.command
    assert command is not None
    assert command[:7] == ("python", "train.py", "--lr", "${lr}", "--optimizer=${optimizer}", "--epochs", "7")


def test_a_command_of_hydra_is_read() -> None:
    text = starter(["python", "-m", "app", "model=resnet", "+optimizer.lr=0.1", "seed=3", "path=${oc.env:HOME}"])
    assert list(parameters(text)) == ["optimizer.lr"]
    command = spec_of(text).trial.command
    assert command == (
        "python",
        "-m",
        "app",
        "model=resnet",
        "+optimizer.lr=${optimizer.lr}",
        "seed=3",
        "path=$${oc.env:HOME}",
    )


def test_two_options_that_would_have_one_name_have_two() -> None:
    text = starter(["run", "a/b=0.5", "a b=1", "a_b=0.25"])
    assert list(parameters(text)) == ["a_b", "a_b_2"]
    assert spec_of(text).trial.command == ("run", "a/b=${a_b}", "a b=1", "a_b=${a_b_2}")


@pytest.mark.parametrize(
    "option",
    [
        Option("verbose", "--verbose", flag=True),
        Option("fast", "--fast=", value=True),
        Option("epochs", "--epochs=", value=5),
        Option("random-state", "--random-state=", value=5),
        Option("num_workers", "--num_workers=", value=5),
        Option("model", "--model=", value="resnet"),
        Option("shift", "--shift=", value=-1.0),
        Option("unknown", "--unknown="),
        Option("one", "--one=", choices=("a",)),
    ],
)
def test_what_is_seldom_searched_or_has_no_range_stays_as_it_is(option: Option) -> None:
    assert searched(option) is None


def test_a_program_that_is_no_python_has_no_options() -> None:
    assert options_of("#!/bin/sh\necho --lr=$1\n") == []


def test_a_search_of_networks_to_begin_with_is_sound() -> None:
    assert spec_of(SEARCH_OF_NETWORKS).architecture is not None


_WORD = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text and text.isprintable())


@given(
    words=st.lists(_WORD, min_size=1, max_size=4),
    options=st.lists(st.tuples(_WORD, st.floats(1e-6, 1e6) | st.integers(1, 10**6) | _WORD), max_size=4),
)
def test_whatever_the_command_holds_the_spec_is_sound_and_runs_its_words(words: list[str], options: Any) -> None:
    command = [*words, *(f"--{name}={value}" for name, value in options)]
    of = spec_of(starter(command))
    assert of.trial.command is not None
    assert len(of.trial.command) >= len(command)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_init_writes_a_spec_that_runs(call: Any, here: Path) -> None:
    (here / "train.py").write_text(ARGPARSE.replace('p.add_argument("data")', "a = p.parse_args()"))
    done = call("init", "--", "python", "train.py", "--lr", "0.1")
    assert done.out == "wrote experiment.yaml; adjust the ranges in it, then: katib-flow run experiment.yaml\n"
    spec = (here / "experiment.yaml").read_text()
    (here / "experiment.yaml").write_text(spec.replace("max_trials: 20", "max_trials: 1"))
    ran = call("run", "experiment.yaml", "-o", "json")
    assert ran.json["best"]["accuracy"] == 1.0
    again = call("init")
    assert (again.code, again.error) == (2, "error: experiment.yaml: already exists; name another file with -o\n")


def test_init_of_a_search_of_networks_takes_no_command(call: Any, here: Path) -> None:
    assert call("init", "--nas", "-o", "nas.yaml").code == 0
    assert spec_of((here / "nas.yaml").read_text()).algorithm.name == "amoebanet"
    assert "either a command or --nas" in call("init", "--nas", "-o", "b.yaml", "--", "python", "x.py").error


def test_the_version_is_that_of_the_package(call: Any) -> None:
    assert call("--version").out == f"katib-flow {version('katib-flow')}\n"
