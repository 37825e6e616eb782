"""A network on handwritten digits whose learning rate changes while it trains: population based training.

Each trial trains for one interval, from the weights that its parent left in its checkpoint. The worst of the population
copy the weights of the best, and use a similar learning rate. Weights are plain arrays: nothing is unpickled.
"""

from collections.abc import Iterator

import katib_flow as kf


def train(lr: float, momentum: float, epochs: int, hidden: int = 32) -> Iterator[dict[str, float]]:
    """Train until ``epochs`` epochs in all; yield the validation accuracy after each."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, x_valid, y, y_valid = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    rng = np.random.default_rng(0)
    state = {"a": rng.normal(0, 0.2, (64, hidden)), "b": rng.normal(0, 0.2, (hidden, 10)), "epoch": np.array(0)}
    before = kf.parent_checkpoint_dir()
    if before:
        with np.load(before / "weights.npz") as saved:
            state = dict(saved)
    a, b, first = state["a"], state["b"], int(state["epoch"])
    speed_a, speed_b = np.zeros_like(a), np.zeros_like(b)
    for epoch in range(first, epochs):
        for batch in np.array_split(np.random.default_rng(epoch).permutation(len(x)), 42):
            here = np.maximum(x[batch] @ a, 0)
            scores = np.exp(here @ b - (here @ b).max(axis=1, keepdims=True))
            error = (scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[y[batch]]) / len(batch)
            speed_a = momentum * speed_a - lr * x[batch].T @ ((error @ b.T) * (here > 0))
            speed_b = momentum * speed_b - lr * here.T @ error
            a, b = a + speed_a, b + speed_b
        yield {"accuracy": float(((np.maximum(x_valid @ a, 0) @ b).argmax(axis=1) == y_valid).mean())}
    np.savez(kf.checkpoint_dir() / "weights.npz", a=a, b=b, epoch=np.array(epochs))
