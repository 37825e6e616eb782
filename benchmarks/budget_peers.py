"""The peers with budgets on learning curves: Optuna's TPE with Hyperband, Syne Tune's ASHA and BOHB, and DEHB.

A peer decides after each unit of training whether the trial goes on; all run with their default settings. Inactive
parameters are handled as in ``flat``. The library of a peer is imported only when the peer is used.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any, Protocol

import numpy as np
from curves import Curves
from flat import Axis, assignment_of, axes, configuration_space
from peer import Assignment
from peers import drawn


class BudgetPeer(Protocol):
    """An optimizer that watches learning curves."""

    def __init__(self, curves: Curves, seed: int) -> None: ...

    def start(self) -> tuple[Any, Assignment]:
        """A new trial, and its assignment."""
        ...

    def goes_on(self, trial: Any, units: int, loss: float) -> bool:
        """Whether a trial is trained for another unit, given its loss after ``units`` units."""
        ...


class Hyperband:
    """Optuna's TPE with its Hyperband pruner."""

    def __init__(self, curves: Curves, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=curves.units, reduction_factor=3)
        self.units, self.pruned = curves.units, optuna.trial.TrialState.PRUNED
        self.space, sampler = curves.space, optuna.samplers.TPESampler(seed=seed)
        name = f"{curves.name} {seed}"  # decides, with a trial's number, its bracket; a random one by default
        self.study = optuna.create_study(study_name=name, sampler=sampler, pruner=pruner)

    def start(self) -> tuple[Any, Assignment]:
        trial = self.study.ask()
        return trial, drawn(self.space, trial)

    def goes_on(self, trial: Any, units: int, loss: float) -> bool:
        trial.report(loss, units)
        if units == self.units:
            self.study.tell(trial, loss)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=self.pruned)
            return False
        return True


class SyneTune:
    """Syne Tune's ASHA, which stops trials; a trial is never paused."""

    scheduler = "ASHA"

    def __init__(self, curves: Curves, seed: int) -> None:
        from syne_tune.optimizer import baselines

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(seed)  # Syne Tune draws brackets from it
        self.space, self.numbers = curves.space, count()
        domains = {name: self._domain(axis) for name, axis in axes(self.space).items()}
        self.asha = getattr(baselines, self.scheduler)(
            domains, metric="loss", time_attr="units", max_t=curves.units, random_seed=seed
        )

    def _domain(self, axis: Axis) -> Any:
        from syne_tune import config_space

        if axis.kind == "category":
            return config_space.choice(list(range(int(axis.high) + 1)))
        if axis.kind == "whole":
            whole = config_space.lograndint if axis.log else config_space.randint
            return whole(int(axis.low), int(axis.high))
        return (config_space.loguniform if axis.log else config_space.uniform)(axis.low, axis.high)

    def start(self) -> tuple[Any, Assignment]:
        from syne_tune.backend.trial_status import Trial

        trial = Trial(next(self.numbers), self.asha.suggest().config, datetime.now())
        self.asha.on_trial_add(trial)
        return trial, assignment_of(self.space, trial.config)

    def goes_on(self, trial: Any, units: int, loss: float) -> bool:
        return self.asha.on_trial_result(trial, {"loss": loss, "units": units}) == "CONTINUE"


class SyneTuneBOHB(SyneTune):
    """Syne Tune's BOHB: its ASHA with a density model."""

    scheduler = "BOHB"


class Dehb:
    """DEHB, which trains a configuration anew for each budget."""

    def __init__(self, curves: Curves, seed: int) -> None:
        from dehb import DEHB

        self.space, self.folder = curves.space, tempfile.TemporaryDirectory()
        space = configuration_space(curves.space)
        space.seed(seed)
        self.dehb = DEHB(
            cs=space, min_fidelity=1, max_fidelity=curves.units, eta=3, seed=seed, n_workers=1,
            output_path=self.folder.name, save_freq="end", log_level="ERROR",
        )  # fmt: skip

    def start(self) -> tuple[Any, Assignment]:
        job = self.dehb.ask()
        return job, assignment_of(self.space, dict(job["config"]))

    def goes_on(self, trial: Any, units: int, loss: float) -> bool:
        if units < round(trial["fidelity"]):
            return True
        self.dehb.tell(trial, {"fitness": loss, "cost": units})
        return False


BUDGET_PEERS: dict[str, type[BudgetPeer]] = {
    "optuna:tpe-hyperband": Hyperband,
    "syne-tune:asha": SyneTune,
    "syne-tune:bohb": SyneTuneBOHB,
    "dehb": Dehb,
}


def trained(curves: Curves, peer: BudgetPeer, workers: int) -> Iterator[float]:
    """Yield the loss after each unit of training, in the order in which simulated workers complete the units.

    Every unit takes the same time; a worker whose trial ends starts another one.
    """
    running = [(0, *peer.start()) for _ in range(workers)]
    while True:
        for worker, (before, trial, assignment) in enumerate(running):
            units = before + 1
            loss = curves.loss(assignment, units)
            yield loss
            running[worker] = (units, trial, assignment) if peer.goes_on(trial, units, loss) else (0, *peer.start())
