"""Makes the report of an experiment and its trials. Pure functions: ``stored`` reads and writes, ``page`` renders.

The size of a report is bounded, whatever the number of trials; each section says what it leaves out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from katib_flow.history import History, Metric, State, Trial
from katib_flow.pareto import front
from katib_flow.reports import charts
from katib_flow.reports.architectures import architecture_sections, search_names
from katib_flow.reports.blocks import Block, Card, Chart, Code, Facts, Report, Section, Text
from katib_flow.reports.descent import lineage_sections
from katib_flow.reports.evolution import improvements, lineage
from katib_flow.reports.failures import failure_sections
from katib_flow.reports.fronts import MOST_ROWS, front_sections
from katib_flow.reports.parameters import importance_sections, importances, parameter_sections
from katib_flow.reports.rungs import rung_sections
from katib_flow.reports.tables import trial_table
from katib_flow.reports.timeline import timeline_sections
from katib_flow.spaces import search_space
from katib_flow.spec import dump_yaml
from katib_flow.spec.template import as_text
from katib_flow.tracking.names import readable
from katib_flow.tracking.records import Control, Record, Status
from katib_flow.tracking.summary import command, reproduce
from katib_flow.trial.table import cell
from katib_flow.wording import counted

MOST_CURVES = 20
LONGEST_CONSTANT = 80  # characters; the spec at the end of the report is complete
_NEVER_STOPPED = Control()
Series = Mapping[str, Sequence[Metric]]
"""By trial id, the values of the requested metrics."""


@dataclass(frozen=True)
class Wanted:
    """Series that a report needs besides the history: all values of some metrics in some trials."""

    trials: tuple[Trial, ...]
    metrics: tuple[str, ...]


def wanted(record: Record, history: History) -> list[Wanted]:
    """The series to read: the curves of the best trials, and the choices of a supernet's search."""
    experiment = record.experiment
    names = tuple(objective.metric for objective in experiment.objective)
    curves = Wanted(tuple(experiment.ranked(history)[:MOST_CURVES]), names)
    best = experiment.best(history)
    line = lineage(history, best) if best is not None and experiment.architecture is not None else ()
    search = Wanted(tuple(line), search_names(line))
    return [request for request in (curves, search) if request.trials and request.metrics]


def report(
    record: Record,
    history: History,
    series: Series,
    *,
    control: Control = _NEVER_STOPPED,
    shares: bool = True,
    now: float | None = None,
) -> Report:
    """The report on the current state of an experiment.

    Args:
        series: the series that ``wanted`` names.
        control: holds how long the experiment ran before it was resumed.
        shares: whether to estimate the importance of parameters, which takes a second or two.
        now: seconds since the epoch; by default the end of the experiment, or the newest time in its trials.
    """
    experiment = record.experiment
    matter = importances(experiment, record.name, history) if shares else []
    ranked = experiment.ranked(history)
    best = ranked[0] if ranked else None
    undominated = front(experiment, history) if len(experiment.objective) > 1 else []
    sections = [
        _outcome(record, history, control),
        *_best(record, best),
        *front_sections(experiment, history, undominated),
        *_course(record, history),
        *(architecture_sections(experiment, history, best, series) if best is not None else ()),
        *_curves(record, ranked, series),
        *parameter_sections(experiment, history, matter),
        *importance_sections(experiment, matter),
        *rung_sections(experiment, history),
        *lineage_sections(experiment, history),
        *timeline_sections(history, latest(record, history) if now is None else now),
        *failure_sections(history, search_space(experiment).parameters),
        *_table(record, history, ranked),
        Section("The spec", [Code(dump_yaml(experiment.to_dict()), "spec.yaml")]),
    ]
    return Report(record.name, str(record.status), _lead(record, best, undominated), experiment.description, sections)


def _lead(record: Record, best: Trial | None, undominated: Sequence[Trial]) -> str:
    why = f"{record.reason[:1].upper()}{record.reason[1:]}. " if record.reason else ""
    if best is None:
        return f"{why}No trial has a finite value of the objective yet."
    first, *others = record.experiment.objective
    if others:
        trials = counted(len(undominated), "trial is", "trials are")
        return f"{why}{trials} on the front: no other trial is as good in every objective and better in one."
    return f"{why}The best is trial {best.id}, with {first.metric} {cell(best.observations[first.metric])}."


