"""The table of scores and ranks, from recorded runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from problems import PROBLEMS
from scipy.stats import rankdata

from katib_flow.wording import counted

Scores = Mapping[str, Mapping[str, NDArray[np.float64]]]  # algorithm -> problem -> one score per seed
RESAMPLES = 2000


def scores_of(entries: Sequence[Mapping[str, Any]], at: int) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Scores after ``at`` evaluations, or at the end of a shorter run; see ``Scores``."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        loss = entry["trace"][min(at, len(entry["trace"])) - 1]
        scores[entry["algorithm"]][entry["problem"]].append(PROBLEMS[entry["problem"]].score(loss))
    return {name: {p: np.array(values) for p, values in rows.items()} for name, rows in scores.items()}


def _means(scores: Scores, problems: Sequence[str], rng: np.random.Generator | None = None) -> NDArray[np.float64]:
    """Mean score over the seeds, or over a resample of them, shape (algorithm, problem)."""

    def mean(values: NDArray[np.float64]) -> float:
        return float(values.mean() if rng is None else rng.choice(values, len(values)).mean())

    return np.array([[mean(rows[problem]) for problem in problems] for rows in scores.values()])


def _ranks(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean rank of each algorithm over the problems; 1 is the best."""
    return rankdata(-means.round(6), axis=0).mean(axis=1)


def table(entries: Sequence[Mapping[str, Any]], at: int, *, detail: bool = False) -> str:
    """The table as text, over the problems on which every algorithm has run.

    Args:
        at: the number of evaluations after which runs are scored.
        detail: add the mean score on each problem.
    """
    scores = scores_of(entries, at)
    if not scores:
        return "  no runs are recorded"
    problems = [name for name in PROBLEMS if all(name in rows for rows in scores.values())]
    means, rng = _means(scores, problems), np.random.default_rng(0)
    draws = [_means(scores, problems, rng) for _ in range(RESAMPLES)]
    low, high = np.percentile([draw.mean(axis=1) for draw in draws], [2.5, 97.5], axis=0)
    ranks = _ranks(means)
    rank_low, rank_high = np.percentile([_ranks(draw) for draw in draws], [2.5, 97.5], axis=0)
    wins = (means >= means.max(axis=0) - 1e-6).sum(axis=1)
    lines = [f"  {'algorithm':28} {'score':>6}  {'95 %':>14}  {'rank':>5}  {'95 %':>11}  wins  seeds  cpu s/suggestion"]
    for row in np.argsort(ranks):
        name = list(scores)[row]
        seeds = min(len(values) for values in scores[name].values())
        seconds = np.mean([entry.get("cpu_seconds", np.nan) for entry in entries if entry["algorithm"] == name])
        lines.append(
            f"  {name:28} {means[row].mean():6.3f}  {low[row]:6.3f}..{high[row]:6.3f}  {ranks[row]:5.2f}  "
            f"{rank_low[row]:5.2f}..{rank_high[row]:4.2f}  {wins[row]:4}  {seeds:5}  {seconds:16.4f}"
        )
    lines += [f"  {counted(len(problems), 'problem')}: {', '.join(problems)}"]
    return "\n".join(lines + (_detail(scores, problems, means) if detail else []))


def _detail(scores: Scores, problems: Sequence[str], means: NDArray[np.float64]) -> list[str]:
    head = f"  {'':24}" + "".join(f"{name[-14:]:>15}" for name in scores)
    return [head] + [
        f"  {problem:24}" + "".join(f"{value:15.3f}" for value in column)
        for problem, column in zip(problems, means.T, strict=True)
    ]
