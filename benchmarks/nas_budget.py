"""A search of architectures in this process, until a budget of multiply-accumulates is spent.

The cost is counted where PyTorch computes: every convolution and linear map, forwards and backwards, in trials, in
steps of a supernet, and in evaluations on validation images. It is therefore one measure for all systems, the same on
every machine. The computation of controllers and predictors is left out, and so is the evaluation on test images,
which no system sees.
"""

import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self
from unittest.mock import patch

import numpy as np
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional

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

Feedback = Literal["results", "noise"]
RECIPE = Recipe()
"""The recipe with which the choice of each system is trained once more, from scratch."""
MEGA = 1e6
ATTEMPTS = 10
MOST_TRAININGS = 5_000
"""A search that shrinks its networks to almost nothing, as evolution by noise can, would take hours for its budget."""


class Counted:
    """A context that counts the multiply-accumulates of the layers of all networks that are computed inside it.

    It counts where ``torch.nn`` calls a convolution or a linear map, and where autograd comes back to one. To observe
    all operations with a ``TorchDispatchMode`` counts the same (a test compares them), but takes a quarter of a search.

    Attributes:
        total: those of convolutions and linear maps, forwards and backwards; elementwise operations are not counted.
    """

    def __init__(self) -> None:
        self.total = 0
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        for name in ("conv2d", "linear"):
            function = self._counting(getattr(functional, name))
            self._patches.enter_context(patch.object(functional, name, function))
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def _counting(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counting(value: Tensor, weight: Tensor, *others: Any, **named: Any) -> Tensor:
            result = function(value, weight, *others, **named)
            cost = result.numel() * weight[0].numel()
            self.total += cost
            if result.grad_fn is not None:
                node = _product(result.grad_fn)
                factors = slice(1, 3) if node.name() == "AddmmBackward0" else slice(0, 2)  # without the bias

                def backward(gradients: tuple[Tensor | None, ...], _: object) -> None:
                    self.total += cost * sum(gradient is not None for gradient in gradients[factors])

                node.register_hook(backward)
            return result

        return counting


def _product(node: Node) -> Node:
    """The node of the product itself, below the views with which PyTorch makes its operands matrices."""
    while node.name() not in ("ConvolutionBackward0", "AddmmBackward0", "MmBackward0"):
        below = node.next_functions[0][0]
        assert below is not None, "no product that needs a gradient"
        node = below
    return node


@dataclass(frozen=True)
class Trained:
    """A network that a search trained.

    Attributes:
        cost: multiply-accumulates of the search so far, in millions.
        seen: the objective as a loss, by which a network is chosen; lower is better.
        test: the accuracy on test images, or the perplexity of a network that reads text.
        topology: the network.
    """

    cost: float
    seen: float
    test: float
    topology: Topology


def search(experiment: Experiment, budget: float, *, seed: int, feedback: Feedback = "results") -> Iterator[Trained]:
    """Yield the networks that a search trains until its budget is spent, at most ``MOST_TRAININGS``.

    A search that ends earlier starts again with another seed, at most ``ATTEMPTS`` times in all.

    Args:
        budget: in millions of multiply-accumulates; a training that exceeds it does not count.
        feedback: what the system receives for its trials: their results, or noise in their place.
    """
    return islice(_searches(experiment, budget, seed, feedback), MOST_TRAININGS)


def _searches(experiment: Experiment, budget: float, seed: int, feedback: Feedback) -> Iterator[Trained]:
    counted = Counted()
    for attempt in range(ATTEMPTS):
        if counted.total < budget * MEGA:
            yield from _one_search(seeded(experiment, seed + 1_000 * attempt), counted, budget * MEGA, feedback)


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with another seed, for both the algorithm and the training."""
    algorithm = experiment.algorithm.model_copy(update={"seed": seed})
    trial = experiment.trial.model_copy(update={"arguments": {**experiment.trial.arguments, "seed": seed}})
    return experiment.model_copy(update={"algorithm": algorithm, "trial": trial})


def _one_search(experiment: Experiment, counted: Counted, budget: float, feedback: Feedback) -> Iterator[Trained]:
    noise = np.random.default_rng((experiment.algorithm.seed, 1))
    known = History()  # as the system sees it
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
            known = known.replaced([replace(trial, observations=random) if feedback == "noise" else trial])


def _trial(
    experiment: Experiment, suggestion: Suggestion, directory: Path, counted: Counted, budget: float
) -> tuple[Trial, float | None]:
    """Run one trial; return it with its test accuracy, or None if it is a segment or has no finite result."""
    parent = None if suggestion.parent is None else directory / f"t{suggestion.parent}"
    files = TrialDirectory(directory / f"t{suggestion.index}", parent)
    files.create(experiment, suggestion)
    arguments = called_with(experiment, suggestion)
    flops_for_latency = bool(arguments.pop("latency", False))
    series: dict[str, list[float]] = defaultdict(list)
    try:
        prepare_model(experiment, suggestion, files)
        with _trial_file(files), counted:
            for metrics in train_trial(**arguments):
                for name, value in metrics.items():
                    if isinstance(value, int | float):
                        series[name].append(float(value))
                if counted.total >= budget:
                    break
    except KatibFlowError as error:
        return Trial(suggestion, State.FAILED, {}, message=str(error)), None
    if user.should_stop():  # SIGTERM: the training was cut short
        raise SystemExit("stopped")
    observed = {
        name: reduce(values, experiment.metrics.strategy.get(name, "latest")) for name, values in series.items()
    }
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
    """Accuracy on the test images of digits, or perplexity on the test text if the network reads text."""
    if network.topology.input.tokens is None:
        return evaluate(network, load_data("digits").test)[1]
    return perplexity(text_loss(network, load_text("python-topics").test))


def trained_again(topology: Topology, seed: int, recipe: Recipe = RECIPE) -> tuple[float, float]:
    """Train a network from scratch; return its test accuracy, and the cost in millions of multiply-accumulates."""
    network, counted = build(topology, seed=seed), Counted()
    with counted:
        list(train(network, load_data("digits"), recipe, seed=seed))
    return tested(network), counted.total / MEGA
