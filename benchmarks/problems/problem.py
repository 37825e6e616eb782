"""The search-quality problem, and the registry of problems.

A problem is a search space in the language of specs, a function from an assignment to a loss, and the level of the
noise that is added for the optimizer. Lower is better. Problems come in two halves: algorithms are developed on
``tuning`` and judged on ``heldout``.
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
        parameters: the search space, as in a spec.
        exact: assignment -> loss, deterministic.
        noise: standard deviation of the noise that is added at each evaluation, or a function from the loss to it.
        best: the lowest loss, if it is known.
        tabulated: whether ``loss`` answers from a table of exact evaluations, because ``exact`` is slow.
        version: increased when the function changes, so that older recorded results are not used.
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
        """A whole spec with the parameters of this problem, and the given sections."""
        return {
            "name": self.name,
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": dict(self.parameters),
            "limits": {"max_trials": 64},
            "trial": {"function": "problems:never_called"},
        } | sections

    @cached_property
    def space(self) -> SearchSpace:
        """The search space of the parameters."""
        return search_space(Experiment.parse(self.spec()))

    @cached_property
    def loss(self) -> Loss:
        """The noiseless loss as a function that answers quickly, from a table or a cache."""
        if not self.tabulated:
            return cache_of(self)
        from problems.tables import Table

        return Table.load(self).loss

    def noisy(self, loss: float, seed: int, index: int) -> float:
        """The loss with noise, as an optimizer sees it at one evaluation (``index``) of one run (``seed``)."""
        if not self.noise:
            return loss
        stream = int.from_bytes(self.name.encode(), "big") % 2**32
        return loss + self.deviation(loss) * float(np.random.default_rng((stream, seed, index)).standard_normal())

    def deviation(self, loss: float) -> float:
        """Standard deviation of the noise at a loss."""
        return self.noise(loss) if callable(self.noise) else self.noise

    @cached_property
    def digest(self) -> str:
        """A digest of the problem; it changes whenever recorded results are no longer valid."""
        noise = self.noise.__name__ if callable(self.noise) else self.noise
        text = json.dumps([dict(self.parameters), noise, self.version, self.tabulated], sort_keys=True)
        return hashlib.sha1(text.encode()).hexdigest()[:8]

    @property
    def scale(self) -> tuple[float, float]:
        """(median loss of random search after 64 evaluations, best known loss)."""
        entry = constants()[self.name]
        return entry["random"], entry["best"]

    def score(self, loss: float) -> float:
        """The score of a loss: 1 for the best known loss, 0 for the median of random search, and never below -1."""
        random, best = self.scale
        return max((random - loss) / (random - best), -1.0)


@cache
def constants() -> dict[str, dict[str, float]]:
    """The constants of the scores, by problem; ``tabulate`` writes them."""
    return json.loads(CONSTANTS.read_text()) if CONSTANTS.exists() else {}


def cache_of(problem: Problem) -> Loss:
    """The exact loss, computed once per assignment and process."""
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
    """Register a function as the exact loss of a problem; ``options`` are further fields of ``Problem``."""

    def register(exact: Loss) -> Loss:
        assert name not in PROBLEMS, name
        PROBLEMS[name] = Problem(name, half, parameters, exact, **options)
        return exact

    return register


# Parameters on one line each, so that a space reads as a table.


def real(low: float, high: float, scale: str = "linear", **more: Any) -> dict[str, Any]:
    """A float parameter."""
    return {"type": "float", "min": low, "max": high, "scale": scale, **more}


def whole(low: int, high: int, scale: str = "linear", **more: Any) -> dict[str, Any]:
    """An int parameter."""
    return {"type": "int", "min": low, "max": high, "scale": scale, **more}


def choice(*values: Any, **more: Any) -> dict[str, Any]:
    """A categorical parameter."""
    return {"type": "categorical", "values": list(values), **more}


def ordered(*values: Any, **more: Any) -> dict[str, Any]:
    """An ordinal parameter."""
    return {"type": "ordinal", "values": list(values), **more}
