"""The search of ENAS: whose weights a child has, what a phase leaves alone, and that the controller learns."""

from dataclasses import replace

import numpy as np
import pytest

from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from katib_flow.models.build import build  # noqa: E402
from katib_flow.nas.relax.shared import evaluate_child, one_hot  # noqa: E402
from katib_flow.nas.systems.enas import EnasSettings, Sharing  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402

torch.set_num_threads(1)
SPACE = space_of(Architecture(space="cell", settings={"nodes": 3, "channels": 4, "stages": 1}))
DATA = load_data("digits", 64)
NAMES = ("none", "skip", "conv3", "avg3")
NONE, SKIP, CONV, AVG = range(4)
CONV_EDGE = "0>1"


def sharing(data=DATA, seed=0, state=None, **recipe):
    network = build(SPACE.supernet(), seed=seed, affine=False)
    small = {"epochs": 3, "batch": 16, "updates": 2, "children": 4, "candidates": 3, "units": 8, "warm_up": 1}
    return Sharing(network, data, EnasSettings(**{**small, **recipe}), seed=seed, state=state)


def child(*choices):
    return dict(zip(SPACE.slots, choices, strict=True))


def tensors(search):
    return {name: each.detach().clone() for name, each in search.network.named_parameters()}


def changed(before, search):
    return {name for name, each in search.network.named_parameters() if not torch.equal(before[name], each)}


def batch(search):
    return tuple(part[:16] for part in search.train)


def test_a_step_of_a_child_changes_what_it_reaches_and_leaves_every_other_bit():
    search = sharing()
    search.weight_step(child(CONV, CONV, CONV), batch(search))  # so that every tensor has momentum
    before = tensors(search)
    search.weight_step(child(CONV, NONE, SKIP), batch(search))
    after = changed(before, search)
    reached = [name for name in before if "0>1" in name and ".paths.2." in name]
    assert reached
    assert set(reached) <= after
    alone = [name for name in before if "paths" in name and name not in reached]
    assert alone
    assert not set(alone) & after


def test_two_children_that_have_an_operation_in_common_share_its_weights():
    search = sharing()
    seen = []
    for some in (child(CONV, NONE, SKIP), child(CONV, AVG, CONV)):
        search.network.choose(one_hot(search.network, some))
        loss = search.network(batch(search)[0]).sum()
        (slope,) = torch.autograd.grad(loss, [dict(search.network.named_parameters())[name_of(search, "0>1")]])
        assert slope.abs().sum() > 0
        module = search.network.mixed()["0>1"][0].paths[CONV]
        seen.append([each.data_ptr() for each in module.parameters()])
    assert seen[0] == seen[1]


def name_of(search, slot):
    return next(name for name, _ in search.network.named_parameters() if slot in name and ".paths.2." in name)


def test_a_child_computes_what_its_own_network_would_with_the_shared_weights():
    search = sharing()
    search.train_epoch()
    some = child(CONV, AVG, SKIP)
    decisions = {slot: NAMES[choice] for slot, choice in some.items()}
    own = build(SPACE.topology(decisions), seed=9, affine=False)
    shared = dict(search.network.named_parameters())
    with torch.no_grad():
        for name, each in own.named_parameters():
            fitting = [
                other
                for key, other in shared.items()
                if (key == name or (CONV_EDGE in name and CONV_EDGE in key and ".paths.2." in key))
                and other.shape == each.shape
            ]
            each.copy_(fitting[0])
    search.network.choose(one_hot(search.network, some))
    images = batch(search)[0]
    torch.testing.assert_close(search.network.train()(images), own.train()(images))


def test_the_controllers_phase_leaves_the_shared_weights_alone():
    search = sharing()
    before = {name: each.clone() for name, each in search.network.state_dict().items()}
    weights = search.controller.policy.start.detach().clone()
    search.controller_step(np.random.default_rng(0))
    evaluate_child(search.network, search.derived(), search.train, DATA.valid)
    after = search.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # running statistics too
    assert not torch.equal(weights, search.controller.policy.start)


def test_the_weights_never_see_the_second_half():
    other = replace(DATA, train=replace(DATA.train, images=DATA.train.images.copy()))
    other.train.images[32:] = 0.5
    ends = []
    for data in (DATA, other):
        search = sharing(data)
        rng = np.random.default_rng(1)
        search.weight_step(search.drawn(rng), batch(search))
        ends.append((tensors(search), search.controller_step(rng)))
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])
    assert ends[0][1] != ends[1][1]


def test_a_search_in_segments_is_the_search_in_one_bit_for_bit():
    whole = sharing(seed=2)
    for _ in range(3):
        whole.train_epoch()
    state = None
    for _ in range(3):
        part = sharing(seed=2, state=state)
        part.train_epoch()
        state = part.state()
    assert not changed(tensors(whole), part)
    assert whole.controller.state().keys() == part.controller.state().keys()
    assert all(torch.equal(each, part.controller.state()[name]) for name, each in whole.controller.state().items())
    assert (whole.derived(), whole.reward) == (part.derived(), part.reward)


def test_the_controller_learns_which_children_are_good():
    """The reward is what it is for children whose first edge is a convolution, and less for others."""
    search = sharing(controller_lr=0.02)
    search.loss = lambda some, chosen: -0.2 - 0.6 * (some["0>1"] == CONV)  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    rewards = [search.controller_step(rng) for _ in range(60)]
    assert np.mean(rewards[:5]) < 0.5
    assert np.mean(rewards[-5:]) > 0.7


def test_the_controller_waits_for_the_weights():
    search = sharing(warm_up=2)
    search.train_epoch()
    search.train_epoch()
    assert not search.controller.state()["steps"]
    search.train_epoch()
    assert search.controller.state()["steps"] == search.settings.updates
