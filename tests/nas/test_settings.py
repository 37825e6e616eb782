"""Two sets of values, and those that are given before either."""

from typing import Any, ClassVar

import pytest

from katib_flow.algorithms import find_algorithm
from katib_flow.nas.settings import SystemSettings

OF_PAPERS: dict[str, dict[str, Any]] = {
    "amoebanet": {"population": 100, "sample": 25},
    "darts": {"epochs": 50, "batch": 64, "lr": 0.025, "lr_end": 0.001, "alpha_lr": 3e-4, "alpha_weight_decay": 1e-3},
    "enas": {"weight_decay": 1e-4, "updates": 2000, "children": 1, "candidates": 10, "controller_lr": 3.5e-4},
    "envelopenet": {"iterations": 5},
    "hierarchical": {"population": 200, "tournament": 0.05, "mutations": 1000},
    "large-scale-evolution": {"population": 1000},
    "mnasnet": {"batch": 20, "lr": 3.5e-4, "below": -0.07, "above": -0.07},
    "nas-rl": {"batch": 8, "lr": 6e-4, "units": 35, "layers": 2, "power": 3.0},
    "nasbot": {"initial": 10, "structure": (0.1, 0.2, 0.4, 0.8)},
    "nash": {"children": 8, "morphisms": 5, "steps": 5},
    "nasnet": {"batch": 20, "lr": 3.5e-4, "units": 100, "entropy": 1e-5, "baseline_decay": 0.95},
    "network-morphism": {"confidence": 2.5, "lowest_temperature": 1e-4},
    "proxylessnas": {
        "epochs": 160,
        "warm_up": 40,
        "batch": 256,
        "lr": 0.025,
        "alpha_lr": 1e-3,
        "every": 5,
        "samples": 10,
    },
    "smash": {"epochs": 100, "batch": 50, "candidates": 500, "perturbations": 100, "perturbed": 0.05, "growth": 10},
    "snas": {"epochs": 150, "lr": 0.025, "distribution_lr": 3e-4, "temperature": 1.0, "temperature_end": 0.03},
}
"""What the papers say, and where they are silent their authors' code."""


class Example(SystemSettings):
    paper: ClassVar = {"population": 100}
    population: int = 20
    sample: int = 5


def test_the_papers_values_stand_in_the_place_of_the_defaults():
    assert Example().population == 20
    assert Example.model_validate({"preset": "small"}).population == 20
    of_paper = Example.model_validate({"preset": "paper"})
    assert (of_paper.population, of_paper.sample) == (100, 5)


def test_what_is_given_goes_before_the_papers_value():
    assert Example.model_validate({"preset": "paper", "population": 7}).population == 7


def test_what_a_preset_gives_is_checked_as_if_it_were_given():
    made = Example.model_validate({"preset": "paper"})
    assert Example.model_validate(made.model_dump()) == made


@pytest.mark.parametrize("name", OF_PAPERS)
def test_with_the_papers_preset_a_system_has_the_papers_values(name: str) -> None:
    found = find_algorithm(name)
    assert found is not None
    values = found.settings.model_validate({"preset": "paper"}).model_dump()
    assert {key: values[key] for key in OF_PAPERS[name]} == OF_PAPERS[name]
