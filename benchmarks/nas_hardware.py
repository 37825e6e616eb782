"""A claim of ProxylessNAS at a small scale, on digits: weighing latency lowers it, and the front beats random networks.

Called by ``benchmarks.nas_claims``. The latency of every operation is measured here once, for all searches; that of a
network is the sum over its operations by that table.
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
RECIPE = Recipe(epochs=10, lr=0.1)  # for a network from scratch
MEASURED = 30  # networks whose latency is measured as a whole
Point = tuple[float, float]
"""Validation accuracy, and latency in milliseconds by the table."""


def latency(seeds: int) -> None:
    """Print the latency that searches reach for each weight of it, and the hypervolume of the front against random."""
    space = space_of(Architecture(space="mobile-chain"))
    table = measured_table([space.supernet()], runs=200)
    print(f"latency: the table compared with whole networks: {fit(space, table)}", flush=True)
    points: list[Point] = []
    for weight in WEIGHTS:
        ends = [searched(space, table, weight, seed) for seed in range(seeds)]
        points += [point for _, point in ends]
        expected = np.mean([cost for cost, _ in ends])
        accuracy, milliseconds = np.mean([point for _, point in ends], axis=0)
        print(
            f"latency: weight {weight:g}: expected latency of the searched layers {expected:.3f} ms; derived networks "
            f"{milliseconds:.3f} ms, accuracy {accuracy:.1%} from scratch; {seeds} seeds",
            flush=True,
        )
    random = [trained(space.topology(space.draw(np.random.default_rng(seed))), table, seed) for seed in range(30)]
    times = choice_milliseconds(space.supernet(), table)
    choice = {slot: int(np.argmax(paths)) for slot, paths in times.items()}
    slowest = tabulated(chosen(space.supernet(), choice), table)
    rng = np.random.default_rng(0)
    drawn = [volume([random[at] for at in rng.permutation(30)[: len(points)]], slowest) for _ in range(2_000)]
    ours = volume(points, slowest)
    print(
        f"latency: hypervolume of {len(points)} derived networks {ours:.3f}, of as many random networks "
        f"{np.mean(drawn):.3f} ({np.quantile(drawn, 0.025):.3f} to {np.quantile(drawn, 0.975):.3f})"
    )


def fit(space: Space, table: Table) -> str:
    """How well the sum over a network's operations predicts its latency as a whole."""
    networks = [space.topology(space.draw(np.random.default_rng(100 + seed))) for seed in range(MEASURED)]
    sums = [tabulated(network, table) for network in networks]
    wholes = [1000 * latency_seconds(build(network, seed=0), runs=200) for network in networks]
    explained = np.corrcoef(sums, wholes)[0, 1] ** 2
    return f"R^2 {explained:.3f} over {MEASURED} networks of {min(wholes):.2f} to {max(wholes):.2f} ms"


def searched(space: Space, table: Table, weight: float, seed: int) -> tuple[float, Point]:
    """Run a search; return the expected latency of its layers in milliseconds, and the point of the derived network."""
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
    """Train a network from scratch; return its point."""
    network, accuracy = build(topology, seed=seed), 0.0
    for epoch in train(network, load_data("digits"), RECIPE, seed=seed):
        accuracy = epoch.valid_accuracy
    return accuracy, tabulated(topology, table)


def volume(points: Sequence[Point], slowest: float) -> float:
    """The hypervolume of a front, from 0 to 1: the area of accuracy by the saved share of the slowest latency."""
    area, best = 0.0, 0.0
    for accuracy, milliseconds in sorted(points, key=lambda point: point[1]):
        if accuracy > best:
            area += (accuracy - best) * (1 - milliseconds / slowest)
            best = accuracy
    return area
