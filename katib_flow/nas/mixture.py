"""A mixture of classifiers: the weights that minimise the cross-entropy plus a penalty on their size.

F(w) = mean_i loss(sum_k w_k h_k(x_i), y_i) + sum_k G_k |w_k|  (Cortes et al., "AdaNet", ICML 2017, equation 4, with the
cross-entropy, which for two classes is the logistic loss). F is convex in w. At its minimum the derivative of the loss
in w_k is -G_k sign(w_k), or between -G_k and G_k if w_k is 0.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def objective(weights: Array, outputs: Array, labels: Labels, penalties: Array) -> float:
    """F(w).

    Args:
        weights, penalties: w and G, shape (member,).
        outputs: h, shape (member, image, class).
        labels: shape (image,), from 0.
    """
    logits = np.tensordot(weights, outputs, axes=1)
    losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return float(losses.mean() + penalties @ np.abs(weights))


def slope(weights: Array, outputs: Array, labels: Labels) -> Array:
    """The gradient of the loss, without the penalty, in w; shape (member,)."""
    wrong = softmax(np.tensordot(weights, outputs, axes=1), axis=1)
    wrong[np.arange(len(labels)), labels] -= 1
    return np.einsum("kic,ic->k", outputs, wrong) / len(labels)


def mixture(outputs: Array, labels: Labels, penalties: Array, start: Array) -> Array:
    """The weights at the minimum of F; arguments as for ``objective``. F is never higher there than at ``start``.

    Each weight is the difference of two non-negative variables, so that F is smooth in them, and zeros are exact.
    """
    count = len(start)

    def split(both: Array) -> tuple[float, Array]:
        weights = both[:count] - both[count:]
        steep = slope(weights, outputs, labels)
        value = objective(weights, outputs, labels, 0 * penalties) + float(penalties @ (both[:count] + both[count:]))
        return value, np.concatenate([steep + penalties, penalties - steep])

    begin = np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)])
    how = {"ftol": 0.0, "gtol": 1e-8, "maxiter": 2000, "maxfun": 4000}
    both = minimize(split, begin, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * count), options=how).x
    weights = both[:count] - both[count:]
    better = objective(weights, outputs, labels, penalties) <= objective(start, outputs, labels, penalties)
    return weights if better else start
