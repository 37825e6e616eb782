"""The boxes of Table 1 (Zhou et al., OpML 2019): the experiment of each system, its control, and when to use it.

Each system has the settings of its example, with three exceptions. Latencies are FLOPs, which are the same on every
machine. Supernets are trained for fewer epochs, so that about half of the budget is left for the derived networks. The
envelope network has 12 channels, because with the 24 of the example its first network would take the whole budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from katib_flow.algorithms.registry import Scope, Strategy
from katib_flow.loop import load
from katib_flow.models.topology import Topology
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment

EXAMPLES = Path(__file__).parents[1] / "examples"
BUDGET = 20_000.0
"""The budget of a search in millions of multiply-accumulates: two to three trainings of the plain network."""
RULE = "all conv3"
"""The network of the rule, which searches nothing: a convolution on every edge of the cell that others search."""


@dataclass(frozen=True)
class Box:
    """A system in one of the boxes.

    Attributes:
        experiment: the example of the system, without its limits.
        control: the control: the system with noise in place of results, or random search in its space.
        when: when to use the system, for the table.
        budget: the budget of a search, in millions of multiply-accumulates.
    """

    strategy: Strategy
    scope: Scope
    experiment: Experiment
    control: Literal["noise", "random"]
    when: str
    budget: float = BUDGET

    def random(self) -> Experiment:
        """Random search in the same space, with the same trainings from scratch."""
        return Experiment.parse({**self.experiment.to_dict(), "algorithm": {"name": "random"}})


def example(name: str, **sections: Any) -> Experiment:
    """An example without its limits, with some sections replaced."""
    return Experiment.parse(
        {**load(EXAMPLES / f"{name}.yaml").to_dict(), **sections, "limits": {"max_trials": 100_000}}
    )


def settings_of(name: str, **more: Any) -> dict[str, Any]:
    """The algorithm section of an example, with additional settings."""
    algorithm = load(EXAMPLES / f"{name}.yaml").algorithm
    return {"name": algorithm.name, "settings": {**algorithm.settings, **more}}


MACRO = {"space": "macro", "settings": {"layers": 4, "operations": ["conv3", "sep3", "avg3", "max3"]}}
"""As in examples/enas-macro.yaml; the first box of nas-rl is whole networks, and its example searches a cell."""

ENVELOPE = {"space": "envelope", "settings": {"channels": 12, "stages": 2, "skips": True}}
SHORT_TEXT = {"arguments": {"epochs": 2, "train_size": 25_000}}

_GENERATED_NETWORKS: Mapping[str, tuple[Experiment, str]] = {
    "nas-rl": (
        example("nas-rl", architecture=MACRO),
        "the simplest controller: any space with slots, and hundreds of short trainings to learn from",
    ),
    "enas": (
        example("enas-macro", algorithm=settings_of("enas-macro", epochs=34)),
        "whole networks of similar layers, if a supernet fits in memory and trainings are expensive",
    ),
    "mnasnet": (
        example("nas-mnasnet"),
        "accuracy against latency measured on the device, with trainings from scratch",
    ),
    "nasbot": (
        example("nas-nasbot"),
        "tens of expensive trainings, of networks that differ in size and shape rather than in slots",
    ),
    "smash": (
        example("nas-smash", algorithm=settings_of("nas-smash", epochs=5)),
        "a first look at very many architectures of one kind, at the cost of one training",
    ),
}
_GENERATED_CELLS: Mapping[str, tuple[Experiment, str]] = {
    "nas-rl, cell": (
        example("nas-rl"),
        "a small cell, or a recurrent one for text; the baseline of a controller",
    ),
    "enas, cell": (
        example("enas-micro", algorithm=settings_of("enas-micro", epochs=12)),
        "cells whose inputs are searched too, with one training for all of them",
    ),
    "nasnet": (
        example("nas-nasnet"),
        "normal and reduction cells to be stacked deeper later, with hundreds of trainings",
    ),
    "blockqnn": (
        example("nas-blockqnn"),
        "blocks of varying depth, with a schedule from exploration to exploitation that you set yourself",
    ),
    "hierarchical": (
        example("nas-hierarchical"),
        "motifs within motifs, with many machines and thousands of trainings",
    ),
}
_MODIFIED_NETWORKS: Mapping[str, tuple[Experiment, str]] = {
    "network-morphism": (
        example("nas-network-morphism"),
        "growing an existing network with few, short trainings: children continue from its weights",
    ),
    "proxylessnas": (
        example("nas-proxylessnas", algorithm=settings_of("nas-proxylessnas", latency="flops", epochs=18)),
        "a chain of mobile blocks for one device, with only two paths of the supernet in memory per step",
    ),
    "large-scale-evolution": (
        example("nas-large-scale-evolution"),
        "no starting network, no idea of its shape, and a great many trainings in parallel",
    ),
    "nash": (
        example("nash"),
        "a good network from an existing one as soon as possible: hill climbing, a handful of short trainings",
    ),
    "eas": (
        example("nas-eas"),
        "growing a network by a learned policy, if there are enough trainings to learn from",
    ),
}
_MODIFIED_CELLS: Mapping[str, tuple[Experiment, str]] = {
    "amoebanet": (
        example("nas-amoebanet"),
        "the default for hundreds of trainings on many machines: it never waits for other trials, and has few settings",
    ),
    "snas": (
        example("snas", algorithm=settings_of("snas", epochs=9)),
        "a supernet with FLOPs as part of its loss, whose weights are used without another training",
    ),
    "darts": (
        example("darts", algorithm=settings_of("darts", epochs=6)),
        "a cell with fixed wiring, if the supernet fits in memory, at the cost of about ten trainings",
    ),
    "envelopenet": (
        example("nas-envelopenet", architecture=ENVELOPE),
        "growing by feature statistics if validation accuracy cannot be trusted, with a few trainings in all",
    ),
    "nao": (
        example("nas-nao"),
        "a hundred trainings in rounds, each near the best networks so far, guided by a predictor",
    ),
    "adanet": (
        example("nas-adanet"),
        "an ensemble of plain subnetworks, as large as the data requires, with a bound on its error",
    ),
    "renas": (
        example("nas-renas"),
        "evolution of cells with inherited weights, if each decision counts by itself",
    ),
}
SUPERNETS = ("enas", "enas, cell", "smash", "proxylessnas", "snas", "darts")
GROUPS: Mapping[tuple[Strategy, Scope], Mapping[str, tuple[Experiment, str]]] = {
    ("generation", "network"): _GENERATED_NETWORKS,
    ("generation", "cell"): _GENERATED_CELLS,
    ("modification", "network"): _MODIFIED_NETWORKS,
    ("modification", "cell"): _MODIFIED_CELLS,
}
BOXES: Mapping[str, Box] = {
    name: Box(strategy, scope, experiment, "random" if name in SUPERNETS else "noise", when)
    for (strategy, scope), systems in GROUPS.items()
    for name, (experiment, when) in systems.items()
}
"""The 22 boxes of 20 systems, all on images."""
TEXT = "nas-rl, recurrent cell"
TEXTS = Box(
    "generation", "cell", example("nas-rl-cell", trial=SHORT_TEXT), "noise", "recurrent cells for text", 5 * BUDGET
)
"""The recurrent cells of nas-rl, which read text and are measured in perplexity. They cost more, so the budget is
larger, and the text is a quarter of the example's."""


def rule_network() -> Topology:
    """The network of ``RULE``."""
    space = architectures(example("nas-amoebanet"))
    assert space is not None
    return space.topology(dict.fromkeys(space.slots, "conv3"))
