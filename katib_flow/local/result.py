"""The result of a finished or interrupted experiment."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from katib_flow.history import History, Trial
from katib_flow.loop import Verdict
from katib_flow.markup import table
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Status, Store
from katib_flow.trial.table import rows, telling
from katib_flow.wording import counted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """An experiment with its trials.

    Attributes:
        verdict: whether more trials may start, and the reason if not.
        status, reason: how it ended, as recorded.
        run_id: the id of its MLflow parent run.
        store: the store that holds it.
    """

    experiment: Experiment
    history: History
    verdict: Verdict
    status: Status
    reason: str
    run_id: str
    name: str
    store: Store = field(repr=False, compare=False)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, by index."""
        return self.history.trials

    @property
    def best(self) -> Trial | None:
        """The best trial by the first objective; None if no trial has a finite value."""
        return self.experiment.best(self.history)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other trial dominates; with one objective, those that share the best value."""
        from katib_flow.pareto import front

        return front(self.experiment, self.history)

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row per trial: id, state, parameters, observations, times, message (requires pandas)."""
        import pandas as pd

        return pd.DataFrame(rows(self.experiment, self.history))

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report as one self-contained HTML file, and return its path.

        Raises:
            KatibFlowError: Plotly is missing, or the file cannot be written.
        """
        from katib_flow.reports.stored import write_report

        write_report(self.store, self.store.get(self.run_id), Path(path))
        return Path(path)

    def _repr_html_(self) -> str:
        table_rows = rows(self.experiment, self.history)
        shown = [{name: row[name] for name in telling(table_rows)} for row in table_rows]
        return table(f"{self.name}: {self.status}, {self.reason}", shown)

    def __repr__(self) -> str:
        best: Any = self.best
        text = f"best {best.id} {dict(best.assignment)} {dict(best.observations)}" if best else "no trial with a value"
        if len(self.experiment.objective) > 1 and best:
            text = f"front of {len(self.front)}: {', '.join(trial.id for trial in self.front[:8])}"
        return f"<Result {self.name}: {counted(len(self.trials), 'trial')}, {text}; {self.reason}>"
