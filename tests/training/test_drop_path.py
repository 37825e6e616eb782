"""ScheduledDropPath: which paths are dropped, how often, at what rate along the training, and never when evaluating."""

from pathlib import Path

import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models import Topology
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from katib_flow.models.build import DropPath, build, weights_of  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402
from katib_flow.training.loop import Recipe, train  # noqa: E402


def doubled() -> Topology:
    """Twice the mean of each of ten channels, one path each time."""
    edges = [
        {"id": "one", "src": "x", "dst": "a", "op": "identity"},
        {"id": "two", "src": "x", "dst": "a", "op": "identity"},
        {"id": "end", "src": "a", "dst": "y", "op": "global-mean"},
    ]
    graph = {"vertices": {"a": "add", "y": "add"}, "edges": edges}
    ends = {"input": {"shape": [10, 2, 2]}, "output": {"classes": 10}}
    return Topology.parse({"schema": "topology/1", **ends, "graphs": {"net": graph}})


def dropping(rate: float, seed: int = 0) -> DropPath:
    return DropPath(rate, torch.Generator().manual_seed(seed))


def test_a_path_is_dropped_for_an_image_as_a_whole_and_what_is_left_is_scaled():
    """Of two paths none, one or both are left: 0, 1/(1 - p) or 2/(1 - p) in all channels of an image alike."""
    network = build(doubled()).train()
    network.drop_path = dropping(0.25)
    logits = network(torch.ones(4000, 10, 2, 2))
    assert torch.equal(logits, logits[:, :1].expand(-1, 10))
    counts = [int((logits[:, 0] == each / 0.75).sum()) for each in (0, 1, 2)]
    assert sum(counts) == 4000
    expected = [4000 * share for share in (1 / 16, 6 / 16, 9 / 16)]
    assert all(abs(count - wanted) < 5 * wanted**0.5 for count, wanted in zip(counts, expected, strict=True))


def test_the_only_path_is_never_dropped_and_neither_is_one_when_evaluating():
    network = build(space_of(Architecture(space="chain")).initial, seed=0)
    images = torch.rand(8, 1, 8, 8)
    network.train()
    before = network(images)
    network.drop_path = dropping(0.9)
    assert torch.equal(network(images), before)
    two = build(doubled()).eval()
    two.drop_path = dropping(0.9)
    assert torch.equal(two(torch.ones(3, 10, 2, 2)), torch.full((3, 10), 2.0))


CELL = space_of(Architecture(space="cell")).topology(
    {"0>1": "conv3", "0>2": "conv3", "1>2": "skip", "0>3": "conv1", "1>3": "conv3", "2>3": "skip"}
)


def trained(recipe: Recipe, **how: object) -> dict[str, object]:
    network = build(CELL, seed=1)
    for _ in train(network, load_data("digits", 40), recipe, **how):  # type: ignore[arg-type]
        pass
    return dict(weights_of(network))


def test_the_rate_rises_evenly_from_nothing(monkeypatch: pytest.MonkeyPatch):
    rates: list[float] = []
    plain = DropPath.__init__

    def noted(self, rate, generator):
        rates.append(rate)
        plain(self, rate, generator)

    monkeypatch.setattr(DropPath, "__init__", noted)
    trained(Recipe(epochs=2, batch=10, drop_path=0.4))
    assert rates == pytest.approx([0.4 * step / 8 for step in range(8)])


def test_dropped_paths_change_what_is_learnt_and_the_seed_what_is_dropped():
    plain, dropped, again = (trained(Recipe(epochs=1, drop_path=rate)) for rate in (0.0, 0.5, 0.5))
    assert any((plain[name] != dropped[name]).any() for name in plain)
    assert all((again[name] == dropped[name]).all() for name in plain)


def test_stopped_and_gone_on_with_gives_the_bits_of_a_straight_run(tmp_path: Path):
    recipe, checkpoint = Recipe(epochs=2, batch=20, drop_path=0.5), tmp_path / "cut.pt"
    run = train(build(CELL, seed=1), load_data("digits", 40), recipe, checkpoint=checkpoint)
    assert (next(run).number, next(run).number) == (1, 2)  # the checkpoint is that of the first
    straight, resumed = trained(recipe), trained(recipe, checkpoint=checkpoint)
    assert all((straight[name] == resumed[name]).all() for name in straight)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_what_is_no_probability_is_refused(rate: float):
    with pytest.raises(KatibFlowError, match=r"drop_path: found .*, need a number from 0 to below 1"):
        Recipe(drop_path=rate)
