"""The benchmarks of systems that search architectures: the table of NB-digits, and each system's own space on digits.

A search is a list of trainings, in order. Its *feedback* is either the results of these trainings or noise in their
place. With noise, a system makes the same kinds of proposals and edits, inherits the same weights and trains in the
same way, but has nothing to learn from. This is random search with the bias of the system; what the system gains over
it is its worth.
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

Feedback = Literal["results", "noise"]
"""What a system receives for its trials: their results, or noise in their place."""
EXAMPLES = Path(__file__).parents[1] / "examples"
FULL = 3_000  # images per training of the table: ten epochs of 300
PATIENCE = 20  # suggestions per training; a search that exceeds them finds no new networks, and is ended


@dataclass(frozen=True)
class Training:
    """One training of a search.

    Attributes:
        seen: the objective of the system as a loss, by which a network is chosen at the end; lower is better.
        true: the measure of the world for this network, which the search does not see; lower is better.
        cost: the cost of the training, in trainings of a network of the table.
    """

    seen: float
    true: float
    cost: float = 1.0


@dataclass(frozen=True)
class World:
    """A group of systems, and the way in which they are measured.

    Attributes:
        measure: the meaning of ``Training.true``, for the heading of a table.
        systems: the experiment of each system.
        search: ``search(experiment, feedback)`` yields the trainings of a search.
        trainings: the number of trainings per search.
    """

    name: str
    measure: str
    systems: Mapping[str, Experiment]
    search: Callable[[Experiment, Feedback], Iterator[Training]]
    trainings: int

    def digest(self, system: str) -> str:
        """Digest of the experiment and the number of trainings; recorded results count only if theirs is the same."""
        return sha256(json.dumps([self.systems[system].to_dict(), self.trainings]).encode()).hexdigest()[:8]


def worlds() -> Mapping[str, World]:
    """All worlds, by name."""
    definitions = (
        World("table", "regret in mean validation loss", {name: _on_table(name) for name in ON_TABLE}, on_table, 100),
        World("digits", "test loss", {name: _on_digits(name, 32) for name in ON_DIGITS}, on_digits, 32),
        World(
            "reward",
            "1 - accuracy x (FLOPs / T)^w on test images",
            {"mnasnet": _on_digits("mnasnet", 50)},
            on_digits,
            50,
        ),
    )
    return {world.name: world for world in definitions}


def search_trials(
    experiment: Experiment, evaluate: Callable[[Suggestion, History], Mapping[str, float]], feedback: Feedback
) -> Iterator[Trial]:
    """Yield the trials of a search, one at a time, with their real results even if its feedback is noise."""
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
            known = known.replaced([replace(trial, observations=random) if feedback == "noise" else trial])
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
    """The table of NB-digits, loaded once per process."""
    return Table.load()


def on_table(experiment: Experiment, feedback: Feedback) -> Iterator[Training]:
    """Look the networks of a search up; only new ones count, since to look one up again costs nothing."""
    known: set[int] = set()

    def evaluate(suggestion: Suggestion, history: History) -> Mapping[str, float]:
        return {"loss": table().query(suggestion.assignment)}

    for suggestions, trial in enumerate(search_trials(experiment, evaluate, feedback), 1):
        network = table().position(trial.assignment)
        if network not in known:
            known.add(network)
            yield Training(trial.observations["loss"], table().regret(network))
        if suggestions > PATIENCE * len(known):
            return


def random_networks(seed: int, trainings: int) -> list[Training]:
    """Random search that draws networks of the table uniformly, none twice.

    Uniformly drawn cells, in contrast, often stand for the same few networks that do little.
    """
    drawn = np.random.default_rng(seed).permutation(len(table().hashes))[:trainings]
    return [Training(float(table().valid_loss[number, 0]), table().regret(int(number))) for number in drawn]


def rules() -> list[tuple[str, float]]:
    """Regrets of the networks that need no search: those with one operation on every edge."""
    return [(rule, table().regret(number)) for rule, number in Bounded(table(), None).simple()]


# each system's own space

ON_DIGITS = ("eas", "nash", "large-scale-evolution", "network-morphism", "nasbot")


def _on_digits(system: str, trials: int) -> Experiment:
    """The example of a system, limited to a number of trials."""
    path = next(path for path in (EXAMPLES / f"{system}.yaml", EXAMPLES / f"nas-{system}.yaml") if path.exists())
    data = load(path).to_dict()
    return Experiment.parse({**data, "limits": {"max_trials": trials}})


def on_digits(experiment: Experiment, feedback: Feedback) -> Iterator[Training]:
    """Train networks on the images of digits in this process, with the settings of the system's example.

    The true measure of a network is its loss on test images. If the second objective is a latency, it is replaced by
    FLOPs, which are the same on every machine, and the true measure is one minus the reward.
    """
    import torch

    from benchmarks.nas_training import Lineage

    torch.set_num_threads(1)
    lineage = Lineage(experiment)
    for trial in search_trials(experiment, lineage.train, feedback):
        yield lineage.training(trial)
