"""What the parameters do to the objective: one by one, together, and which of them matter."""

from collections.abc import Iterator, Mapping, Sequence

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Trial
from katib_flow.reports import charts, landscape, parallel
from katib_flow.reports.blocks import Block, Chart, Section, Text
from katib_flow.reports.importance import Importance, importance
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.sections import Objective

MOST_PARAMETERS = 12
MOST_BARS = 20
MOST_FOR_IMPORTANCE = 400
"""Trials that importance is learnt from: the time it takes grows with their square."""
MOST_FOR_LANDSCAPE = 2000
Parameters = Mapping[str, Parameter]


def importances(experiment: Experiment, name: str, history: History) -> list[Importance | str]:
    """The importance for each objective, or why there is none.

    Args:
        name: of the experiment, which errors begin with.
    """
    shares: list[Importance | str] = []
    for objective in experiment.objective:
        completed = history.completed(objective.metric)
        step = max(1, -(-len(completed) // MOST_FOR_IMPORTANCE))
        try:
            shares.append(importance(experiment, completed[::step], objective))
        except KatibFlowError as error:
            shares.append(str(error).removeprefix(f"{name}: "))
    return shares


def parameter_sections(
    experiment: Experiment, history: History, shares: Sequence[Importance | str]
) -> Iterator[Section]:
    """Charts of the parameters for each objective; nothing where no parameter has more than one value.

    Args:
        shares: what ``importances`` gives; empty where it was not asked for.
    """
    varied = {name: each for name, each in search_space(experiment).parameters.items() if each.size != 1}
    sections: dict[str, list[Block]] = {
        "What each parameter does": [],
        "The two parameters that matter most": [],
        "Parallel coordinates": [],
    }
    for number, objective in enumerate(experiment.objective):
        completed = history.completed(objective.metric)
        if len(completed) < 2 or not varied:
            continue
        known = shares[number] if number < len(shares) else None
        known = known if isinstance(known, Importance) else None
        order = [name for name in (known.shares if known else varied) if name in varied]
        for title, block in zip(
            sections,
            (
                _each(objective, varied, order, completed),
                _two(objective, varied, completed, known),
                _all(objective, varied, order, completed),
            ),
            strict=True,
        ):
            sections[title] += [] if block is None else [block]
    for title, blocks in sections.items():
        if blocks:
            yield Section(title, blocks)


def _each(objective: Objective, varied: Parameters, order: Sequence[str], trials: Sequence[Trial]) -> Chart:
    shown = {name: varied[name] for name in order[:MOST_PARAMETERS]}
    points = charts.thinned(trials, frozenset(), charts.MOST_POINTS // 4)
    said = "The bluer, the later." + (f" {len(shown)} of {len(varied)} parameters." if len(shown) < len(varied) else "")
    if len(points) < len(trials):
        said += f" {len(points):,} of {len(trials):,} trials."
    figure = charts.against(objective, shown, points)
    return Chart(figure, said, charts.grid_height(len(shown)), f"{objective.metric} over each parameter")


def _two(objective: Objective, varied: Parameters, trials: Sequence[Trial], known: Importance | None) -> Chart | None:
    chosen = charts.thinned(trials, frozenset(), MOST_FOR_LANDSCAPE)
    pair = landscape.pair_of(objective, varied, chosen, known)
    if pair is None:
        return None
    figure = landscape.landscape(objective, varied, chosen, pair)
    how = "by importance" if known else "by how far the means of their values differ"
    said = (
        f"{pair[0]} and {pair[1]} matter most for {objective.metric}, {how}. The surface is the mean of the trials "
        f"nearby, whatever their other parameters; it is empty where none was near. "
        f"{objective.metric} is to be {objective.direction}d: the pinker, the better."
    )
    return Chart(figure, said, 420, f"{objective.metric} over {pair[0]} and {pair[1]}")


def _all(objective: Objective, varied: Parameters, order: Sequence[str], trials: Sequence[Trial]) -> Chart | None:
    shown = {name: varied[name] for name in order[: parallel.MOST_AXES]}
    if len(shown) < 2:
        return None
    lines = len(parallel.drawn(objective, trials))
    said = f"A line a trial; the best {objective.metric} is at the top. A click in the legend hides a band."
    if len(shown) < len(varied):
        said += f" {len(shown)} of {len(varied)} parameters."
    if lines < len(trials):
        how = f"the best {parallel.MOST_BEST}, and an even choice of the others"
        said += f" {lines:,} of {len(trials):,} trials are drawn: {how}."
    figure = parallel.parallel(objective, shown, trials)
    title = f"Parallel coordinates by {objective.metric}"
    return Chart(figure, said, 420, title, width=parallel.width(len(shown)))


def importance_sections(experiment: Experiment, shares: Sequence[Importance | str]) -> Iterator[Section]:
    """What ``importances`` gives as bars, or as a sentence that says why there is nothing to show."""
    blocks: list[Block] = []
    for each in shares:
        if isinstance(each, str):
            blocks.append(Text(f"Not shown: {each}.", soft=True))
            continue
        said = (
            f"What share of the variance of {each.metric} over the search space each parameter explains by itself, "
            f"by a random forest of {each.trials} trials; the lines say how far its trees disagree."
        )
        if each.pairs and each.pairs[0].share > 0.02:
            pair = each.pairs[0]
            said += f" Together, {pair.parameters[0]} and {pair.parameters[1]} explain another {pair.share:.0%}."
        varied = search_space(experiment).parameters
        names = [name for name in each.shares if varied[name].size != 1]
        said += f" The first {MOST_BARS} of {len(names)} parameters." if len(names) > MOST_BARS else ""
        shown = names[:MOST_BARS]
        chart = Chart(charts.bars(each, shown), said, 90 + 26 * len(shown), f"Importance for {each.metric}")
        blocks.append(chart)
    if blocks:
        yield Section("Which parameters matter", blocks)
