"""Compare EnvelopeNet with networks of its own kind that were pruned at random: do feature statistics help?

    python -m benchmarks.nas_envelope                      5 constructions, 10 rivals each; half an hour on one core
    python -m benchmarks.nas_envelope --data fashion-mnist --train-size 2000

A construction is that of examples/nas-envelopenet.yaml: three networks, each of which but the last is trained a little,
pruned by the variance of its features, and grown. Its rivals come from the same construction with random statistics.
They have as many cells and branches; only those whose number of weights is within 5 % are used. The network that the
construction starts from is shown, too. All networks are trained from scratch in the same way. The rank of the
construction among its rivals is 0 if it is the best and 1 if it is the worst; by chance it is one half.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from katib_flow.models.build import build
from katib_flow.models.spaces.envelope import Cells, Envelope, branch_key, envelope_network
from katib_flow.models.topology import Topology
from katib_flow.nas.systems.envelopenet import EnvelopeNetSettings, grown
from katib_flow.training.data import Data, load_data
from katib_flow.training.loop import Recipe, evaluate, train

SETTINGS = EnvelopeNetSettings(iterations=2)
TRUNCATED, WHOLE = Recipe(epochs=10), Recipe(epochs=40)
NEAR = 0.05  # relative difference in weights that a rival may have
PATIENCE = 2_000  # random constructions to try for one set of rivals


def main() -> None:
    """Print the results of each construction and its rivals, then the mean ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constructions", type=int, default=5)
    parser.add_argument("--rivals", type=int, default=10)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--train-size", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(args.data, args.train_size)
    envelope = Envelope(shape=data.shape, classes=data.classes, channels=args.channels, stages=2, skips=True)
    ranks: list[tuple[float, float]] = []
    for seed in range(args.constructions):
        ours = constructed(envelope, data, seed)
        rivals = list(by_chance(envelope, network(envelope, ours), args.rivals, seed))
        assert rivals, f"no rival has a size within {NEAR:.0%} of the construction"
        results = np.array([trained(envelope, cells, data, seed) for cells in [ours, *rivals]])
        ranks.append(tuple(float(np.mean(losses[1:] < losses[0])) for losses in results.T[[0, 2]]))
        loss, accuracy, test, _ = results[0]
        start = trained(envelope, beginning(envelope), data, seed)
        mean = results[1:].mean(axis=0)
        print(
            f"construction {seed}: {network(envelope, ours).parameters} weights, validation loss {loss:.4f} "
            f"({len(rivals)} random: {mean[0]:.4f}), accuracy {accuracy:.4f} ({mean[1]:.4f}), "
            f"test loss {test:.4f} ({mean[2]:.4f}); the initial network: validation loss {start[0]:.4f}, "
            f"accuracy {start[1]:.4f}, test loss {start[2]:.4f}; rank {ranks[-1][0]:.2f}, in test {ranks[-1][1]:.2f}",
            flush=True,
        )
    print(f"mean rank: validation {np.mean(ranks, axis=0)[0]:.2f}, test {np.mean(ranks, axis=0)[1]:.2f}")


def network(envelope: Envelope, cells: Cells) -> Topology:
    """The network of some cells."""
    return Topology.parse(envelope_network(envelope, cells))


def beginning(envelope: Envelope) -> Cells:
    """The cells of the network that a construction starts from."""
    return [[list(envelope.operations)] for _ in range(envelope.stages)]


def constructed(envelope: Envelope, data: Data, seed: int) -> Cells:
    """The cells of the last network; each earlier network is trained a little for its statistics."""
    cells = beginning(envelope)
    for _ in range(SETTINGS.iterations):
        module = build(network(envelope, cells), seed=seed)
        *_, last = train(module, data, TRUNCATED, seed=seed, statistics=True)
        variance = {name: float(values.mean()) for name, values in last.statistics.items()}
        cells = grown(cells, variance, envelope.operations, SETTINGS)
    return cells


def by_chance(envelope: Envelope, like: Topology, count: int, seed: int) -> Iterator[Cells]:
    """Yield cells of different networks of about the same size, from constructions with random statistics."""
    rng, seen = np.random.default_rng((seed, 1)), {like.hash}
    for _ in range(PATIENCE):
        cells = beginning(envelope)
        for _ in range(SETTINGS.iterations):
            branches = [(s, c, op) for s, inner in enumerate(cells) for c, ops in enumerate(inner) for op in ops]
            statistics = {branch_key(*branch): rng.random() for branch in branches}
            cells = grown(cells, statistics, envelope.operations, SETTINGS)
        rival = network(envelope, cells)
        if rival.hash not in seen and abs(rival.parameters - like.parameters) <= NEAR * like.parameters:
            seen.add(rival.hash)
            yield cells
        if len(seen) > count:
            return


def trained(envelope: Envelope, cells: Cells, data: Data, seed: int) -> tuple[float, float, float, float]:
    """Train from scratch; return the loss and accuracy on validation images, then those on test images."""
    module = build(network(envelope, cells), seed=seed)
    for _ in train(module, data, WHOLE, seed=seed):
        pass
    return (*evaluate(module, data.valid), *evaluate(module, data.test))


if __name__ == "__main__":
    main()
