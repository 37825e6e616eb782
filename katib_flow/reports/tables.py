"""Trials as a table in a report."""

from collections.abc import Sequence

from katib_flow.history import Trial
from katib_flow.reports.blocks import Table
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.table import rows, telling


def trial_table(experiment: Experiment, trials: Sequence[Trial], marked: frozenset[int] = frozenset()) -> Table:
    """One row per trial, without columns that are empty in all of them."""
    records = rows(experiment, trials)
    columns = telling(records)
    return Table(columns, [[record[name] for name in columns] for record in records], marked)
