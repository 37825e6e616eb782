"""What ProxylessNAS claims, in small on digits: latency has a price, and what it pays for is a better front.

Called by ``benchmarks.nas_claims``. The latency of a path is measured here once, for all searches; that of a network is
the sum of its operations by that table.
"""

import json
from collections.abc import Sequence
from tempfile import NamedTemporaryFile

import numpy as np

from katib_flow.models.build import build
from katib_flow.models.latency import Table, latency_seconds, measured_table, tabulated
from katib_flow.models.presets import space_of
from katib_flow.models.space import Space
from katib_flow.models.topology import Topology
from katib_flow.nas.relax.choice import chosen
from katib_flow.nas.relax.costs import choice_milliseconds
from katib_flow.nas.systems import proxylessnas
from katib_flow.spec.sections import Architecture
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, train

WEIGHTS = (0.0, 0.3, 1.0, 3.0)
RECIPE = Recipe(epochs=10, lr=0.1)  # of a network from scratch
MEASURED = 30  # networks whose latency is measured as a whole
Point = tuple[float, float]
"""Accuracy on validation images, and latency in milliseconds by the table."""


def latency(seeds: int) -> None:
    """The latency that a search comes to for each weight of it, and the front of all against random search."""
    space = space_of(Architecture(space="mobile-chain"))
    table = measured_table([space.supernet()], runs=200)
    print(f"latency: the table against whole networks: {fit(space, table)}", flush=True)
    found: list[Point] = []
    for weight in WEIGHTS:
        ends = [searched(space, table, weight, seed) for seed in range(seeds)]
        found += [point for _, point in ends]
        expected = np.mean([cost for cost, _ in ends])
        accuracy, milliseconds = np.mean([point for _, point in ends], axis=0)
        print(
            f"latency: weight {weight:g}: expected of the searched layers {expected:.3f} ms; derived "
            f"{milliseconds:.3f} ms, {accuracy:.1%} from scratch; {seeds} seeds",
            flush=True,
        )
    random = [trained(space.topology(space.draw(np.random.default_rng(seed))), table, seed) for seed in range(30)]
    times = choice_milliseconds(space.supernet(), table)
    choice = {slot: int(np.argmax(paths)) for slot, paths in times.items()}
    slowest = tabulated(chosen(space.supernet(), choice), table)
    rng = np.random.default_rng(0)
    drawn = [volume([random[at] for at in rng.permutation(30)[: len(found)]], slowest) for _ in range(2_000)]
    ours = volume(found, slowest)
    print(
        f"latency: hypervolume of {len(found)} derived networks {ours:.3f}, of as many drawn by chance "
        f"{np.mean(drawn):.3f} ({np.quantile(drawn, 0.025):.3f} to {np.quantile(drawn, 0.975):.3f})"
    )


def fit(space: Space, table: Table) -> str:
    """How well the sum of a network's operations tells its latency as a whole."""
    networks = [space.topology(space.draw(np.random.default_rng(100 + seed))) for seed in range(MEASURED)]
    sums = [tabulated(network, table) for network in networks]
    wholes = [1000 * latency_seconds(build(network, seed=0), runs=200) for network in networks]
    explained = np.corrcoef(sums, wholes)[0, 1] ** 2
    return f"R^2 {explained:.3f} over {MEASURED} networks of {min(wholes):.2f} to {max(wholes):.2f} ms"


def searched(space: Space, table: Table, weight: float, seed: int) -> tuple[float, Point]:
    """The milliseconds that a search expects its layers to take at its end; the network that it derives, trained."""
    network, data = build(space.supernet(), seed=seed, affine=False), load_data("digits")
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(table, file)
        file.flush()
        settings = proxylessnas.ProxylessSettings(latency_weight=weight, latency=file.name, retrain=1)
        search = proxylessnas.Gated(network, data, settings, seed=seed)
    while search.epoch < settings.epochs:
        search.train_epoch()
    expected = float(str(search.metrics(data)["latency"]))
    return expected, trained(chosen(network.topology, search.derived()[0]), table, seed)


def trained(topology: Topology, table: Table, seed: int) -> Point:
    network, accuracy = build(topology, seed=seed), 0.0
    for epoch in train(network, load_data("digits"), RECIPE, seed=seed):
        accuracy = epoch.valid_accuracy
    return accuracy, tabulated(topology, table)


def volume(points: Sequence[Point], slowest: float) -> float:
    """The hypervolume of a front: the area under accuracy, by the share of the slowest latency that is saved."""
    area, best = 0.0, 0.0
    for accuracy, milliseconds in sorted(points, key=lambda point: point[1]):
        if accuracy > best:
            area += (accuracy - best) * (1 - milliseconds / slowest)
            best = accuracy
    return area
