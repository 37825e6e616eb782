"""The search of ProxylessNAS: one path for the weights, two for the gates; memory, latency, REINFORCE, segments."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms import check_algorithm, find_algorithm
from katib_flow.models.presets import space_of
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")

from katib_flow.models.build import build  # noqa: E402
from katib_flow.models.latency import operations_on_maps  # noqa: E402
from katib_flow.nas.relax import gates, shared  # noqa: E402
from katib_flow.nas.systems.proxylessnas import Gated, ProxylessSettings  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402

torch.set_num_threads(1)
SPACE = space_of(Architecture(space="mobile-chain", settings={"channels": 2, "layers": 2, "kernels": [3, 5]}))
DATA = load_data("digits", 64)


def searching(seed=0, state=None, space=SPACE, **settings):
    settings = {"batch": 16, "latency": "flops", "epochs": 3, "warm_up": 0, **settings}
    network = build(space.supernet(), seed=seed, affine=False)
    return Gated(network, DATA, ProxylessSettings(**settings), seed, state)


def bits(tensors):
    return [tensor.detach().clone() for tensor in tensors]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def lean(search, seed=0):
    """Architecture weights that are not all alike."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for alpha in search.alphas.values():
            alpha.copy_(torch.from_numpy(rng.normal(size=len(alpha))))


def rows(search, half="valid"):
    return tuple(part[:16] for part in getattr(search, half))


@contextmanager
def sampling(monkeypatch):
    """What is drawn inside, by how many at a time."""
    draws, sampled = [], gates.sampled
    with monkeypatch.context() as patch:
        patch.setattr(gates, "sampled", lambda *args: draws.append(sampled(*args)) or draws[-1])
        yield draws


def test_a_step_of_the_gates_changes_two_probabilities_of_each_slot_and_no_weights(monkeypatch):
    search = searching()
    lean(search)
    before, weights = bits(alpha.softmax(dim=0) for alpha in search.alphas.values()), bits(search.network.weights())
    for turn in range(3):  # the moments of the steps before move nothing either
        before = bits(alpha.softmax(dim=0) for alpha in search.alphas.values())
        with sampling(monkeypatch) as draws:
            search.gates_step(rows(search), np.random.default_rng(turn))
        pairs = [draw for draw in draws if len(draw) == 2]
        assert len(pairs) == len(search.alphas)
        for pair, old, alpha in zip(pairs, before, search.alphas.values(), strict=True):
            new, others = alpha.softmax(dim=0), [place for place in range(len(alpha)) if place not in pair]
            torch.testing.assert_close(new[others], old[others], atol=1e-7, rtol=0)
            assert (new[pair] - old[pair]).abs().min().item() > 1e-4
    assert same(weights, search.network.weights())


def test_the_gradient_of_the_gates_is_that_of_equation_4_on_the_sampled_network(monkeypatch):
    """dL/dg by autograd with two paths on of each slot, then the formula; and the slope of the expected latency."""
    search = searching(latency_weight=0.7)
    lean(search)
    search.network.double().train()
    images, labels = rows(search)
    slopes = {}
    monkeypatch.setattr(search.architect, "step", lambda: slopes.update({s: a.grad for s, a in search.alphas.items()}))
    with sampling(monkeypatch) as draws:
        search.gates_step((images.double(), labels), np.random.default_rng(5))
    pairs, on = draws[: len(search.alphas)], [draw[0] for draw in draws[len(search.alphas) :]]
    leaves = {
        slot: torch.eye(len(alpha), dtype=torch.float64)[place].requires_grad_()
        for (slot, alpha), place in zip(search.alphas.items(), on, strict=True)
    }
    search.network.choose(leaves)  # all paths are run
    loss = torch.nn.functional.cross_entropy(search.network(images.double()), labels)
    upstream = torch.autograd.grad(loss, list(leaves.values()))
    assert {place == pair[0] for place, pair in zip(on, pairs, strict=True)} == {True, False}  # the draw is no order
    for (slot, alpha), pair, inner in zip(search.alphas.items(), pairs, upstream, strict=True):
        p = alpha.detach()[pair].softmax(dim=0).numpy()
        cost = np.array([search.shares[slot][path] for path in pair])
        inner = inner.numpy()[pair] + 0.7 * cost
        paper = [sum(inner[j] * p[j] * ((i == j) - p[i]) for j in range(2)) for i in range(2)]
        np.testing.assert_allclose(slopes[slot].numpy()[pair], paper, rtol=1e-6, atol=1e-9)
        others = [place for place in range(len(alpha)) if place not in pair]
        assert not slopes[slot][others].any()


