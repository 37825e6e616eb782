"""A landscape over networks that systems grow from a chain, and searches on it: no training, and a search is quick."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kit import spec

from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.spec import Experiment

QUICK: dict[str, dict[str, Any]] = {
    "nasbot": {"initial": 4, "candidates": 16, "mutants": 8},
    "network-morphism": {"lowest_temperature": 0.5, "neighbours": 4},
}
"""Settings with which a suggestion takes a tenth of a second."""


def search(name: str, seed: int = 0, **settings: Any) -> Experiment:
    algorithm = {"name": name, "seed": seed, "settings": {**QUICK[name], **settings}}
    objective = {"metric": "loss", "direction": "minimize"}
    limits = {"max_trials": 5000}
    return Experiment.parse(
        spec(objective=objective, parameters={}, architecture="chain", algorithm=algorithm, limits=limits)
    )


def network(suggestion: Suggestion) -> Topology:
    return Topology.parse(suggestion.topology)


def loss(topology: Topology) -> float:
    """Least for about 8,000 weights on few edges."""
    return abs(math.log(topology.parameters) - 9) + 0.1 * len(topology.flat.live.edges)


def ended(suggestion: Suggestion, value: float | None) -> Trial:
    if value is None:
        return Trial(suggestion, State.FAILED)
    return Trial(suggestion, State.SUCCEEDED, {"loss": value})


def play(made: Experiment, most: int, batch: int = 2, of: Any = loss, history: History | None = None) -> History:
    """Search until there are so many trials."""
    history = history or History()
    while len(history) < most and (fresh := suggest(made, history, min(batch, most - len(history)))):
        history = history.replaced(ended(each, of(network(each))) for each in fresh)
    return history


@lru_cache
def played(name: str, most: int = 10) -> History:
    """A search that was played, once for all tests."""
    return play(search(name), most)


def plain(suggestions: list[Suggestion]) -> list[Any]:
    """What is suggested, whatever it was derived from."""
    return [replace(suggestion, basis=None).to_dict() for suggestion in suggestions]
