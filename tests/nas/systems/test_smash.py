"""The search of SMASH: what a step trains, what is scored, perturbations, what comes of it, segments."""

import json
from functools import partial

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms import check_algorithm, find_algorithm
from katib_flow.models.presets import space_of
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")

from katib_flow.models.build import build  # noqa: E402
from katib_flow.models.weights import load_weights  # noqa: E402
from katib_flow.nas.relax import shared  # noqa: E402
from katib_flow.nas.relax.hypernetwork import Hypernetwork  # noqa: E402
from katib_flow.nas.systems.smash import Smashing, SmashSettings, children  # noqa: E402
from katib_flow.training.data import load_data  # noqa: E402

torch.set_num_threads(1)
SPACE = space_of(
    Architecture(
        space="banks", settings={"stages": 1, "layers": 3, "banks": 2, "channels": 2, "operations": ["conv3", "conv5"]}
    )
)
DATA = load_data("digits", 64)


def searching(seed=0, state=None, **settings):
    settings = {"batch": 16, "epochs": 2, "candidates": 6, "perturbations": 4, "retrain": 2, **settings}
    network = build(SPACE.supernet(), seed=seed, affine=False, provider=partial(Hypernetwork, growth=4, depth=2))
    return Smashing(network, DATA, SmashSettings(**settings), seed, state)


def bits(tensors):
    return [tensor.detach().clone() for tensor in tensors]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def first(seed=0):
    return next(children(SPACE.supernet().flat, np.random.default_rng(seed)))


def test_a_step_trains_the_hypernetwork_and_what_the_architecture_has_and_nothing_else():
    search, child = searching(), first()
    search.train_epoch()  # everything has momentum
    paths = {slot: search.network.mixed()[slot][0].paths for slot in child if slot.endswith(".op")}
    before = {slot: [bits(path.parameters()) for path in of] for slot, of in paths.items()}
    hypernetwork = bits(search.network.provider.parameters())
    search.step(child, shared.rows(search.train, np.arange(16)))
    assert not any(torch.equal(a, b) for a, b in zip(hypernetwork, search.network.provider.parameters(), strict=True))
    for slot, of in paths.items():
        assert [same(old, path.parameters()) for old, path in zip(before[slot], of, strict=True)] == [
            place != child[slot] for place in range(len(of))
        ]


def test_every_batch_of_the_first_half_has_another_architecture():
    search, seen = searching(epochs=1), []
    search.step = lambda child, batch: seen.append((tuple(child.values()), batch[0]))
    search.train_epoch()
    assert len({child for child, _ in seen}) == len(seen) == 2
    images = torch.cat([batch for _, batch in seen]).flatten(1).sum(dim=1).sort().values
    half = shared.halves(DATA)[0].images
    torch.testing.assert_close(images, torch.from_numpy(half).flatten(1).sum(dim=1).sort().values)


def test_the_score_is_the_loss_by_written_weights_on_the_second_half():
    search, child = searching(), first()
    images, labels = (torch.from_numpy(part) for part in (shared.halves(DATA)[1].images, shared.halves(DATA)[1].labels))
    search.network.choose(shared.one_hot(search.network, child))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(search.network.train()(images), labels)
    assert search.score(child) == pytest.approx(float(loss))


def test_architectures_are_drawn_evenly():
    draws, rng = children(SPACE.supernet().flat, np.random.default_rng(0)), range(400)
    found = [next(draws) for _ in rng]
    for slot in SPACE.slots:
        assert np.mean([child[slot] for child in found]) == pytest.approx(0.5, abs=0.1)  # 4 standard errors


def test_a_perturbation_draws_a_share_of_the_decisions_anew_and_one_at_least():
    search, child, rng = searching(perturbed=0.3), first(), np.random.default_rng(0)
    changed = [
        sum(child[slot] != other[slot] for slot in child)
        for other in (search.perturbed(child, rng) for _ in range(600))
    ]
    count = len(child)  # a new draw of two is another in half of all cases
    assert np.mean(changed) == pytest.approx(0.5 * (1 + (count - 1) * 0.3), abs=0.2)
    alone = searching(perturbed=1e-9)
    few = [
        sum(child[slot] != other[slot] for slot in child) for other in (alone.perturbed(child, rng) for _ in range(100))
    ]
    assert set(few) == {0, 1}


