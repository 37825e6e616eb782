"""The simulated workers that train the trials of peers with budgets."""

from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LENGTHS = (3, 1, 2, 9, 9)


class ByLength:
    """A peer that gives up each trial after a fixed number of units."""

    def __init__(self) -> None:
        self.numbers = count()

    def start(self) -> tuple[int, dict[str, int]]:
        number = next(self.numbers)
        return number, {"number": number}

    def goes_on(self, trial: int, units: int, loss: float) -> bool:
        assert loss == trial + units / 10
        return units < LENGTHS[trial]


def test_two_workers_train_their_trials_in_turn_and_start_another_when_one_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from budget_peers import trained

    curves: Any = SimpleNamespace(loss=lambda assignment, units: assignment["number"] + units / 10)
    losses = list(islice(trained(curves, ByLength(), workers=2), 8))
    assert losses == [0.1, 1.1, 0.2, 2.1, 0.3, 2.2, 3.1, 4.1]
