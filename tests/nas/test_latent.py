"""The encoder, the predictor and the decoder: chances that sum to one, slopes that lead up, and what they learn."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra nas)")

from katib_flow.nas.latent import (  # noqa: E402
    Fit,
    LatentModel,
    Shape,
    fit,
    packed,
    twins,
    unpacked,
    written_otherwise,
)

SMALL = Shape((3, 2, 4), embedding=4, hidden=6)
CELLS = Shape((4,) * 6, embedding=16, hidden=48)
_rng = np.random.default_rng(5)
ALONE = _rng.random((6, 4))


def goodness(tokens):
    """From 0 to 1, of sequences of six decisions, each of which counts by itself."""
    sums = np.array([ALONE[np.arange(6), row].sum() for row in tokens])
    return (sums - ALONE.min(axis=1).sum()) / (ALONE.max(axis=1).sum() - ALONE.min(axis=1).sum())


def drawn(count, seed):
    return np.random.default_rng(seed).integers(4, size=(count, 6))


def trained(tokens, scores, **how):
    model = LatentModel(CELLS, seed=0)
    fit(model, itertools.repeat(tokens), scores, Fit(**{"steps": 150, "lr": 0.01, **how}), seed=1)
    return model


@pytest.fixture(scope="module")
def model():
    tokens = drawn(160, 0)
    return trained(tokens, goodness(tokens))


def predicted(model, tokens):
    with torch.no_grad():
        return model.predict(model.encode(torch.from_numpy(tokens))).numpy()


def share_in_order(predictions, truth):
    """Of all pairs, those that the predictions put as the truth does."""
    pairs = [(a, b) for a, b in itertools.combinations(range(len(truth)), 2) if truth[a] != truth[b]]
    return np.mean([(predictions[a] > predictions[b]) == (truth[a] > truth[b]) for a, b in pairs])


def test_the_chances_of_all_sequences_sum_to_one():
    model = LatentModel(SMALL, 0)
    every = np.array(list(itertools.product(*(range(count) for count in SMALL.choices))))
    states = model.encode(torch.tensor([[2, 1, 0]])).expand(len(every), -1, -1)
    with torch.no_grad():
        logs = model.log_chances(states, torch.from_numpy(every))
    chances = sum(np.exp(logs[row, range(3), every[row]].sum().item()) for row in range(len(every)))
    assert chances == pytest.approx(1, abs=1e-12)


def test_what_is_decoded_is_the_likeliest_decision_at_each_step(model):
    states = model.encode(torch.from_numpy(drawn(20, 1)))
    tokens = model.decode(states)
    with torch.no_grad():
        likeliest = model.log_chances(states, torch.from_numpy(tokens)).argmax(dim=2).numpy()
    assert (tokens == likeliest).all()
    assert len({tuple(row) for row in tokens.tolist()}) > 1


def test_a_slot_that_is_inactive_is_not_decided_on():
    model = LatentModel(CELLS, 3)
    tokens = model.decode(model.encode(torch.from_numpy(drawn(4, 1))), lambda row, slot, before: slot != 2)
    assert (tokens[:, 2] == -1).all()
    assert (np.delete(tokens, 2, axis=1) >= 0).all()


def test_states_have_unit_length_and_predictions_are_shares():
    model = LatentModel(CELLS, 0)
    states = model.encode(torch.from_numpy(drawn(30, 2)))
    assert states.norm(dim=2).detach().numpy() == pytest.approx(np.ones((30, 6)))
    assert ((predicted(model, drawn(30, 2)) > 0) & (predicted(model, drawn(30, 2)) < 1)).all()


def test_the_predictor_orders_networks_that_it_has_not_seen_and_not_where_scores_are_shuffled(model):
    tokens, unseen = drawn(160, 0), drawn(80, 9)
    blind = trained(tokens, np.random.default_rng(2).permutation(goodness(tokens)))
    assert share_in_order(predicted(model, unseen), goodness(unseen)) > 0.85
    assert share_in_order(predicted(blind, unseen), goodness(unseen)) == pytest.approx(0.5, abs=0.12)


def test_the_decoder_writes_what_was_encoded(model):
    tokens = drawn(160, 0)
    assert (model.decode(model.encode(torch.from_numpy(tokens))) == tokens).mean() > 0.95


def test_a_small_step_along_the_slope_raises_what_is_predicted_always(model):
    tokens = drawn(60, 4)
    with torch.no_grad():
        moved = model.predict(model.improved(tokens, 0.05)).numpy()
    assert (moved > predicted(model, tokens)).all()


def test_the_step_is_along_the_slope_of_the_predictor(model):
    """Against finite differences, on the sphere that states lie on."""
    tokens, size = drawn(1, 7), 1e-6
    states = model.encode(torch.from_numpy(tokens)).detach()
    moved = (model.improved(tokens, size) - states).flatten()
    slopes = []
    for position in range(0, states.numel(), 37):
        shifted = states.clone().flatten()
        shifted[position] += 1e-6
        with torch.no_grad():
            slopes.append(float(model.predict(shifted.view_as(states)) - model.predict(states)) / 1e-6)
    slope = torch.autograd.functional.jacobian(model.predict, states)[0, 0]
    assert slope.flatten()[::37].numpy() == pytest.approx(np.array(slopes), abs=1e-6)
    tangent = slope - (slope * states[0]).sum(dim=1, keepdim=True) * states[0]
    assert moved.numpy() == pytest.approx(size * tangent.flatten().numpy(), abs=1e-9)


def test_training_is_the_same_to_the_bit_and_leaves_the_random_numbers_of_others_alone():
    tokens = drawn(20, 0)
    one, other = LatentModel(CELLS, 0), LatentModel(CELLS, 0)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    for model in (one, other):
        fit(model, itertools.repeat(tokens), goodness(tokens), Fit(steps=5), seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_what_is_packed_is_the_model_and_its_arrays(model):
    arrays = {"trials": np.arange(3), "losses": np.array([0.5, 0.25])}
    again, kept = unpacked(LatentModel(CELLS, 8), packed(model, arrays))
    assert again is not None
    assert (predicted(again, drawn(9, 3)) == predicted(model, drawn(9, 3))).all()
    assert {name: array.tolist() for name, array in kept.items()} == {"trials": [0, 1, 2], "losses": [0.5, 0.25]}
    assert unpacked(LatentModel(CELLS, 8), packed(None, arrays))[0] is None


@pytest.mark.parametrize("content", [b"", b"x" * 40, packed(LatentModel(SMALL, 0), {})])
def test_what_is_no_model_of_this_shape_is_refused(content):
    with pytest.raises(ValueError):
        unpacked(LatentModel(CELLS, 0), content)


NAMES = ["n.2.in0", "n.2.op0", "n.2.merge", "n.2.in1", "n.2.op1", "n.3.in0", "n.3.op0", "n.3.in1", "n.3.op1", "lr0"]


def test_the_two_inputs_of_a_node_are_written_in_either_order():
    assert twins(NAMES) == [(0, 3), (1, 4), (5, 7), (6, 8)]
    tokens = np.array([range(10), range(10, 20)])
    seen = {tuple(map(tuple, one.tolist())) for one in itertools.islice(written_otherwise(tokens, NAMES, 0), 80)}
    first = {row[0] for row in seen}
    assert first == {  # each node either way, its source with its operation; what has no twin stays
        (*two, *three, 9) for two in ((0, 1, 2, 3, 4), (3, 4, 2, 0, 1)) for three in ((5, 6, 7, 8), (7, 8, 5, 6))
    }
    assert {row[1] for row in seen} == {tuple(value + 10 for value in row) for row in first}
    assert len(seen) > len(first)  # not in all networks at once
    assert list(twins(["0>1", "0>2", "2.skip0", "2.skip1"])) == []
