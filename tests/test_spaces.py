"""What an experiment searches: told by ``spaces``, because the spec knows no more than how it is written."""

from typing import Any

import pytest
from kit import experiment, spec

from katib_flow.errors import InvalidSpec
from katib_flow.loop import read
from katib_flow.spaces import architectures, check_architecture, search_space
from katib_flow.spec import Experiment

UNKNOWN = {"space": "cel"}


def written(**changes: Any) -> Experiment:
    return Experiment.parse({**spec(parameters={}), **changes})


def test_the_decisions_about_an_architecture_come_after_the_parameters() -> None:
    made = experiment(parameters={"lr": {"type": "float", "min": 0, "max": 1}}, architecture="cell")
    space = architectures(made)
    assert space is not None
    assert list(search_space(made).parameters) == ["lr", *space.parameters]


def test_without_an_architecture_the_parameters_are_all() -> None:
    made = experiment()
    assert architectures(made) is None
    assert list(search_space(made).parameters) == list(made.parameters)


def test_the_spec_alone_does_not_judge_an_architecture_and_the_rule_does() -> None:
    made = written(architecture=UNKNOWN)
    (problem,) = check_architecture(made)
    assert problem.where == "architecture.space"
    assert "did you mean 'cell'" in problem.need
    with pytest.raises(InvalidSpec, match="did you mean 'cell'"):
        search_space(made)


@pytest.mark.parametrize("algorithm", ["enas", "tpe", "nash"])
def test_a_mistake_in_an_architecture_is_told_once_though_the_algorithm_needs_it_too(algorithm, tmp_path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        f"name: one\nobjective: {{metric: loss, direction: minimize}}\narchitecture: {{space: cel}}\n"
        f"algorithm: {algorithm}\nlimits: {{max_trials: 2}}\nearly_stopping: mediam\n"
    )
    with pytest.raises(InvalidSpec) as raised:
        read(file)
    assert [(each.where, each.line) for each in raised.value.problems] == [
        ("architecture.space", 3),
        ("early_stopping.name", 6),
    ]


def test_a_parameter_of_the_name_of_a_decision_is_told() -> None:
    own = {
        "schema": "topology/1",
        "input": {"shape": [1, 8, 8]},
        "output": {"classes": 10},
        "slots": {"op": {"among": ["conv3", "sep3"]}},
        "graphs": {
            "net": {
                "vertices": {"a": "add", "y": "add"},
                "edges": [
                    {"id": "1", "src": "x", "dst": "a", "op": {"slot": "op"}},
                    {"id": "2", "src": "a", "dst": "y", "op": "head", "params": {"classes": 10}},
                ],
            }
        },
    }
    made = written(parameters={"op": {"type": "int", "min": 0, "max": 1}}, architecture={"space": own})
    (problem,) = check_architecture(made)
    assert problem.where == "parameters.op"
