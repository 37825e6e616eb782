"""EAS: what its actors may do, that children compute what their parent does, what it learns, and where it begins."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from kit import spec

pytest.importorskip("torch", reason="needs torch (the extra nas)")
import torch

from katib_flow.algorithms.registry import Ask, check_algorithm
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import answer, suggest
from katib_flow.models import Topology
from katib_flow.models.build import build
from katib_flow.models.morphisms import modify, morph, morphisms
from katib_flow.models.presets import space_of
from katib_flow.nas.growth import Candidate
from katib_flow.nas.moves import Move, episodes
from katib_flow.nas.systems.eas import Actors, EasLearner, EasSettings, episode, rewards
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture


def chain(*layers: int, reductions: Any = (1,)) -> Topology:
    return space_of(Architecture(space="chain", settings={"layers": layers, "reductions": reductions})).initial


def search(settings: Any = None, layers: Any = (4, 4), **sections: Any) -> Experiment:
    algorithm = {"name": "eas", "settings": {"units": 8, "batch": 2, "stage": 4, **(settings or {})}}
    architecture = {"space": "chain", "settings": {"layers": list(layers)}}
    return Experiment.parse(spec(architecture=architecture, algorithm=algorithm, parameters={}, **sections))


def policy(**settings: Any) -> Any:
    made = search(settings)
    return EasLearner(rewards).begin(Ask(made, History(), range(0), EasSettings(**made.algorithm.settings)))


def ended(suggestion: Suggestion, accuracy: float | None) -> Trial:
    if accuracy is None:
        return Trial(suggestion, State.FAILED)
    return Trial(suggestion, State.SUCCEEDED, {"accuracy": accuracy})


def play(made: Experiment, accuracies: list[float | None], batch: int = 1) -> History:
    history = History()
    while len(history) < len(accuracies) and (
        fresh := suggest(made, history, min(batch, len(accuracies) - len(history)))
    ):
        history = history.replaced(ended(each, accuracies[each.index]) for each in fresh)
    return history


def network(trial: Trial) -> Topology:
    return Topology.parse(trial.suggestion.topology)


@pytest.mark.parametrize(
    ("accuracy", "reward"), [(0.5, 1.0), (0.0, 0.0), (2 / 3, math.sqrt(3)), (None, 0.0), (-3.0, 0.0)]
)
def test_the_reward_is_the_tangent_of_the_accuracy(accuracy: float | None, reward: float) -> None:
    losses = np.array([[np.nan if accuracy is None else -accuracy], [0.0]])
    assert rewards(EasSettings(), losses, [0, 1]) == pytest.approx([reward, 0.0], abs=1e-12)
    percent = EasSettings(most=100.0)
    assert rewards(percent, 100 * losses, [0]) == pytest.approx([reward], abs=1e-12)


def test_the_reward_of_no_error_is_that_of_an_error_in_a_thousand() -> None:
    perfect, good = rewards(EasSettings(), np.array([[-1.0], [-0.999]]), [0, 1])
    assert perfect == good == pytest.approx(math.tan(0.999 * math.pi / 2))


ACTORS = Actors.from_settings(EasSettings())


def made(move: Move, parent: Topology) -> list[dict[str, Any]]:
    edges = list(ACTORS.vocabulary.tokens(parent))
    return [dict(edit) for edit in ACTORS.edits(move, edges, np.random.default_rng(0))]


def test_the_wider_actor_takes_layers_to_their_next_level_and_passes_over_those_that_have_none() -> None:
    parent = chain(8, 64, 6)
    tokens = tuple(ACTORS.vocabulary.tokens(parent).values())
    edits = made(Move("widen", tokens, (1, 1)), parent)  # the second layer has the widest level
    assert [(edit["edge"], edit["to"]) for edit in edits] == [("conv1", 12), ("conv3", 8)]
    assert edits[0]["seed"] != edits[1]["seed"]
    child = modify(parent, edits)
    assert [child.shapes[vertex][0] for vertex in ("1", "2", "3")] == [12, 64, 8]
    assert made(Move("widen", tokens, (0, 0)), parent) == []


def test_the_deeper_actor_inserts_a_layer_after_the_one_of_a_block() -> None:
    parent = chain(8, 12, 16)
    tokens = tuple(ACTORS.vocabulary.tokens(parent).values())
    edits = made(Move("deepen", tokens, (1, 1, 2)), parent)
    assert edits == [{"edit": "deepen", "edge": "conv3", "k": 5}]
    assert made(Move("deepen", tokens, (0, 0, 0)), parent) == [{"edit": "deepen", "edge": "conv1", "k": 1}]


def test_a_dense_layer_is_inserted_without_a_kernel() -> None:
    tokens = (5, ACTORS.vocabulary.dense)
    known = policy()
    for choices in ((0, 1), (0, 0, 2)):
        known.repeat(Move("deepen", tokens, choices))
    for choices in ((0, 1, 0), (0, 0, 3), (1, 0, 0), (0, 2)):
        with pytest.raises(ValueError, match="choices"):
            known.repeat(Move("deepen", tokens, choices))
    edits = ACTORS.edits(Move("deepen", tokens, (0, 1)), ["conv", "dense"], np.random.default_rng(0))
    assert list(edits) == [{"edit": "deepen", "edge": "dense"}]


def test_the_same_actors_grow_networks_of_three_and_of_twelve_layers() -> None:
    known = policy()
    shapes = [weight.shape for weight in known.policy.parameters()]
    for layers in (3, 12):
        parent = Candidate(chain(*[4] * layers))
        child, moves = episode(EasSettings(wider=1, deeper=2), known, parent, np.random.default_rng(0))
        assert [len(move.seen) for move in moves] == [layers + 1, layers + 1, layers + 2]
        assert len(moves[0].chosen) == layers
        assert len(child.edits) > 2
    assert [weight.shape for weight in known.policy.parameters()] == shapes
    assert known.policy.encode((0,)).states.shape == (1, 16)  # 8 units in each direction


@pytest.mark.parametrize("seed", range(3))
def test_children_compute_what_their_parent_does_also_where_a_layer_feeds_two(seed: int) -> None:
    """Statistics of normalisation are drawn; the network has a skip, so that two layers read one."""
    parent = modify(chain(4, 4, 4), [{"edit": "skip", "src": "1.pool", "dst": "3"}])
    generator = torch.Generator().manual_seed(seed)
    before = build(parent, seed=seed)
    for name, buffer in before.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    for name, weight in before.named_parameters():
        if "skip" in name:
            torch.nn.init.normal_(weight, generator=generator)
    settings = EasSettings(wider=2, deeper=2)
    child, _ = episode(settings, policy(), Candidate(parent), np.random.default_rng(seed))
    assert {edit["edit"] for edit in child.edits} == {"widen", "deepen"}
    assert {edit["edit"] for edit in child.edits} <= set(morphisms())
    weights = {name: each.numpy() for name, each in before.state_dict().items()}
    topology, inherited = morph(parent, weights, child.edits)
    after = build(topology, seed=99)
    after.load_state_dict({name: torch.as_tensor(value) for name, value in inherited.items()})
    images = torch.rand(16, 1, 8, 8, generator=generator)
    assert topology.hash == child.topology.hash != parent.hash
    with torch.no_grad():
        expected = before.eval()(images)
        assert float((expected - after.eval()(images)).abs().max() / expected.abs().max()) < 1e-5


def test_channels_that_are_copied_share_out_their_weights() -> None:
    """Net2Wider: what reads a channel reads its copies, and their columns add up to its own."""
    parent = chain(4, 4)
    weights = {name: each.numpy() for name, each in build(parent, seed=0).state_dict().items()}
    edits = made(Move("widen", tuple(ACTORS.vocabulary.tokens(parent).values()), (1, 0)), parent)
    _, wide = morph(parent, weights, edits)
    first, second = (next(name for name in weights if f"conv{number}" in name) for number in (1, 2))
    rows = weights[first].reshape(4, -1)
    copies = [int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in wide[first].reshape(8, -1)]
    assert set(copies) == set(range(4))
    old, new = weights[second], wide[second]
    for channel in range(4):
        columns = [place for place, source in enumerate(copies) if source == channel]
        assert np.allclose(new[:, columns].sum(axis=1), old[:, channel], atol=1e-6)


def test_a_planted_reward_concentrates_the_wider_actor_on_the_layer_that_it_is_for() -> None:
    """The reward is the width of the second of three layers that are alike; the others cost a little."""
    known, rng = policy(lr=0.05, units=16), np.random.default_rng(0)
    seen = tuple(ACTORS.vocabulary.tokens(chain(4, 4, 4)).values())

    def chances() -> list[float]:
        (move,) = [Move("widen", seen, (1, 1, 1))]
        return [math.exp(log.item()) for log in known.repeat(move).logs]

    assert chances() == pytest.approx([0.5] * 3, abs=0.1)
    for _ in range(40):
        moves = [known.draw("widen", seen, rng) for _ in range(8)]
        gains = [move.chosen[1] - 0.3 * move.chosen[0] - 0.3 * move.chosen[2] for move in moves]
        known.learn([(move,) for move in moves], np.array(gains))
    first, second, third = chances()
    assert second > 0.9
    assert max(first, third) < 0.2


def test_a_planted_reward_tells_the_deeper_actor_block_layer_and_kernel() -> None:
    known, rng = policy(lr=0.05, units=16), np.random.default_rng(0)
    seen = tuple(ACTORS.vocabulary.tokens(chain(4, 4, 4)).values())
    for _ in range(40):
        moves = [known.draw("deepen", seen, rng) for _ in range(8)]
        gains = [np.mean([one == two for one, two in zip(move.chosen, (1, 1, 2), strict=True)]) for move in moves]
        known.learn([(move,) for move in moves], np.array(gains))
    drawn = [known.draw("deepen", seen, rng).chosen for _ in range(40)]
    assert drawn.count((1, 1, 2)) > 30


def test_it_begins_with_the_network_to_start_from_and_networks_beside_it_are_trained_from_scratch() -> None:
    history = play(search(), [0.5] * 3, batch=3)
    assert [trial.suggestion.parent for trial in history] == [None] * 3
    assert [network(trial).weights for trial in history] == ["fresh"] * 3
    assert network(history[0]).hash == chain(4, 4).hash
    assert len({network(trial).hash for trial in history}) == 3
    (child,) = suggest(search(), history, 1)
    assert (child.parent, Topology.parse(child.topology).weights) == (0, "inherit")


def test_after_a_stage_the_best_network_is_where_episodes_begin() -> None:
    accuracies = [0.2, 0.1, 0.3, 0.25, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1]
    history = play(search(), list(accuracies))
    assert [trial.suggestion.parent for trial in history] == [None, 0, 0, 0, 2, 2, 2, 2, 4, 4]
    running = History((*history.trials[:3], Trial(history[3].suggestion), *history.trials[4:7]))
    (child,) = suggest(search(), running, 1)
    assert child.parent == 0  # a stage is over when all of it are


def test_where_the_first_trials_fail_it_goes_on() -> None:
    history = play(search(), [None, None, 0.4, None, 0.5])
    assert [trial.suggestion.parent for trial in history] == [None, None, None, 2, 2]
    assert len({network(trial).hash for trial in history}) == 5


def test_a_suggestion_keeps_the_moves_that_made_it() -> None:
    settings = {"wider": 2, "deeper": 1}
    for trial in play(search(settings), [0.5] * 6)[1:]:
        (index, moves), *_ = episodes(trial)
        assert index == trial.index
        assert [move.kind for move in moves] == ["widen", "widen", "deepen"]
        edits = network(trial).edits
        assert len(edits) == sum(sum(move.chosen) for move in moves[:2]) + 1
        assert edits[-1]["edit"] == "deepen"


def test_a_network_that_comes_up_again_counts_again_and_is_not_trained() -> None:
    """Only the wider actor, on one layer: half of all episodes leave the network as it is."""
    history = play(search({"deeper": 0, "stage": 1}, layers=(4,)), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert [network(trial).shapes["1"][0] for trial in history] == [4, 8, 12, 16, 24, 32, 48]
    again = [(trial, index, moves) for trial in history for index, moves in episodes(trial) if index != trial.index]
    assert again
    for trial, index, moves in again:
        assert index == trial.suggestion.parent
        assert [move.chosen for move in moves] == [(0,)]


def test_actors_that_make_what_is_known_again_and_again_go_on_from_it() -> None:
    """No layer is to become wider than 8, and there is one: the only network beside the start is soon known."""
    made = search({"deeper": 0, "stage": 1000, "channels": [4, 8, 12, 16]}, layers=(4,))
    history = play(made, [0.1] * 9)
    assert [network(trial).shapes["1"][0] for trial in history] == [4, 8, 12, 16]
    assert [trial.suggestion.parent for trial in history] == [None, 0, 0, 0]
    assert [len(network(trial).edits) for trial in history] == [0, 1, 2, 3]
    (_, moves), *_ = episodes(history[3])
    assert sum(sum(move.chosen) for move in moves) == 3


def test_it_ends_where_no_edit_gives_a_network_that_is_allowed() -> None:
    start = chain(4, 4)
    made = search({"max_parameters": start.parameters})
    history = play(made, [0.5])
    assert suggest(made, history, 2) == []
    bound = start.parameters + 800
    bounded = play(search({"max_parameters": bound}), [0.5] * 6)
    assert max(network(trial).parameters for trial in bounded) <= bound


def test_it_learns_from_its_trials_what_to_do() -> None:
    """Networks are good where the last of four layers is wide, and little else: half of them at first."""
    made = search({"lr": 0.05, "stage": 1000, "batch": 4, "units": 16}, layers=(4, 4, 4, 4))
    history, kept = History(), ()
    while len(history) < 36:
        answered = answer(made, history, 4, kept=kept)
        kept = (answered.learnt,) if answered.learnt else kept
        history = history.replaced(ended(each, good(each)) for each in answered.suggestions)
    values = [good(trial.suggestion) for trial in history]
    assert np.mean(values[24:]) > np.mean(values[:12]) + 0.2


def good(suggestion: Suggestion) -> float:
    topology = Topology.parse(suggestion.topology)
    *others, last = (topology.shapes[vertex][0] for vertex in ("1", "2", "3", "4"))
    return 0.9 * (last > 4) + 0.01 * others.count(4)


@pytest.mark.parametrize(
    ("sections", "where", "need"),
    [
        ({"architecture": "cell"}, "architecture.space", "such as chain"),
        ({"objective": {"metric": "loss", "direction": "minimize"}}, "objective", "an accuracy to maximize"),
    ],
)
def test_what_it_cannot_search_is_refused(sections: Any, where: str, need: str) -> None:
    made = Experiment.parse({**search().to_dict(), **sections})
    (problem,) = check_algorithm(made)
    assert problem.where == where
    assert need in problem.need


@pytest.mark.parametrize(
    ("settings", "need"),
    [({"channels": [8, 4]}, "ascending"), ({"features": [8, 8]}, "ascending"), ({"kernels": [3, 4]}, "odd")],
)
def test_levels_that_do_not_rise_and_even_kernels_are_refused(settings: Any, need: str) -> None:
    (problem,) = check_algorithm(search(settings))
    assert problem.where.startswith(f"algorithm.settings.{next(iter(settings))}")
    assert need in problem.need


@pytest.mark.parametrize(
    ("seen", "possible", "impossible"),
    [((1, ACTORS.vocabulary.pool) * 9, (7, 0, 0), (8, 0, 0)), ((1,) * 33, (0, 31, 0), (0, 32, 0))],
)
def test_of_many_blocks_and_of_many_layers_the_last_are_not_chosen(seen: Any, possible: Any, impossible: Any) -> None:
    known = policy()
    assert len(known.repeat(Move("deepen", seen, possible)).logs) == 3
    with pytest.raises(ValueError, match="choices"):
        known.repeat(Move("deepen", seen, impossible))


def test_the_paper_has_its_own_settings_and_eight_lessons_of_one_edit_each_are_for_thirty_trials() -> None:
    paper, small = EasSettings.model_validate({"preset": "paper"}), EasSettings()
    for settings in (small, paper):
        for levels in (settings.channels, settings.features, settings.kernels):
            assert all(one < two for one, two in pairwise(levels))
    assert (paper.batch, paper.wider, paper.deeper, paper.stage, paper.lr) == (10, 4, 5, 300, 0.002)
    assert paper.channels == (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512)
    assert paper.features == (64, 128, 256, 384, 512, 640, 768, 896, 1024)
    assert (paper.kernels, paper.units, paper.baseline_decay, paper.entropy) == ((1, 3, 5), 50, 0.95, 1e-5)
    assert paper.max_parameters == 33_554_432
    assert (small.batch, small.wider, small.deeper, small.stage, small.lr) == (4, 1, 1, 8, 0.01)
