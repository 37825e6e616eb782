"""Two sets of values, and those that are given before either."""

from typing import Any, ClassVar

import pytest

from katib_flow.algorithms import find_algorithm
from katib_flow.nas.settings import SystemSettings

SUPERNET = {
    "segment_epochs": None, "lr_end": 0.001, "momentum": 0.9, "clip": 5.0, "retrain": 6,
    "max_parameters": None, "max_flops": None,
}  # fmt: skip
CONTROLLER = {
    "batch": 5, "lr": 0.01, "units": 100, "layers": 1, "baseline_decay": 0.95, "entropy": 1e-5, "clip": 0.2,
    "updates": 4,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "adanet": {
        "rounds": 8, "complexity": 0.003, "penalty": 0.0, "epochs": 5, "batch": 32, "lr": 0.05, "momentum": 0.9,
        "weight_decay": 0.01,
    },
    "amoebanet": {"population": 20, "sample": 10},
    "blockqnn": {
        "batch": 4, "schedule": ((1.0, 8), (0.8, 2), (0.6, 2), (0.4, 3), (0.2, 4), (0.1, 6)), "rate": 0.3,
        "replay": 64, "shaping": "even", "scale": 100.0, "flops": 1.0, "density": 8.0,
    },
    "darts": {
        **SUPERNET, "epochs": 24, "batch": 32, "lr": 0.1, "weight_decay": 0.0003, "order": 2, "inputs": 2,
        "alpha_lr": 0.02, "alpha_weight_decay": 0.001,
    },
    "eas": {
        "batch": 4, "lr": 0.01, "units": 50, "baseline_decay": 0.95, "entropy": 1e-5, "wider": 1, "deeper": 1,
        "stage": 8, "channels": (4, 8, 12, 16, 24, 32, 48, 64), "features": (16, 32, 64, 128), "kernels": (1, 3, 5),
        "most": 1.0, "max_parameters": 50_000,
    },
    "enas": {
        **SUPERNET, "epochs": 40, "warm_up": None, "batch": 32, "lr": 0.05, "weight_decay": 0.0005, "updates": 1,
        "children": 8, "reward_batch": 64, "candidates": 100, "weighted": 0.7, "controller_lr": 0.02, "units": 64,
        "entropy": 0.01, "skip_rate": 0.4, "skip_weight": 0.8,
    },
    "envelopenet": {"iterations": 5, "max_prune": 3, "max_cells": 6},
    "hierarchical": {"population": 20, "mutations": 1000, "tournament": 0.05},
    "large-scale-evolution": {"population": 12, "max_parameters": 50_000},
    "mnasnet": {**CONTROLLER, "target": None, "below": -0.07, "above": -0.07},
    "nao": {
        "initial": 40, "batch": 10, "seeds": 10, "step": 1.0, "embedding": 32, "hidden": 96, "training_steps": 150,
        "lr": 0.005, "balance": 0.9, "dropout": 0.1,
    },
    "nas-rl": {
        "batch": 4, "lr": 0.02, "units": 35, "layers": 2, "baseline_decay": 0.9, "entropy": 0.0, "reward": "rank",
        "power": 3.0,
    },
    "nasbot": {
        "initial": 6, "structure": (0.2, 0.8), "candidates": 60, "mutants": 20, "memory": 128,
        "max_parameters": 50_000,
    },
    "nash": {"children": 4, "morphisms": 3, "steps": 5, "max_parameters": 50_000},
    "nasnet": CONTROLLER,
    "network-morphism": {
        "confidence": 2.5, "skip_weight": 0.1, "neighbours": 8, "lowest_temperature": 0.2, "memory": 128,
        "max_parameters": 50_000,
    },
    "proxylessnas": {
        **SUPERNET, "epochs": 40, "warm_up": None, "batch": 16, "lr": 0.2, "weight_decay": 0.0003, "every": 1,
        "gradient": "gates", "samples": 8, "alpha_lr": 0.1, "latency_weight": 0.1, "latency": "measured",
    },
    "renas": {
        "batch": 4, "lr": 0.01, "units": 50, "baseline_decay": 0.9, "entropy": 0.1, "population": 20, "sample": 10,
        "route": "network",
    },
    "smash": {
        **SUPERNET, "epochs": 150, "batch": 16, "lr": 0.2, "weight_decay": 0.0001, "growth": 10, "depth": 4,
        "candidates": 100, "perturbations": 40, "perturbed": 0.05,
    },
    "snas": {
        **SUPERNET, "epochs": 40, "batch": 32, "lr": 0.1, "weight_decay": 0.0003, "temperature": 1.0,
        "temperature_end": 0.03, "distribution_lr": 0.02, "distribution_weight_decay": 0.001, "cost": 0.0,
    },
}  # fmt: skip
"""What suits two cores."""
OF_PAPERS: dict[str, dict[str, Any]] = {
    "adanet": {"rounds": 30, "complexity": 1e-6, "epochs": 100, "batch": 100, "weight_decay": 0.0},
    "amoebanet": {"population": 100, "sample": 25},
    "blockqnn": {
        "batch": 64, "rate": 0.01, "replay": 128,
        "schedule": (
            (1.0, 95), (0.9, 7), (0.8, 7), (0.7, 7), (0.6, 10), (0.5, 10), (0.4, 10), (0.3, 10), (0.2, 10), (0.1, 12),
        ),
    },
    "darts": {"epochs": 50, "batch": 64, "lr": 0.025, "alpha_lr": 0.0003, "retrain": 1},
    "eas": {
        "batch": 10, "lr": 0.002, "wider": 4, "deeper": 5, "stage": 300, "max_parameters": 2**25,
        "channels": (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512),
        "features": (64, 128, 256, 384, 512, 640, 768, 896, 1024),
    },
    "enas": {
        "epochs": 310, "batch": 128, "weight_decay": 0.0001, "warm_up": 0, "updates": 2000, "children": 1,
        "reward_batch": 128, "candidates": 10, "weighted": 0.0, "controller_lr": 0.00035, "units": 100,
        "entropy": 0.0001, "retrain": 1,
    },
    "envelopenet": {},
    "hierarchical": {"population": 200},
    "large-scale-evolution": {"population": 1000, "max_parameters": 2**25},
    "mnasnet": {"batch": 20, "lr": 0.00035},
    "nao": {"initial": 600, "batch": 200, "seeds": 200, "training_steps": 1000, "lr": 0.001, "step": 10.0},
    "nas-rl": {"batch": 8, "lr": 0.0006, "reward": "accuracy"},
    "nasbot": {
        "initial": 10, "structure": (0.1, 0.2, 0.4, 0.8), "candidates": 500, "mutants": 50, "memory": 10_000,
        "max_parameters": 2**25,
    },
    "nash": {"children": 8, "morphisms": 5, "max_parameters": 2**25},
    "nasnet": {"batch": 20, "lr": 0.00035},
    "network-morphism": {"lowest_temperature": 0.0001, "memory": 10_000, "max_parameters": 2**25},
    "proxylessnas": {
        "epochs": 160, "warm_up": 40, "batch": 256, "lr": 0.025, "lr_end": 0.0, "weight_decay": 4e-5,
        "alpha_lr": 0.001, "every": 5, "samples": 10, "retrain": 1,
    },
    "renas": {"route": "node"},
    "smash": {
        "epochs": 100, "batch": 50, "lr": 0.1, "lr_end": 0.0, "candidates": 500, "perturbations": 100, "depth": 22,
        "retrain": 1,
    },
    "snas": {"epochs": 150, "batch": 64, "lr": 0.025, "distribution_lr": 0.0003, "retrain": 1},
}  # fmt: skip
"""What the papers say in place of that, and where they are silent their authors' code."""


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


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_system_has_the_values_that_suit_two_cores_and_its_papers_where_these_are_asked_for(name: str) -> None:
    system = find_algorithm(name)
    assert system is not None
    assert system.settings().model_dump() == {"preset": "small", **DEFAULTS[name]}
    of_paper = system.settings.model_validate({"preset": "paper"}).model_dump()
    assert of_paper == {"preset": "paper", **DEFAULTS[name], **OF_PAPERS[name]}
