"""Where systems that search architectures are measured: the table of NB-digits, and spaces of their own on digits.

A search is a list of trainings, in order. A system is *told* what its trainings came to, or noise in its place: the
same proposals, edits, inherited weights and training, and nothing to learn from. That is chance with the same lean, for
whatever system; what a system is worth is what it gains over it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.nas_table import ARCHITECTURE, Bounded, Table
from katib_flow.history import History, Learnt, State, Suggestion, Trial
from katib_flow.loop import answer, load
from katib_flow.spec import Experiment

Told = Literal["results", "noise"]
EXAMPLES = Path(__file__).parents[1] / "examples"
FULL = 3_000  # images of a training in the table: ten epochs of 300
PATIENCE = 20  # suggestions a training, before a search that finds no new network has ended


@dataclass(frozen=True)
class Training:
    """One training of a search.

    Attributes:
        seen: its loss as the system's objective has it, by which a network is chosen at the end; lower is better.
        true: what is measured of its network: see each world; lower is better.
        cost: in trainings of a network of the table.
    """

    seen: float
    true: float
    cost: float = 1.0


@dataclass(frozen=True)
class World:
    """Some systems, and how they are measured.

    Attributes:
        measure: what ``Training.true`` is, for the heading of a table.
        systems: what each searches, as a spec.
        search: the trainings of a search; ``search(experiment, told)``.
        trainings: how many a search has.
    """

    name: str
    measure: str
    systems: Mapping[str, Experiment]
    search: Callable[[Experiment, Told], Iterator[Training]]
    trainings: int

    def digest(self, system: str) -> str:
        """Of what is searched and for how long: results of another digest are of other settings."""
        return sha256(json.dumps([self.systems[system].to_dict(), self.trainings]).encode()).hexdigest()[:8]


def worlds() -> Mapping[str, World]:
    """All of them by name."""
    every = (
        World("table", "regret in mean validation loss", {name: _on_table(name) for name in ON_TABLE}, on_table, 100),
        World("digits", "test loss", {name: _on_digits(name, 32) for name in ON_DIGITS}, on_digits, 32),
        World("reward", "1 - accuracy x (FLOPs / T)^w in test", {"mnasnet": _on_digits("mnasnet", 50)}, on_digits, 50),
    )
    return {world.name: world for world in every}


def going_on(
    experiment: Experiment, evaluate: Callable[[Suggestion, History], Mapping[str, float]], told: Told
) -> Iterator[Trial]:
    """The trials of a search that suggests one at a time; those that are told noise keep what they came to."""
    noise = np.random.default_rng((experiment.algorithm.seed, 1))
    history, known = History(), History()
    kept: tuple[Learnt, ...] = ()
    while True:
        answered = answer(experiment, known, 1, kept=kept)
        kept = (answered.learnt,) if answered.learnt else kept
        if not answered.suggestions:
            return
        for suggestion in answered.suggestions:
            trial = Trial(suggestion, State.SUCCEEDED, dict(evaluate(suggestion, history)))
            history = history.replaced([trial])
            random = {name: float(noise.random()) for name in trial.observations}
            known = known.replaced([replace(trial, observations=random) if told == "noise" else trial])
            yield trial


# the table

ON_TABLE = ("amoebanet", "blockqnn", "hierarchical", "nao", "nas-rl", "nasnet", "renas", "gp", "tpe")


def _on_table(system: str) -> Experiment:
    return Experiment.parse(
        {
            "name": "nas-search",
            "objective": {"metric": "loss", "direction": "minimize"},
            "architecture": ARCHITECTURE,
            "algorithm": {"name": system},
            "limits": {"max_trials": 10_000},
        }
    )


@lru_cache(maxsize=1)
def table() -> Table:
    return Table.load()


def on_table(experiment: Experiment, told: Told) -> Iterator[Training]:
    """Networks that were not asked about before; one that was costs nothing, and gives the same answer."""
    known: set[int] = set()

    def evaluate(suggestion: Suggestion, history: History) -> Mapping[str, float]:
        return {"loss": table().query(suggestion.assignment)}

    for suggestions, trial in enumerate(going_on(experiment, evaluate, told), 1):
        network = table().position(trial.assignment)
        if network not in known:
            known.add(network)
            yield Training(trial.observations["loss"], table().regret(network))
        if suggestions > PATIENCE * len(known):
            return


def random_networks(seed: int, trainings: int) -> list[Training]:
    """Random search that draws networks of the table evenly, none twice: cells that do little stand for few."""
    drawn = np.random.default_rng(seed).permutation(len(table().hashes))[:trainings]
    return [Training(float(table().valid_loss[number, 0]), table().regret(int(number))) for number in drawn]


def rules() -> list[tuple[str, float]]:
    """The regrets of networks of the table that need no search: one operation everywhere."""
    return [(rule, table().regret(number)) for rule, number in Bounded(table(), None).simple()]


# spaces of their own

ON_DIGITS = ("eas", "nash", "large-scale-evolution", "network-morphism", "nasbot")


def _on_digits(system: str, trials: int) -> Experiment:
    """The system's example, for so many trials."""
    path = next(path for path in (EXAMPLES / f"{system}.yaml", EXAMPLES / f"nas-{system}.yaml") if path.exists())
    data = load(path).to_dict()
    ends = {"max_trials": trials}
    return Experiment.parse({**data, "limits": ends})


def on_digits(experiment: Experiment, told: Told) -> Iterator[Training]:
    """Networks trained on the images of digits as the system's example has it, in this process.

    What is true of a network is its loss on test images; where the second objective is a latency, FLOPs stand for it,
    which are the same on every machine, and what is true is one less the reward.
    """
    import torch

    from benchmarks.nas_training import Lineage

    torch.set_num_threads(1)
    lineage = Lineage(experiment)
    for trial in going_on(experiment, lineage.train, told):
        yield lineage.training(trial)
