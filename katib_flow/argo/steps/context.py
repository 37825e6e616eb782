"""The context of every step: the spec from its environment, the store, and the run that it belongs to."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from katib_flow import loop
from katib_flow.algorithms.auto import settled
from katib_flow.argo.names import BAD_INPUT, NAMESPACE_VARIABLE, SPEC_VARIABLE, TRY_LATER
from katib_flow.argo.spec_text import decode_spec
from katib_flow.errors import KatibFlowError, TrackingUnavailable
from katib_flow.history import History, Suggestion, Trial
from katib_flow.loop import Verdict
from katib_flow.spec.experiment import Experiment
from katib_flow.stopping import with_rules
from katib_flow.tracking import PATIENCE_SECONDS, Control, Record, Store
from katib_flow.tracking.lease import Holding, workflow_lease

DEBUG = "KATIB_FLOW_DEBUG"


@dataclass(frozen=True)
class Context:
    """The experiment of a step.

    Attributes:
        store: the experiment's store.
        record: the experiment in the store.
        segment: number of the step's Workflow among those of the experiment, from 0.
    """

    store: Store
    record: Record
    segment: int

    @property
    def experiment(self) -> Experiment:
        """The experiment as recorded."""
        return self.record.experiment

    @property
    def earlier(self) -> History:
        """The trials of the earlier experiments that this one builds on."""
        return self.store.earlier(self.experiment)

    @classmethod
    def open(cls, run: str, segment: int = 0) -> "Context":
        """Open the experiment of a run, and record it if this is its first step.

        Raises:
            KatibFlowError: the environment has no valid spec or no tracking URI, or MLflow does not answer.
            Held: a process outside the Workflow runs the experiment.
        """
        experiment = spec_of_environment()
        store = patient_store(experiment)
        context = cls(store, store.create(settled(experiment), key=run), segment)
        context.hold()
        return context

    def hold(self) -> None:
        """Renew the Workflow's lease on the experiment.

        Raises:
            Held: a process outside the Workflow holds the lease.
        """
        self._lease().take()

    def release(self) -> None:
        """Release the lease, so that the experiment can be resumed elsewhere."""
        with self._lease():
            pass

    def _lease(self) -> Holding:
        own = workflow_lease(os.environ.get(NAMESPACE_VARIABLE, ""), self.record.key, time.time())
        return self.store.lease(self.record, lambda text: print(text, file=sys.stderr), own)

    def proposed(self, history: History, n: int, start: int | None = None) -> list[Suggestion]:
        """Ask the algorithm for suggestions, and keep what it has learnt for the next pod.

        Args:
            history: the trials so far.
            n: the most suggestions to return.
            start: index of the first suggestion; by default the next one of the history.

        Raises:
            KatibFlowError: the algorithm failed.
        """
        learnings = self.store.learnings
        kept = learnings.find(self.record)
        answer = loop.proposed(self.experiment, history, n, start=start, earlier=self.earlier, kept=kept)
        learnings.keep(self.record, answer.learnt)
        return list(answer.suggestions)

    def with_stopping_rules(self, history: History, suggestions: list[Suggestion]) -> list[Suggestion]:
        """Add the rules of the early-stopping service, if there is one, to suggestions.

        Raises:
            KatibFlowError: the service failed.
        """
        stopping, name = self.experiment.early_stopping, self.experiment.objective[0].metric
        if stopping is None or stopping.service is None or not suggestions:
            return suggestions
        curves = self.store.curves([trial for trial in history if trial.run_id], [name])
        trials = [replace(trial, series={name: tuple(curves.get(trial.id, ()))}) for trial in history]
        return with_rules(self.experiment, History(tuple(trials)), suggestions)

    def newest(self) -> int:
        """Return the number of the newest segment, which is at least this one."""
        newest = self.store.segment(self.record)
        if newest < self.segment:
            self.take_over(self.segment)
        return max(newest, self.segment)

    def is_newest(self) -> bool:
        """Whether this segment is the newest; if not, a later one has taken over and this step must change nothing."""
        return self.newest() == self.segment

    def take_over(self, segment: int) -> None:
        """Record a segment as the newest."""
        self.store.set_segment(self.record, segment)


def spec_of_environment() -> Experiment:
    """Read the experiment from the environment.

    Raises:
        KatibFlowError: the environment has no spec, or an invalid one.
    """
    text = os.environ.get(SPEC_VARIABLE)
    if not text:
        raise KatibFlowError(f"{SPEC_VARIABLE}: found nothing, need the spec as JSON, which a compiled Workflow sets")
    return decode_spec(text, SPEC_VARIABLE)


def tracking_uri(experiment: Experiment) -> str:
    """Return MLflow's address from the spec, else from the environment.

    Raises:
        KatibFlowError: neither has one. There is no default, because a store on the pod's disk is lost with the pod.
    """
    uri = experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise KatibFlowError(
            "tracking.uri: found nothing, need the address of an MLflow server: in the spec, "
            "or as MLFLOW_TRACKING_URI in the namespace's ConfigMap katib-flow or in the image"
        )
    return uri


def patient_store(experiment: Experiment) -> Store:
    """Open the store of an experiment, waiting through an outage of MLflow from the first call on."""
    return Store(tracking_uri(experiment), experiment.tracking.experiment, contact_seconds=PATIENCE_SECONDS)


def judge(context: Context, history: History, control: Control) -> Verdict:
    """Return the current verdict, taking into account the controls that users changed while the experiment ran."""
    return loop.verdict(
        context.experiment,
        history,
        elapsed_seconds=control.running_seconds(context.record, time.time()),
        max_trials=control.max_trials,
        timeout=control.timeout,
        stop=control.stop,
    )


def cut_short(history: History) -> list[Trial]:
    """Return the trials that were open or killed when an earlier segment ended; they are restarted first."""
    return [trial for trial in history if not trial.state.over]


def write_output(directory: Path, name: str, text: str) -> None:
    """Write an output of the step atomically."""
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{name}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(directory / name)


def step_parser(doc: str | None, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments common to all steps."""
    reads = f"reads: {SPEC_VARIABLE} (the spec as JSON), MLFLOW_TRACKING_URI if the spec has no tracking.uri\n"
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, epilog=reads + examples, formatter_class=raw)
    parser.add_argument("--run", required=True, help="name of the experiment's first Workflow")
    parser.add_argument("--segment", type=int, default=0, help="number of this Workflow among the experiment's, from 0")
    return parser


def exit_after(step: Callable[[], int | None], *, always: int | None = None) -> NoReturn:
    """Run a step and exit. An error becomes one message and exit code 2, or 75 after a long outage of MLflow.

    Args:
        step: the step; it returns the exit code, or None for 0.
        always: the exit code whatever happens, for sidecars, whose failure would fail a successful trial.
    """
    try:
        code = step() or 0
    except KatibFlowError as error:
        print(error, file=sys.stderr)
        code = TRY_LATER if isinstance(error, TrackingUnavailable) else BAD_INPUT
    except Exception as error:  # noqa: BLE001 - a pod's log should state any error in one line
        print(f"{type(error).__name__}: {error} (a bug; {DEBUG}=1 shows where)", file=sys.stderr)
        if os.environ.get(DEBUG):
            traceback.print_exc()
        code = BAD_INPUT
    sys.stdout.flush()
    sys.exit(code if always is None else always)
