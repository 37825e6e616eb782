"""What a search-quality problem is, and the registry of them.

A problem is a search space in katib-flow's spec language, a function from an assignment to a loss, and the level of
the noise that an optimizer sees on top of it. Lower is better. Problems come in two halves: algorithms are developed
on ``tuning`` and judged on ``heldout``.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from katib_flow.spaces import search_space
from katib_flow.spec import Experiment, SearchSpace

Half = Literal["tuning", "heldout"]
Loss = Callable[[Mapping[str, Any]], float]

FOLDER = Path(__file__).resolve().parent.parent
CONSTANTS = FOLDER / "tables" / "constants.json"


@dataclass(frozen=True)
class Problem:
    """One search problem.

    Attributes:
        parameters: the search space as a spec writes it.
        exact: assignment -> loss, deterministic.
        noise: standard deviation of what is added to the loss at each evaluation, or a function of the loss that
            gives it.
        best: the least loss, where it is known.
        tabulated: whether ``loss`` answers from a table of exact evaluations, because ``exact`` is slow.
        version: raised when the function changes, so that recorded results are not mixed up.
    """

    name: str
    half: Half
    parameters: Mapping[str, Any]
    exact: Loss
    noise: float | Callable[[float], float] = 0.0
    best: float | None = None
    tabulated: bool = False
    version: int = 1

    def spec(self, **sections: Any) -> dict[str, Any]:
        """A whole spec with this problem's parameters, and the sections given."""
        return {
            "name": self.name,
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": dict(self.parameters),
            "limits": {"max_trials": 64},
            "trial": {"function": "problems:never_called"},
        } | sections

    @cached_property
    def space(self) -> SearchSpace:
        return search_space(Experiment.parse(self.spec()))

    @cached_property
    def loss(self) -> Loss:
        """The noiseless loss, at once."""
        if not self.tabulated:
            return cache_of(self)
        from problems.tables import Table

        return Table.load(self).loss

    def noisy(self, loss: float, seed: int, index: int) -> float:
        """What an optimizer sees of a loss at one evaluation of one run."""
        if not self.noise:
            return loss
        stream = int.from_bytes(self.name.encode(), "big") % 2**32
        return loss + self.deviation(loss) * float(np.random.default_rng((stream, seed, index)).standard_normal())

    def deviation(self, loss: float) -> float:
        """Standard deviation of the noise where the loss is so high."""
        return self.noise(loss) if callable(self.noise) else self.noise

    @cached_property
    def digest(self) -> str:
        """Changes whenever recorded results no longer hold."""
        noise = self.noise.__name__ if callable(self.noise) else self.noise
        text = json.dumps([dict(self.parameters), noise, self.version, self.tabulated], sort_keys=True)
        return hashlib.sha1(text.encode()).hexdigest()[:8]

    @property
    def scale(self) -> tuple[float, float]:
        """(median of random search after 64 evaluations, best known)."""
        entry = constants()[self.name]
        return entry["random"], entry["best"]

    def score(self, loss: float) -> float:
        """1 at the best known loss, 0 at the median of random search; not below -1."""
        random, best = self.scale
        return max((random - loss) / (random - best), -1.0)


@cache
def constants() -> dict[str, dict[str, float]]:
    return json.loads(CONSTANTS.read_text()) if CONSTANTS.exists() else {}


def cache_of(problem: Problem) -> Loss:
    """The exact loss, each assignment computed once a process."""
    known: dict[Any, float] = {}

    def loss(assignment: Mapping[str, Any]) -> float:
        key = problem.space.key(assignment)
        if key not in known:
            value = float(problem.exact(assignment))
            assert math.isfinite(value), (problem.name, assignment)
            known[key] = value
        return known[key]

    return loss


PROBLEMS: dict[str, Problem] = {}


def problem(name: str, half: Half, parameters: Mapping[str, Any], **options: Any) -> Callable[[Loss], Loss]:
    """Register a function as a problem."""

    def register(exact: Loss) -> Loss:
        assert name not in PROBLEMS, name
        PROBLEMS[name] = Problem(name, half, parameters, exact, **options)
        return exact

    return register


# Parameters in a line, so that a space reads as a table.


def real(low: float, high: float, scale: str = "linear", **more: Any) -> dict[str, Any]:
    return {"type": "float", "min": low, "max": high, "scale": scale, **more}


def whole(low: int, high: int, scale: str = "linear", **more: Any) -> dict[str, Any]:
    return {"type": "int", "min": low, "max": high, "scale": scale, **more}


def choice(*values: Any, **more: Any) -> dict[str, Any]:
    return {"type": "categorical", "values": list(values), **more}


def ordered(*values: Any, **more: Any) -> dict[str, Any]:
    return {"type": "ordinal", "values": list(values), **more}
