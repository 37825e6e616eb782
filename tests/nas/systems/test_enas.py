"""The search of ENAS: whose weights a child has, what a phase leaves alone, and that the controller learns."""

import itertools
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
    evaluate_child(search.network, search.derived()[0], search.train, DATA.valid)
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
        search.weight_step(next(search.children(rng)), batch(search))
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
    """The reward is what it is for children whose first edge is a mean, and less for others."""
    search = sharing(controller_lr=0.02)
    search.loss = lambda some, chosen: -0.2 - 0.6 * (some["0>1"] == AVG)  # type: ignore[method-assign]
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


def recorded(search):
    """The children whose weights a search trains, with the images, as it goes."""
    seen, step = [], search.weight_step
    search.weight_step = lambda some, part: (seen.append((dict(some), part[0])), step(some, part))[1]
    return seen


def test_what_is_derived_are_the_best_different_networks_of_the_candidates():
    search = sharing(candidates=60, retrain=4, weighted=0.0)
    search.epoch = search.settings.epochs
    worth = {some: number for number, some in enumerate(np.random.default_rng(0).permutation(64).tolist())}
    search.loss = lambda some, chosen=None: worth[int(np.dot(tuple(some.values()), (16, 4, 1)))]  # type: ignore[method-assign]
    derived = search.derived()
    losses = [search.loss(some) for some in derived]
    assert len({search.bounds.network(some)[0] for some in derived}) == 4
    assert losses == sorted(losses)
    assert losses[0] <= 3  # the candidates are nearly all networks there are
    assert losses[-1] < 20


def test_every_batch_trains_a_fresh_child_on_other_images():
    search = sharing(batch=4)
    seen = recorded(search)
    search.train_epoch()
    assert len(seen) == 8
    assert len({tuple(some.values()) for some, _ in seen}) > 3
    assert not any(torch.equal(seen[0][1], images) for _, images in seen[1:])


def test_the_children_of_an_update_see_the_same_images_as_many_as_are_set():
    search = sharing(reward_batch=7, children=3)
    seen = []
    search.loss = lambda some, chosen: float(seen.append(chosen.tolist()) or 1.0)  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    search.controller_step(rng)
    search.controller_step(rng)
    assert len(seen) == 6
    assert {len(set(chosen)) for chosen in seen} == {7}
    assert seen[0] == seen[1] == seen[2] != seen[3]


def spoilt(search):
    """A search whose supernet has running statistics that fit nothing."""
    with torch.no_grad():
        for name, each in search.network.named_buffers():
            if name.endswith("running_mean"):
                each.fill_(50.0)
    return search


def test_neither_rewards_nor_what_is_reported_are_by_the_statistics_of_the_supernet():
    search, some = sharing(), child(CONV, CONV, CONV)
    search.train_epoch()
    before = search.loss(some), search.metrics(DATA)
    spoilt(search)
    assert (search.loss(some), search.metrics(DATA)) == before


def test_the_baseline_remembers_earlier_rewards():
    search, rng = sharing(), np.random.default_rng(0)
    baselines = []
    for value in (1.0, 3.0):
        search.loss = lambda some, chosen, value=value: value  # type: ignore[method-assign]
        search.controller_step(rng)
        baselines.append(float(search.controller.state()["baseline"]))
    assert baselines == pytest.approx([-1.0, -0.95 - 0.05 * 3.0])


def test_the_learning_rate_falls_along_one_cosine():
    search = sharing(epochs=4, lr=0.4, lr_end=0.0)
    rates = []
    for _ in range(4):
        search.train_epoch()
        rates.append(search.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2 * (1 + np.cos(np.pi * quarter / 4)) for quarter in range(4)])


def test_the_gradient_of_a_step_is_clipped():
    search = sharing(clip=1e-3, weight_decay=0.0)
    search.weight_step(child(CONV, CONV, CONV), batch(search))
    moved = [state["momentum_buffer"] for state in search.optimiser.state.values()]
    assert float(torch.sqrt(sum((each**2).sum() for each in moved))) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("weighted", "share"), [(0.5, 0.5), (0.0, 0.25), (0.7, 0.7)])
def test_the_controller_begins_with_a_lean_towards_operations_with_weights(weighted, share):
    search, rng = sharing(weighted=weighted), np.random.default_rng(0)
    drawn = [tuple(some.values()) for some in itertools.islice(search.children(rng), 400)]
    for position in range(3):
        counts = np.bincount([tokens[position] for tokens in drawn], minlength=4) / 400
        assert counts[CONV] == pytest.approx(share, abs=0.08)
        assert counts[[NONE, SKIP, AVG]] == pytest.approx((1 - share) / 3, abs=0.07)


