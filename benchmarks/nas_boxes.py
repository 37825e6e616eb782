"""The boxes of Table 1 (Zhou et al., OpML 2019): what each searches, its control, and when it is worth using.

Each searches as its example has it, but for this. Latencies are FLOPs, which are the same on every machine. The
supernets are trained for fewer epochs, so that about half of the budget is left for the networks that they come to.
The envelope network has 12 channels for 24, whose first network would take the whole budget.
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
"""Of a search, in millions of multiply-accumulates: two to three trainings of the plain network."""
RULE = "all conv3"
"""The network of the rule that searches nothing: a convolution on every edge of the cell that others search."""


@dataclass(frozen=True)
class Box:
    """A system in one of the boxes.

    Attributes:
        experiment: what it searches: its example, without an end.
        control: what it is compared with: itself told noise, or random search in its space.
        when: to use it.
        budget: in millions of multiply-accumulates.
    """

    strategy: Strategy
    scope: Scope
    experiment: Experiment
    control: Literal["noise", "random"]
    when: str
    budget: float = BUDGET

    def random(self) -> Experiment:
        """Random search in the same space, by the same trainings from scratch."""
        return Experiment.parse({**self.experiment.to_dict(), "algorithm": {"name": "random"}})


def example(name: str, **sections: Any) -> Experiment:
    """An example without its limits, some sections replaced."""
    return Experiment.parse(
        {**load(EXAMPLES / f"{name}.yaml").to_dict(), **sections, "limits": {"max_trials": 100_000}}
    )


def settings_of(name: str, **more: Any) -> dict[str, Any]:
    """The algorithm of an example, with some settings more."""
    algorithm = load(EXAMPLES / f"{name}.yaml").algorithm
    return {"name": algorithm.name, "settings": {**algorithm.settings, **more}}


MACRO = {"space": "macro", "settings": {"layers": 4, "operations": ["conv3", "sep3", "avg3", "max3"]}}
"""As in examples/enas-macro.yaml: the example of nas-rl searches a cell, and its first box is whole networks."""

ENVELOPE = {"space": "envelope", "settings": {"channels": 12, "stages": 2, "skips": True}}
SHORT_TEXT = {"arguments": {"epochs": 2, "train_size": 25_000}}

_GENERATED_NETWORKS: Mapping[str, tuple[Experiment, str]] = {
    "nas-rl": (
        example("nas-rl", architecture=MACRO),
        "the plainest controller: any space with slots and hundreds of short trainings to learn from",
    ),
    "enas": (
        example("enas-macro", algorithm=settings_of("enas-macro", epochs=34)),
        "whole networks of like layers, where a supernet fits in memory and trainings are dear",
    ),
    "mnasnet": (
        example("nas-mnasnet"),
        "accuracy against latency that is measured on the device, with trainings from scratch",
    ),
    "nasbot": (
        example("nas-nasbot"),
        "tens of trainings, each dear, of networks that differ in size and shape rather than in slots",
    ),
    "smash": (
        example("nas-smash", algorithm=settings_of("nas-smash", epochs=5)),
        "a first look at very many architectures of one kind for the price of one training",
    ),
}
_GENERATED_CELLS: Mapping[str, tuple[Experiment, str]] = {
    "nas-rl, cell": (
        example("nas-rl"),
        "a small cell, or a recurrent one for text; the baseline of a controller",
    ),
    "enas, cell": (
        example("enas-micro", algorithm=settings_of("enas-micro", epochs=12)),
        "cells whose inputs are chosen too, with one training for all of them",
    ),
    "nasnet": (
        example("nas-nasnet"),
        "normal and reduction cells that are to be stacked deeper later, with hundreds of trainings",
    ),
    "blockqnn": (
        example("nas-blockqnn"),
        "blocks of varying depth, and a schedule from exploring to exploiting that you set yourself",
    ),
    "hierarchical": (
        example("nas-hierarchical"),
        "motifs that repeat within motifs, many machines, thousands of trainings",
    ),
}
_MODIFIED_NETWORKS: Mapping[str, tuple[Experiment, str]] = {
    "network-morphism": (
        example("nas-network-morphism"),
        "growing a network that you have, with few and short trainings: children go on from its weights",
    ),
    "proxylessnas": (
        example("nas-proxylessnas", algorithm=settings_of("nas-proxylessnas", latency="flops", epochs=18)),
        "a chain of mobile blocks for one device, by a supernet of which a step needs two paths in memory",
    ),
    "large-scale-evolution": (
        example("nas-large-scale-evolution"),
        "nothing to start from, no idea of the network, and a great many trainings side by side",
    ),
    "nash": (
        example("nash"),
        "the quickest good network from one that you have: hill climbing, a handful of short trainings",
    ),
    "eas": (
        example("nas-eas"),
        "growing a network by a policy that learns how, where there are enough trainings to learn from",
    ),
}
_MODIFIED_CELLS: Mapping[str, tuple[Experiment, str]] = {
    "amoebanet": (
        example("nas-amoebanet"),
        "the plain choice for hundreds of trainings on many machines: it waits for nobody, and has next to no settings",
    ),
    "snas": (
        example("snas", algorithm=settings_of("snas", epochs=9)),
        "a supernet whose price in FLOPs is part of the loss, and whose weights are to be used without a new training",
    ),
    "darts": (
        example("darts", algorithm=settings_of("darts", epochs=6)),
        "a cell with a fixed wiring, one supernet that fits in memory, and the least cost until there is a network",
    ),
    "envelopenet": (
        example("nas-envelopenet", architecture=ENVELOPE),
        "growing by feature statistics where validation accuracy is not to be trusted; a few trainings in all",
    ),
    "nao": (
        example("nas-nao"),
        "a hundred trainings, of which each lot is to be near the best so far as a predictor sees it",
    ),
    "adanet": (
        example("nas-adanet"),
        "an ensemble of plain subnetworks, as large as the data asks for, with a bound of its error",
    ),
    "renas": (
        example("nas-renas"),
        "evolution of cells with inherited weights, where each decision counts by itself",
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
"""The recurrent cells of nas-rl, which read text: a row of their own, measured in perplexity. They cost more: the
budget is larger, and the text a quarter of the example's."""


def rule_network() -> Topology:
    """The network of ``RULE``."""
    space = architectures(example("nas-amoebanet"))
    assert space is not None
    return space.topology(dict.fromkeys(space.slots, "conv3"))
