"""The trainer: deterministic, stopped anywhere and gone on with it gives the same bits, and it learns."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from katib_flow.models.build import build, weights_of  # noqa: E402
from katib_flow.training.augment import AUGMENTATIONS, augmented  # noqa: E402
from katib_flow.training.data import Data, Split, load_data  # noqa: E402
from katib_flow.training.loop import Recipe, batches, cosine, evaluate, train  # noqa: E402
from katib_flow.training.statistics import Statistics  # noqa: E402

torch.set_num_threads(1)
CHAIN = space_of(Architecture(space="chain")).initial


def trained(recipe: Recipe, **how):
    network = build(CHAIN, seed=0)
    epochs = list(train(network, load_data("digits", 96), recipe, seed=1, **how))
    return network, epochs


def same(one, other) -> bool:
    first, second = weights_of(one), weights_of(other)
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_a_network_learns_real_digits():
    wider = space_of(Architecture(space="chain", settings={"layers": [16, 32]})).initial
    network = build(wider, seed=0)
    before = evaluate(network, load_data("digits").valid)[1]
    epochs = list(train(network, load_data("digits"), Recipe(epochs=10)))
    assert before < 0.3
    assert epochs[-1].valid_accuracy > 0.85
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    recipe = Recipe(epochs=2)
    one, other = trained(recipe)[0], trained(recipe)[0]
    assert same(one, other)
    different = build(CHAIN, seed=0)
    list(train(different, load_data("digits", 96), recipe, seed=2))
    assert not same(one, different)


def test_stopped_after_any_epoch_and_gone_on_with_gives_the_bits_of_a_straight_run(tmp_path: Path):
    recipe = Recipe(epochs=3, augment=("shift",))
    straight, expected = trained(recipe, statistics=True)
    for told in (2, 3):  # the last epoch that was reported, and is again: its checkpoint comes after
        checkpoint = tmp_path / f"{told}.pt"
        cut = build(CHAIN, seed=0)
        run = train(cut, load_data("digits", 96), recipe, seed=1, statistics=True, checkpoint=checkpoint)
        for _ in range(told):
            next(run)
        resumed = build(CHAIN, seed=9)
        rest = train(resumed, load_data("digits", 96), recipe, seed=1, statistics=True, checkpoint=checkpoint)
        epochs = list(rest)
        assert [each.number for each in epochs] == list(range(told, 4))
        assert same(straight, resumed)
        assert epochs[-1].valid_loss == expected[-1].valid_loss
        for edge, variance in expected[-1].statistics.items():
            assert np.array_equal(epochs[-1].statistics[edge], variance)


def test_truncated_training_takes_just_so_many_steps():
    taken = []
    network = build(CHAIN, seed=0)
    hook = network.register_forward_pre_hook(lambda module, inputs: taken.append(module.training))
    epochs = list(train(network, load_data("digits", 96), Recipe(epochs=9, steps=5)))
    hook.remove()
    assert sum(taken) == 5
    assert len(epochs) == 2  # three steps an epoch


def test_a_stop_ends_training_between_two_steps():
    asked = iter([False, False, True])
    epochs = list(
        train(build(CHAIN, seed=0), load_data("digits", 96), Recipe(epochs=9), stop=lambda: next(asked, True))
    )
    assert len(epochs) == 1


def test_the_learning_rate_falls_along_half_a_cosine():
    assert cosine(0, 0.1, 0.001) == pytest.approx(0.1)
    assert cosine(0.5, 0.1, 0.001) == pytest.approx(0.0505)
    assert cosine(1, 0.1, 0.001) == pytest.approx(0.001)


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own():
    one, other = (np.concatenate(list(batches(100, 32, 5, epoch))) for epoch in (1, 2))
    assert sorted(one) == list(range(100))
    assert not np.array_equal(one, other)


def test_statistics_are_those_of_all_batches_at_once():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(size, 3, 4, 4, generator=generator) * 5 + 100 for size in (32, 32, 7)]
    statistics = Statistics()
    for each in maps:
        statistics.add("edge", each)
    expected = torch.cat(maps).double().transpose(0, 1).flatten(1).var(dim=1)
    assert np.allclose(statistics.variance()["edge"], expected.numpy(), rtol=1e-10)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_depends_on_its_seed_alone_and_keeps_the_shape(name):
    images = torch.rand(16, 1, 8, 8)
    one, again, other = (augmented(images, (name,), (0, step)) for step in (1, 1, 2))
    assert one.shape == images.shape
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_shift_moves_each_image_as_a_whole():
    images = torch.zeros(64, 1, 8, 8)
    images[:, :, 4, 4] = 1
    moved = augmented(images, ("shift",), (0,))
    assert torch.equal(moved.sum(dim=(1, 2, 3)), torch.ones(64))
    rows = moved.sum(dim=(1, 3)).argmax(dim=1)
    assert set(rows.tolist()) == {3, 4, 5}


def test_an_unknown_augmentation_or_data_set_is_named():
    with pytest.raises(KatibFlowError, match="did you mean 'shift'"):
        augmented(torch.zeros(1, 1, 8, 8), ("shifts",), (0,))
    with pytest.raises(KatibFlowError, match="did you mean 'digits'"):
        load_data("digit")
    with pytest.raises(KatibFlowError, match=r"train_size: found 0, need 1 to 300"):
        load_data("digits", 0)


def test_data_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("KATIB_FLOW_DATA", str(tmp_path))
    with pytest.raises(KatibFlowError, match="make data"):
        load_data("fashion-mnist")


def small() -> Data:
    part = Split(np.zeros((8, 1, 4, 4), dtype=np.float32), np.arange(8) % 2)
    return Data(part, part, part)


def test_data_of_ones_own_is_a_function():
    data = load_data(f"{__name__}:small")
    assert (data.shape, data.classes) == ((1, 4, 4), 2)
    with pytest.raises(KatibFlowError, match=r"found dict, need katib_flow\.training\.Data"):
        load_data("builtins:dict")


def test_the_splits_of_the_digits_share_no_image():
    data = load_data("digits")
    assert (len(data.train), len(data.valid), len(data.test)) == (300, 747, 750)
    rows = [split.images.reshape(len(split), -1) for split in (data.train, data.valid, data.test)]
    assert len(np.unique(np.concatenate(rows), axis=0)) == len(np.unique(rows[0], axis=0)) + len(
        np.unique(rows[1], axis=0)
    ) + len(np.unique(rows[2], axis=0))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_packed_sets_are_whole(name):
    path = Path(os.environ.get("KATIB_FLOW_DATA", "data")) / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no {path}: `make data` makes it")
    data = load_data(name)
    assert (data.shape, data.classes) == ((1, 28, 28), 10)
    assert len(data.train) + len(data.valid) + len(data.test) == 70_000


def test_the_package_of_fashion_images_is_read_without_its_rows_that_are_cut_off(tmp_path):
    from katib_flow.training.pack import SETS

    rows = {label: [[label] * 784] * 3 for label in range(10)}
    rows[0] = [*rows[0], [0] * 100]
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as file:
        for label, content in rows.items():
            text = json.dumps({"data": content}).encode()
            entry = tarfile.TarInfo(f"package/src/clothes/{label}.json")
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text))
    with tarfile.open(package) as file:
        images, labels = SETS["fashion-mnist"][1](file)
    assert images.shape == (30, 28, 28)
    assert all((images[number] == labels[number]).all() for number in range(30))