def test_a_path_that_is_never_sampled_keeps_its_weights_bit_for_bit():
    search = searching(epochs=2)
    search.train_epoch()  # so that every weight has momentum, which would move it
    out = {slot: len(alpha) - 2 for slot, alpha in search.alphas.items()}  # mbconv6-5x5, or 3-5x5
    with torch.no_grad():
        for slot, place in out.items():
            search.alphas[slot][place] = -200.0
    paths = {slot: search.network.mixed()[slot][0].paths for slot in out}
    before = {slot: [bits(path.parameters()) for path in paths[slot]] for slot in out}
    search.train_epoch()
    changed = 0
    for slot, place in out.items():
        for number, path in enumerate(paths[slot]):
            if number == place:
                assert before[slot][number]
                assert same(before[slot][number], path.parameters())
            else:
                changed += not same(before[slot][number], path.parameters())
    assert changed > len(out)


def map_bytes(run):
    """Bytes of the maps that are kept for the way back: (image, channel, height, width), each storage once."""
    kept = {}

    def pack(tensor):
        if tensor.dim() == 4 and tensor.shape[0] == 16:
            kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(size for size, _ in kept.values())


def alike(count):
    """A space of so many operations whose maps are alike."""
    operations = {f"k{k}": {"op": "mbconv", "params": {"e": 3, "k": k, "c": 4}} for k in range(3, 3 + 2 * count, 2)}
    edges = [
        {"id": "stem", "src": "x", "dst": "a", "op": "conv", "params": {"c": 4}},
        {"id": "1", "src": "a", "dst": "b", "op": {"slot": "1"}},
        {"id": "2", "src": "b", "dst": "c", "op": {"slot": "2"}},
        {"id": "head", "src": "c", "dst": "y", "op": "head", "params": {"classes": 10}},
    ]
    vertices = dict.fromkeys("abcy", "add")
    return space_of(
        Architecture(
            space={
                "schema": "topology/1",
                "input": {"shape": [1, 8, 8]},
                "output": {"classes": 10},
                "slots": {slot: {"among": list(operations)} for slot in ("1", "2")},
                "operations": operations,
                "graphs": {"net": {"vertices": vertices, "edges": edges}},
            }
        )
    )


def test_a_step_of_the_gates_needs_the_memory_of_two_paths_however_many_there_are():
    def blended(search):
        search.network.choose(shared.blend(search.network))
        torch.nn.functional.cross_entropy(search.network(rows(search)[0]), rows(search)[1]).backward()

    def bytes_of(count, step):
        search = searching(space=alike(count))
        return map_bytes(lambda: step(search))

    one = bytes_of(6, lambda search: search.weight_step({"1": 0, "2": 5}, rows(search)))
    two = {count: bytes_of(count, lambda search: search.gates_step(rows(search), np.random.default_rng(0)))
           for count in (3, 6)}  # fmt: skip
    every = {count: bytes_of(count, blended) for count in (2, 3, 6)}
    assert two[3] == two[6] == every[2]
    assert every[6] - every[3] == 3 * (every[3] - every[2])  # each path more costs the same
    assert one < two[6] < 2.5 * one < every[6]


def test_the_heavier_the_latency_weighs_the_less_is_expected():
    costs = []
    for weight in (0.0, 1.0, 10.0):
        search = searching(latency_weight=weight, epochs=5, alpha_lr=0.3)
        for _ in range(5):
            search.train_epoch()
        costs.append(search.metrics(DATA)["cost"])
    assert costs[0] > costs[1] > costs[2]


@pytest.mark.parametrize("gradient", ["gates", "reinforce"])
def test_weights_learn_from_one_half_and_gates_from_the_other(gradient):
    search, seen = searching(gradient=gradient, epochs=1, samples=2), {"weights": [], "gates": []}
    step, name = search.weight_step, f"{gradient}_step"
    architecture_step = getattr(search, name)
    search.weight_step = lambda child, batch: (seen["weights"].append(batch[0]), step(child, batch))
    setattr(search, name, lambda batch, rng: (seen["gates"].append(batch[0]), architecture_step(batch, rng)))
    search.train_epoch()
    halves = shared.halves(DATA)
    for images, half in zip(seen.values(), halves, strict=True):
        found = torch.cat(images).flatten(1).sum(dim=1).sort().values
        torch.testing.assert_close(found, torch.from_numpy(half.images).flatten(1).sum(dim=1).sort().values)


def test_gates_wait_for_the_warm_up_and_then_for_so_many_steps_of_the_weights():
    search, steps = searching(epochs=3, warm_up=1, every=2), []
    search.gates_step = lambda batch, rng: steps.append(search.epoch)
    for _ in range(3):
        search.train_epoch()
    assert steps == [2, 3]  # an epoch has two steps of the weights
    assert ProxylessSettings(epochs=40).warm_up_epochs == 13


