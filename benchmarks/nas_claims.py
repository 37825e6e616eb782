"""Test claims of papers about their systems at a small scale, each with a control, on scikit-learn's digits.

    python -m benchmarks.nas_claims                 all claims; half an hour on one core
    python -m benchmarks.nas_claims gap --seeds 10

- inherit: a child that inherits its parent's weights by morphisms reaches an accuracy in fewer epochs than the same
  network from scratch (Cai et al., 2018; Elsken et al., 2017; Jin et al., 2018). Each has the learning rate that suits
  it: .1 from scratch, and .02 with inherited weights, because .1 destroys within an epoch what was inherited.
- gap: the network that SNAS derives is as good with its shared weights as the supernet, and that of DARTS is much worse
  (Xie et al., 2019, whose table has 88.5 -> 90.7 % and 87.7 -> 54.7 %).
- ranking: scores with the weights that SMASH's hypernetwork writes rank networks as training does (Brock et al., 2018).
- latency: the more latency weighs in ProxylessNAS, the lower the latency of the result, and the front of all results is
  better than that of random networks (Cai et al., 2019).
- adapt: the easier the task, the smaller AdaNet's ensemble. Tasks are pairs of digits; in the control the labels are
  shuffled, which makes the hardest task (Cortes et al., 2017, section 6, have pairs of CIFAR-10's classes).
- kernel: NASBOT's distance informs its surrogate: on the table, the search does worse if the networks are renamed
  (Kandasamy et al., 2018, compare with other kinds of search).
- decoded: a network that NAO decodes is better than the one it started from, more often than by chance (Luo et al.,
  2018).
- motifs: a hierarchy of motifs helps random search already, and evolution a little more (Liu et al., 2018).
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.nas_decoded import decoded
from benchmarks.nas_hardware import latency
from benchmarks.nas_kernel import kernel
from benchmarks.nas_motifs import motifs
from benchmarks.nas_ranking import ranking
from benchmarks.nas_table import space
from katib_flow.models.build import Network, build, set_weights, weights_of
from katib_flow.models.morphisms import inherited, modify
from katib_flow.models.presets import space_of
from katib_flow.models.spaces.ensemble import Ensemble, ensemble_network
from katib_flow.models.topology import Topology
from katib_flow.nas.ensemble import train_last, weigh
from katib_flow.nas.morphing import morphism
from katib_flow.nas.relax.chain import normalised
from katib_flow.nas.systems import adanet, darts, snas
from katib_flow.spec.sections import Architecture
from katib_flow.training.data import Data, load_data, split
from katib_flow.training.loop import Recipe, evaluate, train

WANTED, MOST = 0.9, 20  # accuracy on validation images, and the most epochs to reach it
PARENT, FROM_SCRATCH, INHERITED = Recipe(epochs=20, lr=0.1), Recipe(epochs=MOST, lr=0.1), Recipe(epochs=MOST, lr=0.02)
EDITS = 3


def main() -> None:
    """Test the named claims, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", choices=[[], *CLAIMS], default=[])
    parser.add_argument("--seeds", type=int, help="by default 3 to 20, depending on the claim")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.claims or CLAIMS:
        claim, seeds = CLAIMS[name]
        claim(args.seeds or seeds)


def inherit(seeds: int) -> None:
    """Print the epochs to an accuracy that children need with inherited weights and from scratch."""
    pairs = np.array([epochs_of_child(seed) for seed in range(seeds)])
    ratios = pairs[:, 0] / pairs[:, 1]
    fewer = int((pairs[:, 0] < pairs[:, 1]).sum())
    print(
        f"inherit: to an accuracy of {WANTED:.0%}, the median child needs {np.median(pairs[:, 0]):g} epochs with "
        f"inherited weights and {np.median(pairs[:, 1]):g} from scratch; median ratio {np.median(ratios):.2f}, fewer "
        f"in {fewer} of {seeds}"
    )


def epochs_of_child(seed: int) -> tuple[int, int]:
    """Epochs to an accuracy of a child of a trained network: with inherited weights, and from scratch."""
    data = load_data("digits")
    chain = space_of(Architecture(space="chain", settings={"layers": [8, 8]}))
    module = build(chain.initial, seed=seed)
    for _ in train(module, data, PARENT, seed=seed):
        pass
    child = child_of(chain.initial, np.random.default_rng(seed))
    counts: list[int] = []
    weights = inherited(chain.initial, weights_of(module), child)
    for inherits, recipe in ((True, INHERITED), (False, FROM_SCRATCH)):
        network = build(child, seed=seed + 1)
        if inherits:
            set_weights(network, weights)
        accuracies = (epoch.valid_accuracy for epoch in train(network, data, recipe, seed=seed + 1))
        counts.append(next((number for number, reached in enumerate(accuracies, 1) if reached >= WANTED), MOST))
    return counts[0], counts[1]


def child_of(network: Topology, rng: np.random.Generator) -> Topology:
    """Apply ``EDITS`` or more random morphisms to a network."""
    child, edits = network, []
    while len(edits) < EDITS:
        drawn = morphism(child, rng)
        try:
            grown = modify(child, drawn) if drawn else None
        except ValueError:  # the morphism does not fit the network
            continue
        if grown is not None and grown.parameters < 50_000:
            child, edits = grown, [*edits, *drawn]
    return child.model_copy(update={"edits": tuple(edits)})


