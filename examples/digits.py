"""A multi-layer perceptron on scikit-learn's handwritten digits, as an experiment in Python.

``python examples/digits.py`` searches here; ``katib-flow run examples/digits.yaml`` does the same from YAML.
"""

from collections.abc import Iterator

import katib_flow as kf


@kf.experiment(
    parameters={
        "lr": kf.Float(1e-4, 1e-1, scale="log"),
        "hidden": kf.Int(16, 128, scale="log"),
        "alpha": kf.Float(1e-6, 1e-1, scale="log"),
        "activation": kf.Categorical(["relu", "tanh"]),
    },
    maximize="accuracy",
    goal=0.995,
    additional_metrics=["loss"],
    metrics={"strategy": {"accuracy": "max", "loss": "min"}},
    algorithm="sobol",
    seed=7,
    max_trials=16,
    parallel_trials=2,
    name="digits-python",
)
def train(lr: float, hidden: int, alpha: float, activation: str, epochs: int = 20) -> Iterator[dict[str, float]]:
    """Train and yield the validation accuracy and the loss after every epoch."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    x, x_valid, y, y_valid = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    network = MLPClassifier(
        (hidden,), activation=activation, alpha=alpha, learning_rate_init=lr, batch_size=32, random_state=0
    )
    for _ in range(epochs):
        network.partial_fit(x, y, classes=np.arange(10))
        yield {"accuracy": network.score(x_valid, y_valid), "loss": network.loss_}


if __name__ == "__main__":
    result = train.run()
    print(result.best)