def test_no_child_that_is_rewarded_or_derived_has_more_than_the_bound_though_larger_ones_train():
    most = SPACE.topology({"0>1": "conv3", "0>2": "skip", "1>2": "none"}).parameters
    search = sharing(max_parameters=most, candidates=20, retrain=9)
    seen, rewarded, loss = recorded(search), [], search.loss
    search.loss = lambda some, chosen=None: rewarded.append(dict(some)) or loss(some, chosen)  # type: ignore[method-assign]
    for _ in range(3):
        search.train_epoch()
    sizes = {search.bounds.network(some)[1] for some in [*rewarded, *search.derived()]}
    assert max(sizes) == most < max(search.bounds.network(some)[1] for some, _ in seen)
    assert len(search.derived()) > 2


def test_a_child_is_reported_with_the_statistics_of_its_own_features():
    search, some = sharing(), child(CONV, CONV, CONV)
    images, labels = search.train
    losses = [evaluate_child(search.network, some, (scale * images, labels), DATA.valid)[0] for scale in (1.0, 5.0)]
    assert losses[0] != pytest.approx(losses[1], rel=0.01)


def settle(search):
    """Let the controller be nearly certain of one network: each decision has chances of e^5 to 1 to 1 to 1."""
    with torch.no_grad():
        search.controller.policy.bias[:, :] = -50.0
        search.controller.policy.bias[:, CONV] = 50.0


def test_half_of_the_candidates_come_from_a_controller_that_has_learnt_nothing():
    search = sharing(candidates=40, weighted=0.0)
    settle(search)
    hashes = [search.bounds.network(some)[0] for some in search.candidates()]
    assert len(set(hashes)) == len(hashes) > 20
    assert search.bounds.network(child(CONV, CONV, CONV))[0] in hashes


def test_a_search_that_goes_on_has_the_candidates_that_it_would_have_had():
    whole = sharing(candidates=20, epochs=4)
    for _ in range(4):
        whole.train_epoch()
    half = sharing(candidates=20, epochs=4)
    for _ in range(2):
        half.train_epoch()
    rest = sharing(candidates=20, epochs=4, state=half.state())
    for _ in range(2):
        rest.train_epoch()
    assert rest.candidates() == whole.candidates()


def test_while_the_search_goes_on_the_best_child_of_the_last_update_is_shown_and_no_candidate_evaluated():
    search = sharing(epochs=3, warm_up=1, updates=1)
    evaluated, loss = [], search.loss

    def recorded_loss(some, chosen=None):
        if chosen is None:  # all images of the half, not the few of a reward
            evaluated.append(search.epoch)
        return loss(some, chosen)

    search.loss = recorded_loss  # type: ignore[method-assign]
    for _ in range(3):
        search.train_epoch()
        shown = search.metrics(DATA)
        if search.epoch == 2:
            assert shown["search/progress"] < 1
            assert search.derived() == [search.best]
            assert all(shown[f"choice/{slot}"] == place for slot, place in search.best.items())
    assert set(evaluated) == {3}


def test_the_best_child_of_an_update_is_the_one_of_the_highest_reward():
    search, worth = sharing(children=6), {}
    search.loss = lambda some, chosen: worth.setdefault(tuple(some.values()), -float(len(worth) % 3))  # type: ignore[method-assign]
    search.controller_step(np.random.default_rng(0))
    assert worth[tuple(search.best.values())] == min(worth.values()) == -2


def test_the_children_that_train_are_drawn_by_what_the_controller_was_before_it_learnt():
    search = sharing(batch=1, weighted=0.0)
    settle(search)
    seen = recorded(search)
    search.train_epoch()
    assert len({tuple(some.values()) for some, _ in seen}) > 10


def test_the_controller_is_that_of_the_paper():
    """Pham et al., 2018, section 3: logits 2.5 tanh(l / 5), first weights within 0.1; the baseline as in its code."""
    search = sharing(units=9, controller_lr=0.03, entropy=0.25)
    shape, teaching = search.controller.policy.shape, search.controller.teaching
    assert (shape.choices, shape.units, shape.layers) == ((4,) * 3, 9, 1)
    assert (shape.squash, shape.spread) == (2.5, 0.1)
    assert (teaching.lr, teaching.decay, teaching.entropy) == (0.03, 0.95, 0.25)


def test_the_reward_of_an_epoch_is_the_mean_of_its_updates_and_stays_where_there_are_none():
    search, rewards = sharing(updates=2, warm_up=0), iter((1.0, 3.0))
    search.controller_step = lambda rng: next(rewards)  # type: ignore[method-assign]
    search.train_epoch()
    assert search.reward == 2.0
    idle = sharing(updates=0, warm_up=0)
    idle.reward = 5.0
    idle.train_epoch()
    assert idle.reward == 5.0