def gap(seeds: int) -> None:
    """Print the accuracy of supernets, and of the networks derived from them without further training."""
    for name, search in (("darts", with_darts), ("snas", with_snas)):
        pairs = np.array([search(seed) for seed in range(seeds)])
        whole, derived = pairs.mean(axis=0)
        print(f"gap: {name}: supernet {whole:.1%}, derived with its weights {derived:.1%}; {seeds} seeds", flush=True)


def with_darts(seed: int) -> tuple[float, float]:
    """Validation accuracies of the supernet of DARTS and of the network derived from it, with the shared weights."""
    settings = darts.DartsSettings(epochs=24, batch=32, lr=0.1, alpha_lr=0.02, order=1)
    return searched(darts.Bilevel, settings, seed)


def with_snas(seed: int) -> tuple[float, float]:
    """Validation accuracies of the supernet of SNAS and of the network derived from it, with the shared weights."""
    settings = snas.SnasSettings(epochs=40, batch=32, lr=0.1, distribution_lr=0.02, cost=0.0)
    return searched(snas.Annealed, settings, seed)


def searched(begin: Callable[..., darts.Bilevel | snas.Annealed], settings: object, seed: int) -> tuple[float, float]:
    """Train a supernet on the space of NB-digits; return its accuracy and that of the derived network."""
    data = load_data("digits")
    network = build(normalised(space().supernet()), seed=seed, affine=False)
    search = begin(network, data, settings, seed=seed)
    while search.epoch < search.settings.epochs:
        search.train_epoch()
    metrics = search.metrics(data)
    return float(str(metrics["supernet/accuracy"])), float(str(metrics["accuracy"]))


def adapt(seeds: int) -> None:
    """Print the size of the ensemble for several pairs of digits."""
    for first, second, shuffled in ((0, 1, False), (3, 8, False), (1, 8, False), (0, 1, True)):
        runs = [grown(pair_of(first, second, seed, shuffled=shuffled), seed) for seed in range(seeds)]
        members, depth, accuracy = np.array([run[:3] for run in runs]).mean(axis=0)
        rises = [rise for run in runs for rise in run[3]]
        task = f"{first} or {second}{', labels shuffled' if shuffled else ''}"
        print(
            f"adapt: {task}: {members:.1f} subnetworks, the deepest {depth:.1f} layers, accuracy {accuracy:.1%}; "
            f"F is no higher with {sum(rise < 1e-6 for rise in rises)} of {len(rises)} candidates; {seeds} seeds",
            flush=True,
        )


def pair_of(first: int, second: int, seed: int, *, shuffled: bool) -> Data:
    """All images of two digits: 100 for validation, 50 for testing, and the rest, about 200, for training."""
    digits = load_data("digits")
    parts = (digits.train, digits.valid, digits.test)
    images, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    kept = np.isin(labels, (first, second))
    wanted = (labels[kept] == second).astype(np.int64)
    if shuffled:
        wanted = np.random.default_rng(seed).permutation(wanted)
    return split(images[kept], wanted, valid=100, test=50, seed=seed)


def grown(data: Data, seed: int) -> tuple[int, int, float, list[float]]:
    """Run AdaNet in this process.

    Returns:
        The number of subnetworks, the layers of the deepest, the validation accuracy, and the change of F with each
        candidate after the first round.
    """
    settings, space = adanet.AdaNetSettings(), Ensemble(classes=2)
    recipe = Recipe(**{name: getattr(settings, name) for name in adanet.RECIPE})
    best: Network | None = None
    depths, bound, rises, weights = tuple[int, ...](), np.inf, list[float](), dict[str, Any]()
    for number in range(settings.rounds):
        trained: list[tuple[float, tuple[int, ...], Network]] = []
        for candidate in adanet.candidates(depths):
            network = build(Topology.parse(ensemble_network(space, candidate)), seed=100 * seed + number)
            if best is not None:
                set_weights(network, inherited(best.topology, weights, network.topology))
            for _ in train_last(network, len(candidate), data, recipe, seed=seed):
                pass
            fit = weigh(network, data.train, settings.penalties(candidate))
            trained.append((fit.value, candidate, network))
        rises += [value - bound for value, *_ in trained if best is not None]
        value, candidate, network = min(trained, key=lambda candidate: candidate[0])
        if value >= bound - adanet.FALL:
            break
        depths, best, bound, weights = candidate, network, value, dict(weights_of(network))
    assert best is not None
    return len(depths), max(depths), evaluate(best, data.valid)[1], rises


CLAIMS: dict[str, tuple[Callable[[int], None], int]] = {
    "inherit": (inherit, 20),
    "gap": (gap, 5),
    "adapt": (adapt, 10),
    "ranking": (ranking, 3),
    "latency": (latency, 3),
    "kernel": (kernel, 20),
    "decoded": (decoded, 20),
    "motifs": (motifs, 10),
}


if __name__ == "__main__":
    main()
