"""A search of architectures in this process, until a budget of multiply-accumulates is spent.

The cost is counted where PyTorch computes: every convolution and matrix product, forwards and backwards, of a trial, of
a step of a supernet, of an evaluation on validation images. So it is one measure for all systems, the same on every
machine. What is left out: the controllers and predictors that suggest, and the evaluation on test images, which no
system sees.
"""

import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Kind, Learnt, State, Suggestion, Trial
from katib_flow.loop import answer
from katib_flow.metrics.strategy import reduce
from katib_flow.models.build import build, load_network
from katib_flow.models.topology import Topology
from katib_flow.nas import train as train_trial
from katib_flow.spec import Experiment
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, evaluate, train
from katib_flow.training.sequence import perplexity, text_loss
from katib_flow.training.text import load_text
from katib_flow.trial import user
from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory, called_with
from katib_flow.trial.runner import prepare_model

Told = Literal["results", "noise"]
RECIPE = Recipe()
"""By which the choice of each system is trained again, from scratch."""
MEGA = 1e6
ATTEMPTS = 10
aten = torch.ops.aten


class Counted(TorchDispatchMode):
    """Counts the multiply-accumulates of all that is computed while it is entered.

    Attributes:
        total: of convolutions and products of matrices; what works number by number is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := _COUNTS.get(func.overloadpacket):
            self.total += count(args, result)
        return result


def _convolution(args: Any, result: Any) -> int:
    return result.numel() * args[1][0].numel()


def _convolution_backward(args: Any, result: Any) -> int:
    gradient, weight, wanted = args[0], args[2], args[-1]
    return gradient.numel() * weight[0].numel() * sum(wanted[:2])


_COUNTS: dict[Any, Callable[[Any, Any], int]] = {
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten.mm: lambda args, result: result.numel() * args[0].shape[-1],
    aten.bmm: lambda args, result: result.numel() * args[0].shape[-1],
    aten.addmm: lambda args, result: result.numel() * args[1].shape[-1],
}


@dataclass(frozen=True)
class Trained:
    """A network that a search trained.

    Attributes:
        cost: multiply-accumulates of the search until then, in millions.
        seen: its objective as a loss, by which a network is chosen; lower is better.
        test: its accuracy on test images; of a network that reads text its perplexity.
        topology: the network.
    """

    cost: float
    seen: float
    test: float
    topology: Topology


def search(experiment: Experiment, budget: float, *, seed: int, told: Told = "results") -> Iterator[Trained]:
    """The networks that a search trains until its budget is spent; one that ends before begins again by another seed.

    It begins ``ATTEMPTS`` times at most.

    Args:
        budget: in millions of multiply-accumulates; a training that it does not cover does not count.
        told: what the system is told of its trials: their results, or noise in their place.
    """
    counted = Counted()
    for attempt in range(ATTEMPTS):
        if counted.total < budget * MEGA:
            yield from _one_search(seeded(experiment, seed + 1_000 * attempt), counted, budget * MEGA, told)


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The same by another seed, of the algorithm and of the training."""
    algorithm = experiment.algorithm.model_copy(update={"seed": seed})
    trial = experiment.trial.model_copy(update={"arguments": {**experiment.trial.arguments, "seed": seed}})
    return experiment.model_copy(update={"algorithm": algorithm, "trial": trial})


def _one_search(experiment: Experiment, counted: Counted, budget: float, told: Told) -> Iterator[Trained]:
    noise = np.random.default_rng((experiment.algorithm.seed, 1))
    known = History()  # what the system is told
    kept: tuple[Learnt, ...] = ()
    with tempfile.TemporaryDirectory() as directory:
        while True:
            answered = answer(experiment, known, 1, kept=kept)
            kept = (answered.learnt,) if answered.learnt else kept
            if not answered.suggestions:
                return
            (suggestion,) = answered.suggestions
            trial, test = _trial(experiment, suggestion, Path(directory), counted, budget)
            if counted.total >= budget:
                return
            if test is not None:
                objective = experiment.objective[0]
                seen = objective.loss(trial.observations[objective.metric])
                assert suggestion.topology is not None
                yield Trained(counted.total / MEGA, seen, test, Topology.parse(suggestion.topology))
            random = {name: float(noise.random()) for name in trial.observations}
            known = known.replaced([replace(trial, observations=random) if told == "noise" else trial])


def _trial(
    experiment: Experiment, suggestion: Suggestion, directory: Path, counted: Counted, budget: float
) -> tuple[Trial, float | None]:
    """A trial, and what its network comes to in test: None of a segment, and of one that failed or gave no number."""
    parent = None if suggestion.parent is None else directory / f"t{suggestion.parent}"
    files = TrialDirectory(directory / f"t{suggestion.index}", parent)
    files.create(experiment, suggestion)
    arguments = called_with(experiment, suggestion)
    flops_for_latency = bool(arguments.pop("latency", False))
    told: dict[str, list[float]] = defaultdict(list)
    try:
        prepare_model(experiment, suggestion, files)
        with _trial_file(files), counted:
            for metrics in train_trial(**arguments):
                for name, value in metrics.items():
                    if isinstance(value, int | float):
                        told[name].append(float(value))
                if counted.total >= budget:
                    break
    except KatibFlowError as error:
        return Trial(suggestion, State.FAILED, {}, message=str(error)), None
    if user.should_stop():  # SIGTERM: the training was cut short
        raise SystemExit("stopped")
    observed = {name: reduce(values, experiment.metrics.strategy.get(name, "latest")) for name, values in told.items()}
    if flops_for_latency:
        assert suggestion.topology is not None
        observed["latency"] = Topology.parse(suggestion.topology).flops / MEGA
    trial = Trial(suggestion, State.SUCCEEDED, observed)
    sound = math.isfinite(observed.get(experiment.objective[0].metric, math.nan))
    if counted.total >= budget or not sound or suggestion.origin.kind is Kind.SEGMENT:
        return trial, None
    return trial, tested(load_network(files.model))


@contextmanager
def _trial_file(files: TrialDirectory) -> Generator[None]:
    os.environ[TRIAL_FILE] = str(files.trial_file)
    try:
        yield
    finally:
        del os.environ[TRIAL_FILE]


def tested(network: Any) -> float:
    """Accuracy on the test images of digits; of a network that reads text its perplexity on the test text."""
    if network.topology.input.tokens is None:
        return evaluate(network, load_data("digits").test)[1]
    return perplexity(text_loss(network, load_text("python-topics").test))


def trained_again(topology: Topology, seed: int, recipe: Recipe = RECIPE) -> tuple[float, float]:
    """What a network of images comes to in test, trained from scratch, and its cost in millions."""
    network, counted = build(topology, seed=seed), Counted()
    with counted:
        list(train(network, load_data("digits"), recipe, seed=seed))
    return tested(network), counted.total / MEGA
