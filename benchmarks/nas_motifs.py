"""Measure the worth of a hierarchy of motifs, with and without evolution (Liu et al., ICLR 2018, table 2), on digits.

Called by ``benchmarks.nas_claims``. Both spaces have the operations, the stages and the channels of the system's
example, and 15 decisions: one has motifs within a cell, the other a flat cell of 6 nodes.
"""

from typing import Any

import numpy as np

from benchmarks.nas_training import Lineage
from benchmarks.nas_worlds import EXAMPLES, search_trials
from katib_flow.loop import load
from katib_flow.models.spaces.hierarchical import Hierarchical
from katib_flow.spec import Experiment

TRAININGS = 32
FLAT = {"nodes": 6, "operations": list(Hierarchical().operations)}
SPACES: dict[str, dict[str, Any]] = {"flat": {"space": "cell", "settings": FLAT}, "motifs": {}}


def motifs(seeds: int) -> None:
    """Print the mean test loss of the chosen network, for two spaces and two algorithms."""
    for space, architecture in SPACES.items():
        for algorithm in ("random", "hierarchical"):
            losses = np.array([searched(architecture, algorithm, seed) for seed in range(seeds)])
            error = losses.std(ddof=1) / np.sqrt(seeds)
            print(
                f"motifs: {space}, {algorithm}: test loss {losses.mean():.4f} (standard error {error:.4f}) after "
                f"{TRAININGS} trainings; {seeds} seeds",
                flush=True,
            )


def searched(architecture: dict[str, Any], algorithm: str, seed: int) -> float:
    """The test loss of the network whose validation loss is the lowest."""
    example = load(EXAMPLES / "nas-hierarchical.yaml").to_dict()
    settings = example["algorithm"]["settings"] if algorithm == "hierarchical" else {}
    experiment = Experiment.parse(
        {
            **example,
            "architecture": architecture or example["architecture"],
            "algorithm": {"name": algorithm, "seed": seed, "settings": settings},
            "limits": {"max_trials": TRAININGS},
        }
    )
    lineage = Lineage(experiment)
    trainings = []
    for trial in search_trials(experiment, lineage.train, "results"):
        trainings.append(lineage.training(trial))
        if len(trainings) == TRAININGS:
            break
    return min(trainings, key=lambda training: training.seen).true
