"""Search-quality problems: ``PROBLEMS`` by name, half of them for tuning algorithms and half held out."""

from problems import classifiers, hard, regressors, synthetic
from problems.problem import PROBLEMS, Problem

__all__ = ["PROBLEMS", "Problem", "classifiers", "hard", "regressors", "select", "synthetic"]


def select(words: str) -> list[Problem]:
    """The problems in a comma-separated list of names, halves and ``all``.

    Raises:
        SystemExit: a word matches no problem.
    """
    chosen: dict[str, Problem] = {}
    for word in words.split(","):
        matches = {name: problem for name, problem in PROBLEMS.items() if word in (name, problem.half, "all")}
        if not matches:
            raise SystemExit(f"problem {word!r}: need one of tuning, heldout, all, {', '.join(PROBLEMS)}")
        chosen |= matches
    return list(chosen.values())
