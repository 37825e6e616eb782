"""A system of your own: local search (White et al., "Exploring the Loss Landscape in NAS", 2021).

Try the neighbours of the best network, which differ from it in one decision; move to the first that is better. If
all neighbours are known, draw a random network. ``python examples/local_search.py`` searches a cell for digits.
"""

from collections.abc import Iterator

import katib_flow as kf
from katib_flow.algorithms.distinct import PATIENCE, Known
from katib_flow.history import Kind, Origin
from katib_flow.nas.policy import needs_slots


def _check(experiment: kf.Experiment, settings: kf.Settings) -> Iterator[kf.SpecError]:
    yield from needs_slots(experiment, "cell")


@kf.algorithm("local-search", check=_check, strategy="modification", scope="cell")
def local_search(ask: kf.Ask[kf.Settings]) -> list[kf.Suggestion]:
    """Local search: a neighbour of the best network so far; if all of them are known, any network."""
    best, known = ask.experiment.best(ask.history), Known.from_ask(ask)

    def propose(index: int) -> kf.Suggestion | None:
        rng = ask.rng(index)  # one stream per index: the same numbers on every call
        neighbours = ((ask.space.mutate(best.assignment, rng), best.index) for _ in range(PATIENCE)) if best else ()
        neighbour = known.first(neighbours)
        assignment = neighbour[0] if neighbour else known.drawn(rng)
        if assignment is None:  # the space is used up, which ends the experiment
            return None
        origin = Origin(Kind.MODIFY, (neighbour[1],)) if neighbour else Origin()
        return kf.Suggestion(index, assignment, origin=origin)

    return known.suggestions(ask.indices, propose)


if __name__ == "__main__":
    experiment = kf.Experiment.parse(
        {
            "name": "local-search",
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "architecture": "cell",
            "algorithm": "local-search",
            "limits": {"max_trials": 20, "parallel_trials": 2},
            "trial": {"arguments": {"epochs": 5}},
        }
    )
    print(kf.run(experiment))