def test_candidates_are_scored_once_each_and_then_perturbations_of_the_best():
    search, asked = searching(candidates=8, perturbations=60, perturbed=0.2), []
    search.score = lambda child: asked.append(child) or float(sum(child.values()))  # the fewest ones are the best
    scored = search.scored()
    networks = [search.bounds.network(child)[0] for child in asked]
    assert len(networks) == len(set(networks)) == len(scored)
    assert 8 < len(asked) <= 68
    values = [value for value, _ in scored]
    assert values == sorted(values)
    assert values[0] < min(sum(child.values()) for child in asked[:8])
    assert scored[0][1] in asked[8:]
    assert len(searching(candidates=8, perturbations=0).scored()) == 8


def test_no_network_larger_than_allowed_is_scored():
    sizes = sorted(searching().bounds.network(first(seed))[1] for seed in range(30))
    search = searching(candidates=4, perturbations=30, max_parameters=sizes[10])
    assert {search.bounds.network(child)[1] <= sizes[10] for _, child in search.scored()} == {True}


def test_the_best_networks_are_told_when_the_search_is_over_and_before_that_any():
    search = searching(epochs=2)
    search.train_epoch()
    told = search.metrics(DATA)
    assert (told["step"], told["search/progress"]) == (1, 0.5)
    assert not [name for name in told if name.startswith("rival/")]
    search.train_epoch()
    told, scored = search.metrics(DATA), search.scored()
    assert told["score"] == scored[0][0] < scored[1][0]
    for slot in SPACE.slots:
        assert (told[f"choice/{slot}"], told[f"rival/2/{slot}"]) == (scored[0][1][slot], scored[1][1][slot])
    assert not [name for name in told if name.startswith("rival/3")]


def test_a_search_in_segments_is_the_search_in_one_bit_for_bit():
    whole, state = searching(seed=3, epochs=3), None
    for _ in range(3):
        whole.train_epoch()
    for _ in range(3):
        part = searching(seed=3, epochs=3, state=state)
        part.train_epoch()
        state = part.state()
    assert part.epoch == 3
    assert same(bits(whole.network.parameters()), bits(part.network.parameters()))
    assert whole.metrics(DATA) == part.metrics(DATA)


@pytest.mark.parametrize("space", ["banks", "macro"])
def test_it_searches_spaces_whose_operations_read_what_slots_say(space):
    assert not list(check_algorithm(Experiment.parse(spec(parameters={}, architecture=space, algorithm="smash"))))


@pytest.mark.parametrize("space", ["cell", "pairs", "mobile", "chain"])
def test_any_other_is_refused(space):
    (problem,) = check_algorithm(Experiment.parse(spec(parameters={}, architecture=space, algorithm="smash")))
    assert "banks or macro" in problem.need


def test_a_segment_has_the_hypernetwork_that_its_settings_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "topology.json").write_text(json.dumps(SPACE.supernet().to_dict()))
    entry = find_algorithm("smash")
    given = {"epochs": 1, "batch": 16, "candidates": 6, "perturbations": 4, "retrain": 2, "growth": 4, "depth": 2}
    (told,) = entry.segment(entry.settings(**given), DATA)
    weights = load_weights(tmp_path / "model" / "weights.safetensors")
    shapes = [weights[f"provider.layers.{number}.weight"].shape[0] for number in range(2)]
    assert (shapes, "provider.layers.2.weight" in weights) == ([4, 4], False)
    search = searching(epochs=1)
    search.train_epoch()
    assert torch.get_num_threads() == 1
    assert told == search.metrics(DATA)  # whoever asks for no seed has 0


def test_the_defaults_are_those_that_the_example_was_run_with():
    small = SmashSettings()
    assert (small.epochs, small.batch, small.lr, small.weight_decay) == (150, 16, 0.2, 1e-4)
    assert (small.growth, small.depth, small.candidates, small.perturbations, small.perturbed) == (10, 4, 100, 40, 0.05)


def test_the_papers_preset_has_what_its_authors_run():
    paper = SmashSettings.model_validate({"preset": "paper"})
    assert (paper.epochs, paper.batch, paper.lr, paper.lr_end, paper.weight_decay) == (100, 50, 0.1, 0.0, 1e-4)
    assert (paper.candidates, paper.perturbations, paper.perturbed) == (500, 100, 0.05)
    assert (paper.growth, paper.depth, paper.retrain) == (10, 8 + 10 + 4, 1)