def test_every_slot_has_one_path_drawn_by_its_probability():
    search, rng = searching(), np.random.default_rng(0)
    with torch.no_grad():
        search.alphas["1.1"].copy_(torch.tensor([0.0, 2.0, -50.0, -50.0, -50.0]))
    drawn = [search.child(rng)["1.1"] for _ in range(600)]
    assert set(drawn) == {0, 1}
    assert np.mean(drawn) == pytest.approx(np.exp(2) / (1 + np.exp(2)), abs=0.05)  # 3.8 standard errors


def test_reinforce_rewards_accuracy_less_latency_and_learns_from_it():
    search = searching(gradient="reinforce", latency_weight=0.5)
    child = dict.fromkeys(search.alphas, 0)
    share = sum(search.shares[slot][0] for slot in child)
    batch = rows(search)
    search.network.choose(shared.one_hot(search.network, child))
    with torch.no_grad():
        accuracy = float((search.network.train()(batch[0]).argmax(dim=1) == batch[1]).float().mean())
    assert search.reward(child, batch) == pytest.approx(accuracy - 0.5 * share)
    search.reward = lambda child, batch: float(child["1.2"] == 3)  # a metric without a gradient
    weights, rng = bits(search.network.weights()), np.random.default_rng(0)
    before = search.alphas["1.2"].softmax(dim=0)[3].item()
    for _ in range(20):
        search.reinforce_step(batch, rng)
    assert search.alphas["1.2"].softmax(dim=0)[3].item() > max(0.6, before)
    assert same(weights, search.network.weights())


def test_the_likeliest_path_of_every_slot_is_derived_and_what_it_takes_is_told():
    search = searching()
    search.epoch = 1
    wanted = {slot: number % len(alpha) for number, (slot, alpha) in enumerate(search.alphas.items())}
    with torch.no_grad():
        for slot, place in wanted.items():
            search.alphas[slot][place] = 50.0
    told = search.metrics(DATA)
    assert {slot: told[f"choice/{slot}"] for slot in wanted} == wanted
    assert told["flops"] == pytest.approx(sum(search.costs[slot][place] for slot, place in wanted.items()))
    assert told["cost"] == pytest.approx(told["flops"] / sum(max(of) for of in search.costs.values()))
    assert told["search/progress"] == pytest.approx(1 / 3)
    assert told["alpha/1.2/1-mbconv(c=2,e=6,k=3)"] == pytest.approx(1)
    assert len(search.derived()) == 6


@pytest.mark.parametrize("gradient", ["gates", "reinforce"])
def test_a_search_in_segments_is_the_search_in_one_bit_for_bit(gradient, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps({each.entry: 1.0 + n for n, each in enumerate(operations_on_maps(SPACE.supernet()))}))
    settings = {"gradient": gradient, "latency": str(table), "warm_up": 1, "samples": 2, "latency_weight": 1.0}
    whole, state = searching(seed=3, **settings), None
    for _ in range(3):
        whole.train_epoch()
    for _ in range(3):
        part = searching(seed=3, state=state, **settings)
        part.train_epoch()
        state = part.state()
        table.unlink(missing_ok=True)  # it is read once
    assert part.epoch == 3
    assert same(bits(whole.network.parameters()), bits(part.network.parameters()))
    assert whole.metrics(DATA)["latency"] == part.metrics(DATA)["latency"] > 1
    assert all(alpha.any() for alpha in whole.alphas.values())


def test_a_space_that_it_cannot_search_is_refused_and_its_own_is_named():
    made = Experiment.parse(spec(parameters={}, architecture="macro", algorithm="proxylessnas"))
    (problem,) = check_algorithm(made)
    assert "mobile-chain" in problem.need


def test_a_segment_is_trained_with_the_settings_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "topology.json").write_text(json.dumps(SPACE.supernet().to_dict()))
    entry = find_algorithm("proxylessnas")
    (told,) = entry.segment(entry.settings(batch=16, latency="flops", epochs=1, warm_up=0), DATA)
    search = searching(epochs=1)
    search.train_epoch()
    assert told == search.metrics(DATA)  # whoever asks for no seed has 0
    assert torch.get_num_threads() == 1
    assert search.optimiser.param_groups[0]["nesterov"]


def test_the_defaults_are_those_that_the_example_was_run_with():
    small = ProxylessSettings()
    assert (small.epochs, small.warm_up_epochs, small.batch, small.every, small.samples) == (40, 13, 16, 1, 8)
    assert (small.lr, small.weight_decay, small.alpha_lr, small.latency_weight) == (0.2, 3e-4, 0.1, 0.1)


def test_the_papers_preset_has_what_its_authors_run():
    paper = ProxylessSettings.model_validate({"preset": "paper"})
    assert (paper.epochs, paper.warm_up_epochs, paper.batch, paper.every) == (40 + 120, 40, 256, 5)
    assert (paper.lr, paper.lr_end, paper.weight_decay, paper.alpha_lr) == (0.025, 0.0, 4e-5, 1e-3)
    assert (paper.samples, paper.retrain) == (10, 1)