def _outcome(record: Record, history: History, control: Control) -> Section:
    experiment, counts = record.experiment, history.counts()
    chosen = experiment.algorithm
    objectives = [
        f"{item.direction} {item.metric}{f', goal {item.goal:g}' if item.goal is not None else ''}"
        for item in experiment.objective
    ]
    seconds = control.running_seconds(record, latest(record, history))
    facts = {
        "objective": "; ".join(objectives),
        "trials": ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "none yet",
        "algorithm": f"{chosen.name}, seed {chosen.seed}{f': {chosen.why}' if chosen.why else ''}",
        "constants": ", ".join(
            f"{name} {readable(as_text(value), LONGEST_CONSTANT)}" for name, value in experiment.trial.arguments.items()
        ),
        "started": datetime.fromtimestamp(record.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "took": duration(seconds) if seconds else "",
        "MLflow run": record.run_id,
    }
    return Section("Outcome", [Facts({name: text for name, text in facts.items() if text})])


def latest(record: Record, history: History) -> float:
    """The end of an experiment, or the newest start or end of its trials, in seconds since the epoch."""
    times = (max(trial.started or 0.0, trial.ended or 0.0) for trial in history)
    return record.ended or max(times, default=0.0)


def _best(record: Record, best: Trial | None) -> Iterator[Section]:
    if best is None:
        return
    objectives = record.experiment.objective
    values = {objective.metric: cell(best.observations.get(objective.metric)) for objective in objectives}
    assigned = {name: cell(value) if value is not None else "null" for name, value in best.assignment.items()}
    title = f"Best trial{f' by {objectives[0].metric}' if len(objectives) > 1 else ''}: {best.id}"
    blocks: list[Block] = [
        Card(title, [Facts(values), Facts(assigned, small=True)]),
        Text("Run the search again, with the same seed:", soft=True),
        Code("\n".join(reproduce(record))),
        *_further(record),
    ]
    yield Section("The best, and how to reproduce it", blocks)


def _further(record: Record) -> Iterator[Text]:
    """How to continue the experiment; nothing while it runs."""
    if record.status in (Status.INTERRUPTED, Status.PAUSED):
        yield Text(f"To continue it: {command(record, 'resume')}.", soft=True)
    elif record.status.final:
        yield Text(f"To give it more trials: {command(record, 'resume')} --max-trials N.", soft=True)


def duration(seconds: float) -> str:
    """A number of seconds as text: "1 h 5 min", "2 min 10 s" or "3.2 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _course(record: Record, history: History) -> Iterator[Section]:
    blocks: list[Block] = []
    most = charts.MOST_POINTS // len(record.experiment.objective)
    for objective in record.experiment.objective:
        completed = history.completed(objective.metric)
        if not completed:
            continue
        better = improvements(objective, history)
        values = [trial.observations[objective.metric] for trial in completed]
        _, outside = charts.window(values, objective)
        remarks = [
            f"{objective.metric} is {objective.direction}d",
            f"{len(better):,} of {counted(len(completed), 'trial')} improved on all before",
            f"{most:,} of {len(completed):,} trials are drawn" if len(completed) > most else "",
            f"{counted(outside, 'much worse trial')} outside the chart (double-click to show all)" if outside else "",
            f"the dashed line is the goal, {objective.goal:g}" if objective.goal is not None else "",
        ]
        figure = charts.best_so_far(objective, completed, better, history.next_index - 1, most)
        blocks.append(
            Chart(
                figure, f"{'; '.join(remark for remark in remarks if remark)}.", 340, f"Best {objective.metric} so far"
            )
        )
    if blocks:
        yield Section("The best so far", blocks)


def _curves(record: Record, ranked: Sequence[Trial], series: Series) -> Iterator[Section]:
    blocks: list[Block] = []
    for objective in record.experiment.objective:
        drawn = {
            trial.id: points
            for trial in ranked[:MOST_CURVES]
            if len(points := [metric for metric in series.get(trial.id, ()) if metric.name == objective.metric]) > 1
        }
        if drawn:
            figure, count = charts.curves(objective, drawn, ranked[0].id), len(ranked)
            some = f"{len(drawn)} of {count:,} trials are drawn: those of the best {MOST_CURVES} with a curve."
            said = some if count > len(drawn) else ""
            blocks.append(Chart(figure, said, 420, f"Curves of {objective.metric}"))
    if blocks:
        yield Section("The course of trials", blocks)


def _table(record: Record, history: History, ranked: Sequence[Trial]) -> Iterator[Section]:
    if not len(history):
        return
    scored = {trial.id for trial in ranked}
    shown = [*ranked, *(trial for trial in history if trial.id not in scored)][:MOST_ROWS]
    marked = frozenset([0] if ranked else [])
    left = len(history) - len(shown)
    left_out = f"{counted(left, 'more trial is', 'more trials are')} not shown"
    more = [Text(f"{left_out}; for all of them: {command(record, 'export')}.", soft=True)] if left else []
    yield Section("Trials, the best first", [trial_table(record.experiment, shown, marked), *more])
