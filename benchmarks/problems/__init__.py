"""Search-quality problems: ``PROBLEMS`` by name, half for tuning algorithms and half held out."""

from problems import classifiers, hard, regressors, synthetic
from problems.problem import PROBLEMS, Problem

__all__ = ["PROBLEMS", "Problem", "classifiers", "hard", "regressors", "select", "synthetic"]


def select(words: str) -> list[Problem]:
    """Problems of a comma-separated list of names and halves; ``all`` is all of them."""
    chosen: dict[str, Problem] = {}
    for word in words.split(","):
        found = {name: each for name, each in PROBLEMS.items() if word in (name, each.half, "all")}
        if not found:
            raise SystemExit(f"problem {word!r}: need one of tuning, heldout, all, {', '.join(PROBLEMS)}")
        chosen |= found
    return list(chosen.values())
