"""The branches of a conditional space: which branch a point lies in, and which one to search on its own next.

A branch is a set of parameters that are active together. A model of the whole space gives up a branch after a few poor
points, although only a search within it shows how good it can become. Therefore some suggestions search the branch with
the fewest trials for its size as if there were no other, and improve on the best of its own trials.

Source: Li et al., "Efficient Automatic CASH via Rising Bandits", AAAI 2020, section 3: an arm is an optimiser of one
branch, whose reward rises with every pull. Departs from it: no arm is eliminated, because elimination lost branches
that rise late (benchmarks/search.py); the other suggestions, whose model sees all branches, exploit the best one.
"""

import numpy as np
from numpy.typing import NDArray

from katib_flow.algorithms.features import Array, Features

MOST_ALONE = 0.5  # the largest share of suggestions that search one branch
FEW_BRANCHES = 6  # with more branches than this, the share falls

Branch = NDArray[np.bool_]
"""Which parameters are inactive in a branch, shape (parameter,)."""


def in_branch(units: Array, branch: Branch) -> NDArray[np.bool_]:
    """Whether each point lies in a branch, shape (n, parameter) -> (n,)."""
    return (np.isnan(units) == branch).all(axis=1)


def least_searched(features: Features, units: Array) -> Branch:
    """The branch with the fewest points for its size, which is the number of its active parameters plus one.

    Args:
        units: the points so far, shape (n, parameter).
    """
    counts = [np.sum(in_branch(units, branch)) / (active(branch) + 1) for branch in features.branches]
    return features.branches[int(np.argmin(counts))]


def searched_alone(features: Features, index: int, most: float = MOST_ALONE) -> bool:
    """Whether the suggestion at an index searches a single branch.

    The share of such suggestions is the share of a point's parameters that are conditional, at most ``most``: if the
    branches have most parameters in common, one model learns from all of them. The share falls with the number of
    branches, because each would get too few suggestions.
    """
    share = min(most, features.conditional_share) * min(1.0, FEW_BRANCHES / len(features.branches))
    return len(features.branches) > 1 and int((index + 1) * share) > int(index * share)


def active(branch: Branch) -> int:
    """The number of parameters that are active in a branch."""
    return int(np.sum(~branch))
