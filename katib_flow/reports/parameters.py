"""The sections on the effect of parameters on the objective: one by one, together, and by importance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Trial
from katib_flow.reports import charts, landscape, parallel
from katib_flow.reports.blocks import Block, Chart, Section, Text
from katib_flow.reports.importance import LEAST, Importance, comparable, importance
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.sections import Objective
from katib_flow.wording import counted

MOST_PARAMETERS = 12
MOST_BARS = 20
MOST_FOR_IMPORTANCE = 400
"""The most trials for importance, whose time grows with their square."""
MOST_FOR_LANDSCAPE = 2000
Parameters = Mapping[str, Parameter]


def importances(experiment: Experiment, name: str, history: History) -> list[Importance | str]:
    """The importance for each objective, or the reason why it is missing.

    Args:
        name: the name of the experiment, with which errors begin.
    """
    shares: list[Importance | str] = []
    for objective in experiment.objective:
        completed = comparable(history.completed(objective.metric), LEAST)
        step = max(1, -(-len(completed) // MOST_FOR_IMPORTANCE))
        try:
            shares.append(importance(experiment, completed[::step], objective))
        except KatibFlowError as error:
            shares.append(str(error).removeprefix(f"{name}: "))
    return shares


def parameter_sections(
    experiment: Experiment, history: History, shares: Sequence[Importance | str]
) -> Iterator[Section]:
    """Charts of the parameters for each objective; nothing if no parameter has more than one value.

    Args:
        shares: the result of ``importances``, or empty.
    """
    varied = {name: parameter for name, parameter in search_space(experiment).parameters.items() if parameter.size != 1}
    sections: dict[str, list[Block]] = {
        "What each parameter does": [],
        "The two parameters that matter most": [],
        "Parallel coordinates": [],
    }
    for number, objective in enumerate(experiment.objective):
        all_budgets = history.completed(objective.metric)
        completed = comparable(all_budgets, LEAST)
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
            if block is not None:
                sections[title].append(replace(block, caption=block.caption + _budget_of(completed, all_budgets)))
    for title, blocks in sections.items():
        if blocks:
            yield Section(title, blocks)


def _budget_of(shown: Sequence[Trial], trials: Sequence[Trial]) -> str:
    """A sentence on the budget of the shown trials, if others are left out; else ""."""
    if len(shown) == len(trials):
        return ""
    budget, others = shown[0].suggestion.budget, counted(len(trials) - len(shown), "trial")
    compared = "without a budget" if budget is None else f"with a budget of {budget:g}"
    return f" Only trials {compared} are compared; {others} had another budget."


def _each(objective: Objective, varied: Parameters, order: Sequence[str], trials: Sequence[Trial]) -> Chart:
    shown = {name: varied[name] for name in order[:MOST_PARAMETERS]}
    points = charts.thinned(trials, frozenset(), charts.MOST_POINTS // 4)
    said = "Later trials are a deeper blue."
    if len(shown) < len(varied):
        said += f" {len(shown)} of {len(varied)} parameters are shown."
    if len(points) < len(trials):
        said += f" {len(points):,} of {len(trials):,} trials are drawn."
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
        f"{pair[0]} and {pair[1]} matter most for {objective.metric}, {how}. The surface is the mean of nearby trials, "
        f"whatever their other parameters, with gaps where no trial is near. "
        f"{objective.metric} is {objective.direction}d; pink is better."
    )
    return Chart(figure, said, 420, f"{objective.metric} over {pair[0]} and {pair[1]}")


def _all(objective: Objective, varied: Parameters, order: Sequence[str], trials: Sequence[Trial]) -> Chart | None:
    shown = {name: varied[name] for name in order[: parallel.MOST_AXES]}
    if len(shown) < 2:
        return None
    lines = len(parallel.drawn(objective, trials))
    said = f"One line per trial; the best {objective.metric} is at the top. Click on a band in the legend to hide it."
    if len(shown) < len(varied):
        said += f" {len(shown)} of {len(varied)} parameters are shown."
    if lines < len(trials):
        how = f"the best {parallel.MOST_BEST}, and an even selection of the others"
        said += f" {lines:,} of {len(trials):,} trials are drawn: {how}."
    figure = parallel.parallel(objective, shown, trials)
    title = f"Parallel coordinates by {objective.metric}"
    return Chart(figure, said, 420, title, width=parallel.width(len(shown)))


def importance_sections(experiment: Experiment, shares: Sequence[Importance | str]) -> Iterator[Section]:
    """The result of ``importances`` as bars, or the reason why an importance is missing."""
    blocks: list[Block] = []
    for share in shares:
        if isinstance(share, str):
            blocks.append(Text(f"Not shown: {share}.", soft=True))
            continue
        said = (
            f"The share of the variance of {share.metric} over the search space that each parameter explains by "
            f"itself, estimated by a random forest of {share.sample}; the lines are the deviation between its trees."
        )
        if share.pairs and share.pairs[0].share > 0.02:
            pair = share.pairs[0]
            said += f" Together, {pair.parameters[0]} and {pair.parameters[1]} explain another {pair.share:.0%}."
        varied = search_space(experiment).parameters
        names = [name for name in share.shares if varied[name].size != 1]
        said += f" The first {MOST_BARS} of {len(names)} parameters are shown." if len(names) > MOST_BARS else ""
        shown = names[:MOST_BARS]
        chart = Chart(charts.bars(share, shown), said, 90 + 26 * len(shown), f"Importance for {share.metric}")
        blocks.append(chart)
    if blocks:
        yield Section("Which parameters matter", blocks)
