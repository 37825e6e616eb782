"""How the architecture evolved: the part of a report that architectures have."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from katib_flow.algorithms.registry import find_algorithm
from katib_flow.history import History, Metric, Trial
from katib_flow.models.choices import choice_metric, weight_metrics
from katib_flow.models.topology import Topology
from katib_flow.reports import charts, choice_charts
from katib_flow.reports.blocks import Block, Card, Chart, Picture, Row, Section, Table, Text
from katib_flow.reports.evolution import Generation, generations, improvements, lineage, supernet_of
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.table import cell

MOST_GENERATIONS = 12
MOST_SLOTS = 18
"""Of a supernet, whose choices are drawn over the search."""
ALONE = "No network descends from another here. These were the best, each better than all before it."


def search_names(line: Iterable[Trial]) -> tuple[str, ...]:
    """The metrics that tell how the choices of a supernet's search developed; none where none was trained."""
    supernet = supernet_of(line)
    if supernet is None:
        return ()
    slots = list(weight_metrics(supernet).items())[:MOST_SLOTS]
    return (*(choice_metric(slot) for slot, _ in slots), *(name for _, names in slots for name in names))


def architecture_sections(
    experiment: Experiment, history: History, best: Trial, series: Mapping[str, Sequence[Metric]]
) -> Iterator[Section]:
    """The line of descent of the best network, or where it has no ancestors, the best networks one after the other."""
    if experiment.architecture is None or best.suggestion.topology is None:
        return
    line = lineage(history, best)
    descent = len(line) > 1
    line = line if descent else improvements(experiment.objective[0], history)
    shown = _shown(line, best)
    found = generations(experiment, shown)
    said = _said(line, best) if descent else ALONE
    if len(shown) < len(line):
        said += f" Of {len(line)}, {len(shown)} are shown: the first, the best, the last; each against the one above."
    supernet = supernet_of(line)
    cards = [_card(experiment, each, found[place + 1 : place + 2], best) for place, each in enumerate(found)]
    fresh = [card for card, each in zip(cards, found, strict=True) if not _as_before(each)]
    charts_ = _searched(supernet, line, series) if supernet else ()
    blocks = [Text(said), _summary(experiment, found, best), *charts_, Row(fresh)]
    yield Section("How the architecture evolved", blocks)


def _shown(line: Sequence[Trial], best: Trial) -> list[Trial]:
    """A line as it is, or where it is long its first, the best, and the last of it."""
    last = line[-(MOST_GENERATIONS - 2) :]
    return [each for each in line if len(line) <= MOST_GENERATIONS or each in (line[0], best) or each in last]


def _said(line: Sequence[Trial], best: Trial) -> str:
    if line[-1].id == best.id:
        return f"The best network descends from {line[0].id} in {len(line) - 1} steps."
    return f"Each network was made of the one before it; the best of the {len(line)} is {best.id}."


def _as_before(each: Generation) -> bool:
    """Whether a generation has nothing to show that the one before had not."""
    same = each.before is not None and each.network is not None and each.before.hash == each.network.hash
    return same and not each.changes


def _summary(experiment: Experiment, found: Sequence[Generation], best: Trial) -> Table:
    names = [objective.metric for objective in experiment.objective]
    rows = [
        [
            each.trial.id,
            *(each.trial.observations.get(name) for name in names),
            f"{each.network.parameters:,}" if each.network else None,
            f"{each.network.flops / 1e6:.3g}" if each.network else None,
            _short("; ".join(each.changes)) or ("as before" if each.before else "the first"),
        ]
        for each in found
    ]
    marked = frozenset(place for place, each in enumerate(found) if each.trial.id == best.id)
    return Table(["trial", *names, "parameters", "MFLOPs", "what is new"], rows, marked)


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most].rsplit(' ', 1)[0]} …"


def _card(experiment: Experiment, each: Generation, following: Sequence[Generation], best: Trial) -> Card:
    from katib_flow.models.drawing import svg  # with SciPy's optimiser, half a second that other searches do not need

    names = [objective.metric for objective in experiment.objective]
    values = ", ".join(f"{name} {cell(each.trial.observations.get(name))}" for name in names)
    title = f"{each.trial.id}{', the best' if each.trial.id == best.id else ''}: {values}"
    if each.searched:
        title += " (with the shared weights; what would be taken now)"
    blocks: list[Block] = [Text(change) for change in each.changes]
    if each.network is not None:
        blocks.append(Picture(svg(each.network, each.before), f"the network of trial {each.trial.id}"))
    else:
        blocks.append(Text("Its network is not to be had.", soft=True))
    algorithm, after = find_algorithm(experiment.algorithm.registered_name), following[0].network if following else None
    if algorithm is not None and algorithm.draw is not None and each.network is not None:
        blocks += algorithm.draw(each.trial, each.network, after)
    return Card(title, blocks)


def _searched(supernet: Topology, line: Sequence[Trial], series: Mapping[str, Sequence[Metric]]) -> Iterator[Block]:
    """How the choices of a supernet developed over the segments of its search."""
    told: dict[str, list[tuple[int, float]]] = {}
    for trial in line:
        for metric in series.get(trial.id, ()):
            if not isinstance(metric.value, tuple):
                told.setdefault(metric.name, []).append((metric.step, float(metric.value)))
    slots = dict(list(supernet.flat.groups.items())[:MOST_SLOTS])
    left = len(supernet.flat.groups) - len(slots)
    more = f" {left} more slots are left out." if left else ""
    taken = {
        slot: [(step, int(place)) for step, place in told.get(choice_metric(slot), ()) if place in range(len(names))]
        for slot, names in slots.items()
    }
    if any(taken.values()):
        said = f"What would have been taken for each slot, as the search went on.{more}"
        yield Chart(choice_charts.choices(slots, taken), said, 110 + 26 * len(slots), "Choices over the search")
    weights = {slot: [sorted(told.get(name, ())) for name in names] for slot, names in weight_metrics(supernet).items()}
    if any(points for slot in slots for points in weights[slot]):
        said = f"The weight of each choice of a slot, as the search went on.{more}"
        yield Chart(
            choice_charts.weights(slots, weights), said, charts.grid_height(len(slots)), "Weights of the choices"
        )
