"""Peers with spaces of their own kind: SMAC3, scikit-optimize and HEBO.

A peer without conditional parameters searches the flat space, in which an inactive parameter has a value that is never
read. Parameters that a peer does not know are translated: an ordinal, or a number with a step, becomes a position, and
a logit scale becomes a linear scale of the logit.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from peer import Assignment, Peer
from problems import Problem

from katib_flow.spec import SearchSpace
from katib_flow.spec.parameters import CategoricalParameter, OrdinalParameter


@dataclass(frozen=True)
class Axis:
    """How a peer sees a parameter: a real or whole number between bounds, or one of ``high + 1`` categories."""

    kind: Literal["real", "whole", "category"]
    low: float
    high: float
    log: bool
    parameter: Any

    @classmethod
    def of(cls, parameter: Any) -> "Axis":
        """The axis of a parameter of katib-flow."""
        if isinstance(parameter, CategoricalParameter):
            return cls("category", 0, parameter.size - 1, False, parameter)
        if isinstance(parameter, OrdinalParameter) or (parameter.step and not cls._plain(parameter)):
            return cls("whole", 0, parameter.size - 1, False, parameter)
        if parameter.type == "int":
            return cls("whole", parameter.min, parameter.max, parameter.scale == "log", parameter)
        if parameter.scale == "logit":
            return cls("real", _logit(parameter.min), _logit(parameter.max), False, parameter)
        return cls("real", parameter.min, parameter.max, parameter.scale == "log", parameter)

    @staticmethod
    def _plain(parameter: Any) -> bool:
        return parameter.type == "int" and parameter.step == 1

    def value(self, raw: Any) -> Any:
        """The value of the parameter for a value on this axis."""
        parameter = self.parameter
        if self.kind == "real":
            x = float(raw) if parameter.scale != "logit" else 1 / (1 + math.exp(-float(raw)))
            return min(max(x, parameter.min), parameter.max)
        if parameter.type in ("categorical", "ordinal") or not self._plain(parameter):
            return parameter.nth(int(raw))
        return int(raw)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


@cache
def axes(space: SearchSpace) -> dict[str, Axis]:
    """The axes of a space, by parameter."""
    return {name: Axis.of(parameter) for name, parameter in space.parameters.items()}


def assignment_of(space: SearchSpace, raw: Assignment) -> Assignment:
    """The assignment for the values of a peer, without inactive parameters."""
    assignment: dict[str, Any] = {}
    for name, axis in axes(space).items():
        if space.is_active(name, assignment):
            assignment[name] = axis.value(raw[name])
    return assignment


class Smac(Peer):
    """SMAC3's facade for hyperparameter optimization (random forest), with conditions."""

    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        warnings.simplefilter("ignore")
        self.space, self.folder = problem.space, tempfile.TemporaryDirectory()
        scenario = Scenario(
            configuration_space(problem.space),
            output_directory=Path(self.folder.name),
            deterministic=True,
            n_trials=evaluations,
            seed=seed,
        )
        self.facade = HyperparameterOptimizationFacade(scenario, overwrite=True, logging_level=False)
        self.out: list[Any] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self.out = [self.facade.ask() for _ in range(count)]
        return [assignment_of(self.space, dict(trial.config)) for trial in self.out]

    def tell(self, losses: Sequence[float]) -> None:
        from smac.runhistory import TrialValue

        for trial, loss in zip(self.out, losses, strict=True):
            self.facade.tell(trial, TrialValue(cost=loss), save=False)


def configuration_space(space: SearchSpace) -> Any:
    """The space as a ConfigSpace; categories, also those in conditions, are given by their positions."""
    import ConfigSpace as Cs

    configurations, hyperparameters = Cs.ConfigurationSpace(), {}
    for name, axis in axes(space).items():
        if axis.kind == "category":
            hyperparameters[name] = Cs.CategoricalHyperparameter(name, list(range(int(axis.high) + 1)))
        elif axis.kind == "whole":
            hyperparameters[name] = Cs.UniformIntegerHyperparameter(name, int(axis.low), int(axis.high), log=axis.log)
        else:
            hyperparameters[name] = Cs.UniformFloatHyperparameter(name, axis.low, axis.high, log=axis.log)
    configurations.add(*hyperparameters.values())
    for name, parameter in space.parameters.items():
        conditions = [
            Cs.InCondition(
                hyperparameters[name],
                hyperparameters[parent],
                [space.parameters[parent].position(value) for value in values],
            )
            for parent, values in parameter.when.items()
        ]
        if conditions:
            configurations.add(conditions[0] if len(conditions) == 1 else Cs.AndConjunction(*conditions))
    return configurations


class Skopt(Peer):
    """scikit-optimize's Gaussian process, on the flat space."""

    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None:
        from skopt import Optimizer
        from skopt.space import Categorical, Integer, Real

        warnings.simplefilter("ignore")
        self.space, self.out = problem.space, []
        dimensions: list[Any] = []
        for axis in axes(problem.space).values():
            prior = "log-uniform" if axis.log else "uniform"
            if axis.kind == "category":
                dimensions.append(Categorical(list(range(int(axis.high) + 1))))
            elif axis.kind == "whole":
                dimensions.append(Integer(int(axis.low), int(axis.high), prior=prior))
            else:
                dimensions.append(Real(axis.low, axis.high, prior=prior))
        self.optimizer = Optimizer(dimensions, "GP", random_state=seed)

    def ask(self, count: int) -> Sequence[Assignment]:
        self.out = [self.optimizer.ask()] if count == 1 else self.optimizer.ask(n_points=count)
        names = list(self.space.parameters)
        return [assignment_of(self.space, dict(zip(names, point, strict=True))) for point in self.out]

    def tell(self, losses: Sequence[float]) -> None:
        self.optimizer.tell(self.out, list(losses))


class Hebo(Peer):
    """HEBO on the flat space, in a process of its own, because it needs NumPy below 1.25.

    The environment variable KATIB_FLOW_HEBO_PYTHON is the path of a Python that has HEBO installed.
    """

    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None:
        self.space = problem.space
        python = os.environ.get("KATIB_FLOW_HEBO_PYTHON", sys.executable)
        program = Path(__file__).with_name("hebo_process.py")
        self.process = subprocess.Popen([python, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        described = [
            {"name": name, "kind": axis.kind, "low": axis.low, "high": axis.high, "log": axis.log}
            for name, axis in axes(problem.space).items()
        ]
        self._send({"space": described, "seed": seed})

    def ask(self, count: int) -> Sequence[Assignment]:
        return [assignment_of(self.space, raw) for raw in self._send({"ask": count})]

    def tell(self, losses: Sequence[float]) -> None:
        self._send({"tell": list(losses)})

    def __del__(self) -> None:
        self.process.communicate()  # the process ends with its input

    def _send(self, message: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        answer, self.elsewhere_seconds = json.loads(self.process.stdout.readline())
        return answer
