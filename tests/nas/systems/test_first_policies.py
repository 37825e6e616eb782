"""What a system that learns a policy begins with: the settings, each where it belongs, and its paper's weights."""

from typing import Any

import pytest
from kit import spec
from landscape import CELL

from katib_flow.algorithms.registry import Ask, find_algorithm
from katib_flow.history import History
from katib_flow.spec import Experiment

torch = pytest.importorskip("torch", reason="needs torch (the extra nas)")

GIVEN = {"units": 7, "lr": 0.03, "baseline_decay": 0.5, "entropy": 0.25}
TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "latency", "direction": "minimize"}]


def begun(name: str, architecture: Any = CELL, **settings: Any) -> Any:
    objective = TWO if name == "mnasnet" else TWO[0]
    algorithm = {"name": name, "seed": 4, "settings": {**GIVEN, **settings}}
    made = Experiment.parse(spec(parameters={}, objective=objective, architecture=architecture, algorithm=algorithm))
    entry = find_algorithm(name)
    assert entry is not None
    assert entry.learner is not None
    return entry.learner.begin(Ask(made, History(), range(0), entry.settings_of(made)))


@pytest.mark.parametrize(("name", "spread"), [("nas-rl", 0.08), ("nasnet", 0.1), ("mnasnet", 0.1)])
def test_a_controller_has_the_settings_of_the_spec_and_the_first_weights_of_its_paper(name: str, spread: float) -> None:
    known = begun(name, layers=2)
    assert known.policy.shape.choices == (4,) * 6
    assert (known.policy.core.hidden_size, known.policy.core.num_layers) == (7, 2)
    teaching = known.teaching
    assert (teaching.lr, teaching.decay, teaching.entropy) == (0.03, 0.5, 0.25)
    largest = max(float(weight.detach().abs().max()) for weight in known.policy.parameters())
    assert spread * 0.99 < largest <= spread


@pytest.mark.parametrize(("name", "space"), [("eas", "chain"), ("renas", CELL)])
def test_a_policy_over_edits_has_the_settings_of_the_spec(name: str, space: Any) -> None:
    known = begun(name, space)
    assert known.policy.encoder.hidden_size == 7
    teaching = known.teaching
    assert (teaching.lr, teaching.decay, teaching.entropy) == (0.03, 0.5, 0.25)
