"""What a finished, or interrupted, experiment gives back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from katib_flow.history import History, Trial
from katib_flow.loop import Verdict
from katib_flow.markup import table
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Status, Store
from katib_flow.trial.table import rows, telling

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """An experiment with its trials.

    Attributes:
        verdict: why it may not go on, or that it may.
        status, reason: how it ended, as recorded.
        run_id: id of its MLflow parent run.
        store: where it is recorded.
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
        return self.history.trials

    @property
    def best(self) -> Trial | None:
        """The best trial by the first objective; None where no trial has a finite value."""
        return self.experiment.best(self.history)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other dominates, of several objectives; of one, those that share the best value."""
        from katib_flow.pareto import front

        return front(self.experiment, self.history)

    def to_pandas(self) -> "pd.DataFrame":
        """One row a trial: id, state, parameters, observations, times, message (needs pandas)."""
        import pandas as pd

        return pd.DataFrame(rows(self.experiment, self.history))

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report, one HTML file that needs nothing else; the path.

        Raises:
            KatibFlowError: Plotly is missing, or the file cannot be written.
        """
        from katib_flow.reports.stored import write_report

        write_report(self.store, self.store.get(self.run_id), Path(path))
        return Path(path)

    def _repr_html_(self) -> str:
        told = rows(self.experiment, self.history)
        shown = [{name: row[name] for name in telling(told)} for row in told]
        return table(f"{self.name}: {self.status}, {self.reason}", shown)

    def __repr__(self) -> str:
        best: Any = self.best
        found = f"best {best.id} {dict(best.assignment)} {dict(best.observations)}" if best else "no trial with a value"
        if len(self.experiment.objective) > 1 and best:
            found = f"front of {len(self.front)}: {', '.join(trial.id for trial in self.front[:8])}"
        return f"<Result {self.name}: {len(self.trials)} trials, {found}; {self.reason}>"
