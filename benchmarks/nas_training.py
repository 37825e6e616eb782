"""The trainings of a search on the images of digits, in one process: networks, inherited weights and measures."""

from collections.abc import Mapping

import numpy as np

from benchmarks.nas_worlds import FULL, Training
from katib_flow.history import History, Suggestion, Trial
from katib_flow.models.build import build, set_weights, weights_of
from katib_flow.models.morphisms import inherited
from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights
from katib_flow.nas.systems.mnasnet import MnasNetSettings, rewards
from katib_flow.spec import Experiment
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, evaluate, train

MEGA = 1e6


class Lineage:
    """The networks of a search so far, with the weights that their children inherit."""

    def __init__(self, experiment: Experiment) -> None:
        arguments = dict(experiment.trial.arguments)
        self.experiment = experiment
        self.data = load_data(arguments.pop("data", "digits"), arguments.pop("train_size", None))
        self.statistics = bool(arguments.pop("statistics", False))
        self.latency = bool(arguments.pop("latency", False))
        self.recipe = arguments
        self.weights: dict[int, Weights] = {}
        self.tests: list[tuple[float, float]] = []  # (loss, accuracy) on test images
        self.costs: list[float] = []
        self.results: list[tuple[float, float]] = []  # (negative validation accuracy, FLOPs in millions)

    def train(self, suggestion: Suggestion, history: History) -> Mapping[str, float]:
        """Train the network of a suggestion, and return the metrics that its trial reports."""
        topology = Topology.parse(suggestion.topology)
        module = build(topology, seed=suggestion.index)
        if suggestion.parent is not None and topology.weights == "inherit":
            parent = Topology.parse(history[suggestion.parent].suggestion.topology)
            set_weights(module, inherited(parent, self.weights[suggestion.parent], topology))
        epochs = {"epochs": int(suggestion.budget)} if suggestion.budget else {}
        recipe = Recipe(**{**self.recipe, **epochs})
        *_, last = train(module, self.data, recipe, seed=suggestion.index, statistics=self.statistics)
        self.weights[suggestion.index] = weights_of(module)
        self.tests.append(evaluate(module, self.data.test))
        self.costs.append(recipe.epochs * len(self.data.train) / FULL)
        observed = {"accuracy": last.valid_accuracy, "loss": last.valid_loss}
        observed |= {f"variance/{edge}": float(variance.mean()) for edge, variance in last.statistics.items()}
        return observed | ({"latency": topology.flops / MEGA} if self.latency else {})

    def training(self, trial: Trial) -> Training:
        """The trial that was trained last, as a training of the benchmark."""
        loss, accuracy = self.tests[-1]
        if not self.latency:
            seen = self.experiment.objective[0]
            return Training(seen.loss(trial.observations[seen.metric]), loss, self.costs[-1])
        settings = MnasNetSettings.model_validate(self.experiment.algorithm.settings)
        flops = trial.observations["latency"]
        self.results.append((-trial.observations["accuracy"], flops))
        (valid,) = rewards(settings, np.array(self.results), [trial.index])
        (test,) = rewards(settings, np.array([*self.results[:-1], (-accuracy, flops)]), [trial.index])
        return Training(1 - valid, 1 - test, self.costs[-1])
