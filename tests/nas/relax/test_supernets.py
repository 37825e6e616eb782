"""What all searches of a supernet have in common: their rates, what they are handed, what they report, their bounds."""

import importlib
import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from katib_flow.algorithms import find_algorithm
from katib_flow.models.choices import reported_networks
from katib_flow.models.presets import space_of
from katib_flow.nas.relax.choice import chosen
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")

from katib_flow.models.build import build  # noqa: E402
from katib_flow.nas.relax import segments, shared  # noqa: E402
from katib_flow.nas.relax.hypernetwork import Hypernetwork  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402
from katib_flow.training.loop import evaluate  # noqa: E402

torch.set_num_threads(1)
CELL = Architecture(space="cell", settings={"nodes": 3, "channels": 3, "stages": 1})
BANKS = Architecture(space="banks", settings={"stages": 1, "layers": 3, "banks": 2, "channels": 2})
DATA = load_data("digits", 64)
SEARCHES = {"darts": "Bilevel", "enas": "Sharing", "proxylessnas": "Gated", "smash": "Smashing", "snas": "Annealed"}
QUICK: dict[str, dict[str, Any]] = {
    "enas": {"candidates": 20, "warm_up": 0},
    "proxylessnas": {"latency": "flops", "warm_up": 0},
    "smash": {"candidates": 8, "perturbations": 4},
}
every_search = pytest.mark.parametrize("name", SEARCHES)


def searching(name: str, how: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A search that has just begun, always with the same weights, and ``how`` beside what it must be handed."""
    entry = find_algorithm(name)
    assert entry is not None
    provider = partial(Hypernetwork, growth=4, depth=2) if name == "smash" else None
    supernet = space_of(BANKS if name == "smash" else CELL).supernet()
    network = build(supernet, seed=0, affine=False, provider=provider)
    begin = getattr(importlib.import_module(f"katib_flow.nas.systems.{name}"), SEARCHES[name])
    chosen_settings = entry.settings.model_validate({"batch": 16, **QUICK.get(name, {}), **settings})
    return begin(network, DATA, chosen_settings, **({"seed": 0} if how is None else how))


def weights(search: Any) -> np.ndarray:
    return torch.cat([each.detach().flatten() for each in search.network.parameters()]).numpy()


@every_search
def test_a_segment_trains_with_the_seed_and_the_threads_of_its_trial(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = find_algorithm(name)
    assert entry is not None
    assert entry.segment is not None
    handed: list[tuple[Any, ...]] = []

    def trained(begin: Any, settings: Any, data: Any, *, seed: int, threads: int, provider: Any = None) -> list[Any]:
        handed.append((begin.__name__, seed, threads, provider is not None))
        return []

    monkeypatch.setattr(segments, "trained", trained)
    settings = entry.settings()
    assert list(entry.segment(settings, DATA, seed=3, threads=2)) == list(entry.segment(settings, DATA)) == []
    writes = name == "smash"
    assert handed == [(SEARCHES[name], 3, 2, writes), (SEARCHES[name], 0, 1, writes)]


@every_search
def test_the_rate_of_the_weights_falls_along_one_cosine_and_progress_is_told(name: str) -> None:
    search, rates = searching(name, epochs=4, lr=0.3, lr_end=0.1), list[float]()
    for number in range(1, 5):
        search.train_epoch()
        rates.append(search.optimiser.param_groups[0]["lr"])
        told = search.metrics(DATA)
        assert (told["step"], told["search/progress"]) == (number, number / 4)
    assert rates == pytest.approx([0.1 + 0.2 * (1 + math.cos(math.pi * over / 4)) / 2 for over in range(4)])


@every_search
def test_weights_are_trained_with_the_normalisation_of_training(name: str) -> None:
    search = searching(name, epochs=2)
    search.network.eval()
    search.train_epoch()
    assert search.network.training


@every_search
def test_no_step_of_the_weights_is_longer_than_the_rate_times_the_largest_gradient(name: str) -> None:
    search = searching(name, epochs=1, lr=0.5, lr_end=0.5, momentum=0.0, weight_decay=0.0, clip=1e-4)
    before = torch.cat([each.detach().flatten() for each in search.network.weights()])
    search.train_epoch()
    after = torch.cat([each.detach().flatten() for each in search.network.weights()])
    steps = len(search.train[1]) // 16
    assert 0 < float((after - before).norm()) <= steps * 0.5 * 1e-4 * 1.01


@every_search
def test_the_optimisers_are_those_of_the_paper_with_what_the_settings_say(name: str) -> None:
    architecture = {
        "darts": ("architect", {"alpha_lr": 0.03, "alpha_weight_decay": 0.04}, (0.5, 0.999)),
        "snas": ("distribution", {"distribution_lr": 0.03, "distribution_weight_decay": 0.04}, (0.5, 0.999)),
        "proxylessnas": ("architect", {"alpha_lr": 0.03}, (0.0, 0.999)),
    }
    optimiser, settings, betas = architecture.get(name, ("", {}, ()))
    search = searching(name, momentum=0.8, weight_decay=0.02, **settings)
    (group,) = search.optimiser.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.8, 0.02)
    assert group["nesterov"] == (name in ("enas", "proxylessnas", "smash"))
    if optimiser:
        (group,) = getattr(search, optimiser).param_groups
        assert (group["lr"], group["betas"]) == (0.03, betas)
        assert group["weight_decay"] == (0.04 if len(settings) == 2 else 0)


@every_search
def test_what_an_epoch_draws_depends_on_the_seed_and_nothing_else(name: str) -> None:
    ends: list[np.ndarray] = []
    for how in ({}, {"seed": 0}, {"seed": 1}):
        search = searching(name, how)
        search.train_epoch()
        ends.append(weights(search))
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[1], ends[2])


@every_search
def test_what_is_told_of_the_best_network_is_how_it_does_with_shared_weights(name: str) -> None:
    search = searching(name, epochs=2)
    for _ in range(2):
        search.train_epoch()
        told = search.metrics(DATA)
        best = reported_networks(search.network.topology, told)[0]
        assert (told["loss"], told["accuracy"]) == shared.evaluate_child(search.network, best, search.train, DATA.valid)


@pytest.mark.parametrize("name", ["darts", "snas"])
def test_what_is_told_of_the_supernet_is_how_the_blend_of_all_operations_does(name: str) -> None:
    search = searching(name)
    search.train_epoch()
    told = search.metrics(DATA)
    search.network.choose({slot: alpha.softmax(0) for slot, alpha in search.network.architecture_weights().items()})
    with torch.no_grad():
        assert evaluate(search.network, DATA.valid) == (told["supernet/loss"], told["supernet/accuracy"])


@every_search
@pytest.mark.parametrize("bound", ["max_parameters", "max_flops"])
def test_what_a_search_comes_to_keeps_its_bounds_and_is_as_much_as_is_trained_again(name: str, bound: str) -> None:
    def sizes(**bounds: int) -> list[int]:
        search = searching(name, epochs=1, retrain=3, **bounds)
        search.train_epoch()
        supernet = search.network.topology
        networks = [chosen(supernet, choice) for choice in reported_networks(supernet, search.metrics(DATA))]
        return [getattr(network, bound.removeprefix("max_")) for network in networks]

    free = sizes()
    assert len(free) == 3
    most = max(free) - 1
    assert max(sizes(**{bound: most})) <= most
