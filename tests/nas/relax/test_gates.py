"""Gates of paths: their draw, their gradient, what they leave alone, and the policy gradient, by closed forms."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

torch = pytest.importorskip("torch")

from katib_flow.nas.relax import gates  # noqa: E402

ALPHA = torch.tensor([0.3, -1.0, 0.8, 0.0], dtype=torch.float64)


def test_paths_are_drawn_without_replacement_by_their_probabilities():
    rng, count = np.random.default_rng(0), 6_000
    drawn = [tuple(gates.sampled(ALPHA, 2, rng)) for _ in range(count)]
    p = ALPHA.softmax(dim=0).numpy()
    pairs = list(itertools.permutations(range(4), 2))
    expected = [count * p[one] * p[other] / (1 - p[one]) for one, other in pairs]
    assert chisquare([drawn.count(pair) for pair in pairs], expected, sum_check=False).pvalue > 0.001


def test_a_slot_of_one_path_has_that_path():
    assert gates.sampled(ALPHA[:1], 2, np.random.default_rng(0)) == [0]


@pytest.mark.parametrize("paths", [[2, 1], [0, 1, 2, 3], [3]])
def test_the_probabilities_among_some_paths_are_as_if_there_were_no_others(paths):
    chances = gates.chances_among(ALPHA, paths)
    torch.testing.assert_close(chances[paths], ALPHA[paths].softmax(dim=0))
    assert float(chances.sum()) == pytest.approx(1)
    assert [place for place, chance in enumerate(chances) if chance > 0] == sorted(paths)


@pytest.mark.parametrize("paths", [[0, 1, 2, 3], [2, 1]])
def test_the_gradient_of_gates_is_that_of_the_softmax_over_the_paths_that_are_in(paths):
    """Equation 4; where the loss is linear in the output, it is the gradient of the blend of all these paths."""
    rng = np.random.default_rng(1)
    outputs, slope = torch.tensor(rng.normal(size=(4, 5))), torch.tensor(rng.normal(size=5))
    alpha = ALPHA.clone().requires_grad_()
    of_gates = gates.binary(gates.chances_among(alpha, paths), paths, paths[1])
    assert [gate.item() for gate in of_gates] == [float(place == paths[1]) for place in range(4)]
    assert [gate.requires_grad for gate in of_gates] == [place in paths for place in range(4)]
    mixed = sum(gate * output for gate, output in zip(of_gates, outputs, strict=True))
    (mine,) = torch.autograd.grad((mixed * slope).sum(), alpha)

    blended = alpha[paths].softmax(dim=0) @ outputs[paths]
    (autograd,) = torch.autograd.grad((blended * slope).sum(), alpha)
    torch.testing.assert_close(mine, autograd, atol=1e-12, rtol=1e-9)

    p = ALPHA[paths].softmax(dim=0).numpy()
    inner = (outputs[paths] @ slope).numpy()  # dL/dg_j = <dL/dm, o_j(x)>
    paper = [sum(inner[j] * p[j] * ((i == j) - p[i]) for j in range(len(paths))) for i in range(len(paths))]
    np.testing.assert_allclose(mine[paths].numpy(), paper, atol=1e-12)


def test_the_others_keep_their_probabilities_and_the_paths_the_ratio_of_theirs():
    alpha = ALPHA.clone()
    alpha[1] += 0.7
    alpha[3] -= 0.4
    moved = alpha.softmax(dim=0)
    gates.rescale(alpha, ALPHA, [3, 1])
    before, after = ALPHA.softmax(dim=0), alpha.softmax(dim=0)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-14, rtol=0)
    assert float(after[1] / after[3]) == pytest.approx(float(moved[1] / moved[3]))
    assert torch.equal(alpha[[0, 2]], ALPHA[[0, 2]])


def test_the_policy_gradient_is_in_the_mean_that_of_the_expected_reward():
    """Over all samples of three networks, each by its probability."""
    rewards = torch.tensor([0.2, 0.9, 0.5, -0.3], dtype=torch.float64)
    alpha = ALPHA.clone().requires_grad_()
    (exact,) = torch.autograd.grad((alpha.softmax(dim=0) * rewards).sum(), alpha)
    mean, p = torch.zeros(4, dtype=torch.float64), ALPHA.softmax(dim=0)
    for sample in itertools.product(range(4), repeat=3):
        loss = gates.policy_loss(alpha.log_softmax(dim=0)[list(sample)], rewards[list(sample)].tolist())
        (slope,) = torch.autograd.grad(loss, alpha)
        mean -= slope * p[list(sample)].prod()
    torch.testing.assert_close(mean, exact, atol=1e-12, rtol=1e-9)
