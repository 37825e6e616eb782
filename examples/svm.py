"""A support-vector machine on handwritten digits: a training script that doesn't know katib-flow.

    python examples/svm.py --C 10 --kernel rbf --gamma 0.02

It prints the accuracy of each of five folds, and finally their mean and minimum.
"""

import argparse
import statistics

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--C", type=float, default=1.0, help="penalty of an error")
    parser.add_argument("--kernel", choices=["linear", "poly", "rbf"], default="rbf")
    parser.add_argument("--gamma", type=float, help="width of the rbf kernel, or scale of the polynomial")
    parser.add_argument("--degree", type=int, default=3, help="of the polynomial")
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images /= 16.0
    accuracies: list[float] = []
    for train, valid in StratifiedKFold(5, shuffle=True, random_state=0).split(images, labels):
        machine = SVC(C=args.C, kernel=args.kernel, gamma=args.gamma or "scale", degree=args.degree)
        machine.fit(images[train], labels[train])
        accuracies.append(machine.score(images[valid], labels[valid]))
        print(f"fold {len(accuracies)}: {accuracies[-1]:.4f}")
    print(f"accuracy={statistics.mean(accuracies)} worst={min(accuracies)}")


if __name__ == "__main__":
    main()
