"""A collector of the user's own in a spec: what it must say, and what it may name."""

# ruff: noqa: E501 - a case of a table stands on one line or two

from typing import Any

import pytest
from kit import experiment, spec

from katib_flow.effects import on_a_cluster, without_effect
from katib_flow.errors import InvalidSpec
from katib_flow.spec import Experiment

PROGRAM = ["collect", "${trial.directory}"]
CONTAINER = {"image": "mine:1", "command": PROGRAM}


@pytest.mark.parametrize(
    "metrics", [{"command": PROGRAM}, {"container": CONTAINER}, {"command": PROGRAM, "container": CONTAINER}]
)
def test_a_collector_is_written_back_as_it_was_read(metrics: Any) -> None:
    of = experiment(metrics={"source": "custom", **metrics})
    assert Experiment.parse(of.to_dict()) == of
    assert of.to_dict()["metrics"] == {"source": "custom", **metrics}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            {"source": "custom"},
            "metrics.container: found nothing, need a container or a command that reads the metrics, because source is custom",
        ),
        (
            {"source": "file", "path": "x", "command": PROGRAM},
            "metrics.command: found 'file', need source: custom as well",
        ),
        ({"container": CONTAINER}, "metrics.container: found 'stdout', need source: custom as well"),
        (
            {"source": "custom", "container": {"image": "x"}},
            "metrics.container.command: found nothing, need the command to start after the trial, or starts: with-trial",
        ),
        (
            {"source": "custom", "container": {"image": "x", "starts": "now"}},
            "metrics.container.starts: found 'now', need 'after-trial' or 'with-trial'",
        ),
        ({"source": "custom", "command": []}, "metrics.command: found [], need 1 or more items"),
        ({"source": "custom", "command": ["x", "${rate}"]}, "metrics.command[1]: found '${rate}', need one of lr, "),
        (
            {"source": "custom", "container": {"image": "x", "command": ["x"], "env": {"A": "${rate}"}}},
            "metrics.container.env.A: found '${rate}', need one of lr, ",
        ),
    ],
)
def test_a_collector_that_is_none_is_told(metrics: Any, said: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Experiment.parse(spec(metrics=metrics))
    (only,) = caught.value.problems
    assert str(only).startswith(said)


def test_a_collectors_path_and_port_have_an_effect_and_a_filter_has_none() -> None:
    of = experiment(
        metrics={
            "source": "custom",
            "command": PROGRAM,
            "path": "/out",
            "port": 7000,
            "filter": "(a)(b)",
            "format": "text",
        }
    )
    assert [str(note.where) for note in without_effect(of)] == ["metrics.filter", "metrics.format"]
    of = experiment(metrics={"source": "katib", "path": "/out", "port": 7000})
    assert [str(note.where) for note in without_effect(of)] == ["metrics.path"]


def test_a_container_beside_a_function_is_told_to_do_nothing_on_a_cluster() -> None:
    both = {"source": "custom", "command": PROGRAM, "container": CONTAINER}
    (said,) = on_a_cluster(experiment(metrics=both))
    assert (said.where, said.text) == (
        "metrics.container", "it is not used, because metrics.command reads the metrics of a function trial"
    )  # fmt: skip
    assert on_a_cluster(experiment(metrics=both, trial={"container": {"image": "x", "command": ["y", "${lr}"]}})) == []
