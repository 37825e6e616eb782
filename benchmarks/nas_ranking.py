"""A claim of SMASH at a small scale, on digits: scores with written weights rank networks as training does.

Called by ``benchmarks.nas_claims``. There are two controls: weights written by an untrained hypernetwork, and weights
that the trained one writes for the code of another network, which is the control of the paper.
"""

import copy
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from katib_flow.models.build import build
from katib_flow.models.presets import space_of
from katib_flow.models.topology import Topology
from katib_flow.nas.relax import shared
from katib_flow.nas.relax.choice import Bounds, Choice, chosen
from katib_flow.nas.relax.hypernetwork import Hypernetwork
from katib_flow.nas.systems import smash
from katib_flow.spec.sections import Architecture
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, train

NETWORKS = 40
SPACE = {"channels": 4, "layers": 3, "operations": ["conv3", "conv1", "max3", "avg3"]}
"""Settings of the space ``banks``, with operations that differ enough for training to tell networks apart."""
RECIPE = Recipe(epochs=10, lr=0.1)  # for a network from scratch
Floats = NDArray[np.float64]


def ranking(seeds: int) -> None:
    """Print the rank correlation with the mean validation loss of two trainings, for scores and both controls."""
    supernet = space_of(Architecture(space="banks", settings=SPACE)).supernet()
    draws = smash.children(supernet.flat, np.random.default_rng(0))
    networks = Bounds(supernet).first(draws, NETWORKS)
    turns = np.array(
        [[trained(supernet, child, 2 * at + turn) for at, child in enumerate(networks)] for turn in (0, 1)]
    )
    losses = turns.mean(axis=0)
    print(
        f"ranking: {NETWORKS} networks, losses of {losses.min():.2f} to {losses.max():.2f} after training; the rank "
        f"correlation of two trainings is {spearmanr(*turns).statistic:.2f}",
        flush=True,
    )
    scores = np.array([scored(supernet, networks, seed) for seed in range(seeds)])  # shape (seed, way, network)
    rng = np.random.default_rng(0)
    samples = [rng.integers(NETWORKS, size=NETWORKS) for _ in range(2_000)]
    drawn = np.array([correlations(scores[:, :, sample], losses[sample]) for sample in samples])
    ours = correlations(scores, losses)
    for way, name in enumerate(("written weights", "untrained hypernetwork", "code of another network")):
        low, high = np.quantile(drawn[:, way], (0.025, 0.975))
        least, most = np.quantile(drawn[:, 0] - drawn[:, way], (0.025, 0.975))
        difference = f", lower by {ours[0] - ours[way]:.2f} ({least:.2f} to {most:.2f})" if way else ""
        print(
            f"ranking: {name}: Spearman {ours[way]:.2f} ({low:.2f} to {high:.2f}){difference}, mean score "
            f"{scores[:, way].mean():.2f}; {seeds} seeds"
        )


def trained(supernet: Topology, child: Choice, seed: int) -> float:
    """Validation loss of a child after training from scratch."""
    network, loss = build(chosen(supernet, child), seed=seed), 0.0
    for epoch in train(network, load_data("digits"), RECIPE, seed=seed):
        loss = epoch.valid_loss
    return loss


def scored(supernet: Topology, networks: list[Choice], seed: int) -> list[list[float]]:
    """Scores of networks, shape (way, network): with written, untrained and other networks' weights."""
    settings = smash.SmashSettings()
    provider = partial(Hypernetwork, growth=settings.growth, depth=settings.depth)
    network = build(supernet, seed=seed, affine=False, provider=provider)
    hypernetwork = network.provider
    assert isinstance(hypernetwork, Hypernetwork)
    untrained = copy.deepcopy(hypernetwork.state_dict())
    search = smash.Smashing(network, load_data("digits"), settings, seed=seed)
    while search.epoch < settings.epochs:
        search.train_epoch()
    own = [search.score(child) for child in networks]
    write, others = hypernetwork.chosen, np.random.default_rng(seed).permutation(len(networks))
    of_others: list[float] = []
    for child, other in zip(networks, others, strict=True):
        code = shared.one_hot(network, networks[other])
        hypernetwork.chosen = lambda weights, code=code: write(code)  # type: ignore[method-assign]
        of_others.append(search.score(child))
    del hypernetwork.chosen
    hypernetwork.load_state_dict(untrained)
    return [own, [search.score(child) for child in networks], of_others]


def correlations(scores: Floats, losses: Floats) -> Floats:
    """Rank correlation of each way to score with the losses, mean over searches, shape (way,)."""
    return np.array([[float(spearmanr(way, losses).statistic) for way in search] for search in scores]).mean(axis=0)
