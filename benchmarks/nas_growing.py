"""network-morphism and nasbot against chance: the same network to start from, edits, training and budget.

    python -m benchmarks.nas_growing                       both, 10 seeds; 24 trainings a search on digits
    python -m benchmarks.nas_growing --systems nasbot --seeds 5 --trials 50

By chance, a network that was trained is drawn evenly and changed by as many of the same edits as a system makes; with
network-morphism the child inherits the weights too. A line a seed: the lowest validation loss of either, and the test
loss of the network that had it.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import wilcoxon

from katib_flow.algorithms.registry import Ask
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models.build import build, put_weights, weights_of
from katib_flow.models.morphisms import inherited
from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights
from katib_flow.nas.growth import Candidate, Grown
from katib_flow.nas.systems.nasbot import STEPS, mutant
from katib_flow.nas.systems.network_morphism import morphism
from katib_flow.spec import Experiment
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, evaluate, train

EPOCHS = {"network-morphism": 2, "nasbot": 5}
LIMIT = 20_000
DATA = load_data("digits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for system in args.systems:
        losses: list[tuple[float, float]] = []
        for seed in range(args.seeds):
            (ours, test), (chance, test_of_chance) = (
                searched(system, seed, args.trials, by_chance=by_chance) for by_chance in (False, True)
            )
            losses.append((ours, chance))
            print(
                f"{system}, seed {seed}: validation loss {ours:.4f}, by chance {chance:.4f}; "
                f"test loss {test:.4f}, by chance {test_of_chance:.4f}",
                flush=True,
            )
        ours, chance = np.array(losses).T
        p = wilcoxon(ours, chance).pvalue if len(ours) > 1 else 1.0
        better = f"better {int((ours < chance).sum())} of {len(ours)}, p {p:.2g}"
        print(f"{system}: mean {ours.mean():.4f}, by chance {chance.mean():.4f}; {better}")


def searched(system: str, seed: int, trials: int, *, by_chance: bool) -> tuple[float, float]:
    """The lowest validation loss of a search, and the test loss of its network."""
    experiment = Experiment.parse(
        {
            "name": "growing",
            "objective": {"metric": "loss", "direction": "minimize"},
            "architecture": {"space": "chain", "settings": {"layers": [8, 8]}},
            "algorithm": {"name": system, "seed": seed, "settings": {"max_parameters": LIMIT}},
            "limits": {"max_trials": trials},
        }
    )
    history, weights, tests = History(), list[Weights](), list[float]()
    while len(history) < trials:
        answer = suggest(experiment, history, 1)
        if by_chance and len(history) > 0:
            answer = [drawn(Ask(experiment, history, range(1), None), system)]
        for suggestion in answer:
            loss, test, learnt = trained(system, suggestion, history, weights)
            weights.append(learnt)
            tests.append(test)
            history = history.replaced([Trial(suggestion, State.SUCCEEDED, {"loss": loss})])
    best = min(history, key=lambda trial: trial.observations["loss"])
    return best.observations["loss"], tests[best.index]


def drawn(ask: Ask, system: str) -> Suggestion:
    """A child of any network so far, by the edits of a system."""
    index = ask.history.next_index
    rng, grown = np.random.default_rng((ask.seed, index, 1)), Grown.of(ask)

    def children() -> Iterator[Candidate | None]:
        while True:
            child = grown.evaluated[int(rng.integers(len(grown.evaluated)))]
            if system == "nasbot":
                yield mutant(child, LIMIT, rng)
                continue
            for _ in range(1 + int(rng.choice(len(STEPS), p=STEPS))):
                child = child.edited(morphism(child.topology, rng), LIMIT) or child
            yield child

    child = next(each for each in children() if grown.new([each]))
    assert child is not None
    return child.suggestion(ask, index, rng, fresh=system == "nasbot")


def trained(
    system: str, suggestion: Suggestion, history: History, weights: list[Weights]
) -> tuple[float, float, Weights]:
    """Validation and test loss after training, and the weights."""
    topology = Topology.parse(suggestion.topology)
    module = build(topology, seed=suggestion.index)
    if suggestion.parent is not None:
        parent = Topology.parse(history.trials[suggestion.parent].suggestion.topology)
        put_weights(module, inherited(parent, weights[suggestion.parent], topology))
    for _ in train(module, DATA, Recipe(epochs=EPOCHS[system]), seed=suggestion.index):
        pass
    return evaluate(module, DATA.valid)[0], evaluate(module, DATA.test)[0], weights_of(module)


if __name__ == "__main__":
    main()
