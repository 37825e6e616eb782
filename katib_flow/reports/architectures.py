"""The section of a report on how the architecture evolved."""

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
from katib_flow.wording import counted

MOST_GENERATIONS = 12
MOST_SLOTS = 18
"""Slots of a supernet whose choices are drawn over the search."""
ALONE = "No network descends from another one. These are the improvements: each was better than all before it."


def search_names(line: Iterable[Trial]) -> tuple[str, ...]:
    """The metrics that show how the choices of a supernet's search developed; empty if no supernet was trained."""
    supernet = supernet_of(line)
    if supernet is None:
        return ()
    slots = list(weight_metrics(supernet).items())[:MOST_SLOTS]
    return (*(choice_metric(slot) for slot, _ in slots), *(name for _, names in slots for name in names))


def architecture_sections(
    experiment: Experiment, history: History, best: Trial, series: Mapping[str, Sequence[Metric]]
) -> Iterator[Section]:
    """The line of descent of the best network or, if it has no ancestors, the successive best networks."""
    if experiment.architecture is None or best.suggestion.topology is None:
        return
    line = lineage(history, best)
    descent = len(line) > 1
    line = line if descent else improvements(experiment.objective[0], history)
    shown = _shown(line, best)
    networks = generations(experiment, shown)
    caption = _caption(line, best) if descent else ALONE
    if len(shown) < len(line):
        caption += f" {len(shown)} of {len(line)} are shown: the first, the best, the last; each against the one above."
    supernet = supernet_of(line)
    cards = [
        _card(experiment, network, networks[position + 1 : position + 2], best)
        for position, network in enumerate(networks)
    ]
    fresh = [card for card, network in zip(cards, networks, strict=True) if not _as_before(network)]
    charts_ = _searched(supernet, line, series) if supernet else ()
    blocks = [Text(caption), _summary(experiment, networks, best), *charts_, Row(fresh)]
    yield Section("How the architecture evolved", blocks)


def _shown(line: Sequence[Trial], best: Trial) -> list[Trial]:
    """A line, or if it is long its first, its best and its last trials."""
    last = line[-(MOST_GENERATIONS - 2) :]
    return [trial for trial in line if len(line) <= MOST_GENERATIONS or trial in (line[0], best) or trial in last]


def _caption(line: Sequence[Trial], best: Trial) -> str:
    if line[-1].id == best.id:
        return f"The best network descends from {line[0].id} in {counted(len(line) - 1, 'step')}."
    return f"Each network was derived from the one before it; the best of the {len(line)} is {best.id}."


def _as_before(generation: Generation) -> bool:
    """True if a generation shows nothing that differs from the one before."""
    before, network = generation.before, generation.network
    same = before is not None and network is not None and before.hash == network.hash
    return same and not generation.changes


def _summary(experiment: Experiment, networks: Sequence[Generation], best: Trial) -> Table:
    names = [objective.metric for objective in experiment.objective]
    rows = [
        [
            generation.trial.id,
            *(generation.trial.observations.get(name) for name in names),
            f"{generation.network.parameters:,}" if generation.network else None,
            f"{generation.network.flops / 1e6:.3g}" if generation.network else None,
            _short("; ".join(generation.changes)) or ("as before" if generation.before else "the first"),
        ]
        for generation in networks
    ]
    marked = frozenset(position for position, network in enumerate(networks) if network.trial.id == best.id)
    return Table(["trial", *names, "parameters", "MFLOPs", "what is new"], rows, marked)


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most].rsplit(' ', 1)[0]} …"


def _card(experiment: Experiment, generation: Generation, following: Sequence[Generation], best: Trial) -> Card:
    from katib_flow.models.drawing import svg  # imports SciPy's optimiser, half a second that other searches save

    trial, network = generation.trial, generation.network
    names = [objective.metric for objective in experiment.objective]
    values = ", ".join(f"{name} {cell(trial.observations.get(name))}" for name in names)
    title = f"{trial.id}{', the best' if trial.id == best.id else ''}: {values}"
    if generation.searched:
        title += " (with shared weights; the current choices)"
    blocks: list[Block] = [Text(change) for change in generation.changes]
    if network is not None:
        blocks.append(Picture(svg(network, generation.before), f"the network of trial {trial.id}"))
    else:
        blocks.append(Text("This trial's network could not be read.", soft=True))
    algorithm, after = find_algorithm(experiment.algorithm.registered_name), following[0].network if following else None
    if algorithm is not None and algorithm.draw is not None and network is not None:
        blocks += algorithm.draw(trial, network, after)
    return Card(title, blocks)


def _searched(supernet: Topology, line: Sequence[Trial], series: Mapping[str, Sequence[Metric]]) -> Iterator[Block]:
    """Charts of how the choices of a supernet developed over the segments of its search."""
    points: dict[str, list[tuple[int, float]]] = {}
    for trial in line:
        for metric in series.get(trial.id, ()):
            if not isinstance(metric.value, tuple):
                points.setdefault(metric.name, []).append((metric.step, float(metric.value)))
    slots = dict(list(supernet.flat.groups.items())[:MOST_SLOTS])
    left = len(supernet.flat.groups) - len(slots)
    more = f" {counted(left, 'more slot is', 'more slots are')} not shown." if left else ""
    taken = {
        slot: [(step, int(index)) for step, index in points.get(choice_metric(slot), ()) if index in range(len(names))]
        for slot, names in slots.items()
    }
    if any(taken.values()):
        caption = f"The choice that the search preferred for each slot at each step.{more}"
        yield Chart(choice_charts.choices(slots, taken), caption, 110 + 26 * len(slots), "Choices over the search")
    weights = {
        slot: [sorted(points.get(name, ())) for name in names] for slot, names in weight_metrics(supernet).items()
    }
    if any(curve for slot in slots for curve in weights[slot]):
        caption = f"The weight of each choice of a slot at each step of the search.{more}"
        yield Chart(
            choice_charts.weights(slots, weights), caption, charts.grid_height(len(slots)), "Weights of the choices"
        )
