"""What every step starts from: the spec in its environment, the store, the run it belongs to."""

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
    """One experiment as a step sees it.

    Attributes:
        segment: number of the Workflow that the step runs in, of those that the experiment is spread over.
    """

    store: Store
    record: Record
    segment: int

    @property
    def experiment(self) -> Experiment:
        return self.record.experiment

    @property
    def earlier(self) -> History:
        """The trials of the experiments that this one starts from."""
        return self.store.earlier(self.experiment)

    @classmethod
    def open(cls, run: str, segment: int = 0) -> "Context":
        """The experiment of a run; recorded now, where this is its first step."""
        experiment = spec_of_environment()
        store = patient_store(experiment)
        context = cls(store, store.create(settled(experiment), key=run), segment)
        context.hold()
        return context

    def hold(self) -> None:
        """Show that the Workflow runs the experiment.

        Raises:
            Held: a process elsewhere does.
        """
        self._lease().take()

    def release(self) -> None:
        """Give the experiment back, so that it may go on elsewhere."""
        with self._lease():
            pass

    def _lease(self) -> Holding:
        own = workflow_lease(os.environ.get(NAMESPACE_VARIABLE, ""), self.record.key, time.time())
        return self.store.lease(self.record, lambda text: print(text, file=sys.stderr), own)

    def proposed(self, history: History, n: int, start: int | None = None) -> list[Suggestion]:
        """Suggestions; what the algorithm learns for them is kept for the next pod.

        Raises:
            KatibFlowError: the algorithm failed.
        """
        learnings = self.store.learnings
        kept = learnings.find(self.record)
        answer = loop.proposed(self.experiment, history, n, start=start, earlier=self.earlier, kept=kept)
        learnings.keep(self.record, answer.learnt)
        return list(answer.suggestions)

    def with_stopping_rules(self, history: History, suggestions: list[Suggestion]) -> list[Suggestion]:
        """Suggestions with the rules that a service of early stopping gives for them, where there is one.

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
        """Number of the newest segment there is, this one at least."""
        newest = self.store.segment(self.record)
        if newest < self.segment:
            self.take_over(self.segment)
        return max(newest, self.segment)

    def is_newest(self) -> bool:
        """The fence: False where a later segment has taken over, and this step must leave everything alone."""
        return self.newest() == self.segment

    def take_over(self, segment: int) -> None:
        self.store.set_segment(self.record, segment)


def spec_of_environment() -> Experiment:
    """The experiment in the environment.

    Raises:
        KatibFlowError: there is none, or it cannot be read.
    """
    text = os.environ.get(SPEC_VARIABLE)
    if not text:
        raise KatibFlowError(f"{SPEC_VARIABLE}: found nothing, need the spec as JSON; the compiled Workflow sets it")
    return decode_spec(text, SPEC_VARIABLE)


def tracking_uri(experiment: Experiment) -> str:
    """Where MLflow is: as the spec says, else as the pod's environment says.

    Raises:
        KatibFlowError: neither says it. A default on the pod's own disk would be lost with the pod.
    """
    uri = experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise KatibFlowError(
            "tracking.uri: found nothing, need the address of an MLflow server: in the spec, "
            "or as MLFLOW_TRACKING_URI in the namespace's ConfigMap katib-flow or in the image"
        )
    return uri


def patient_store(experiment: Experiment) -> Store:
    """The store of an experiment. A step that begins while MLflow is away waits for it like one in its midst."""
    return Store(tracking_uri(experiment), experiment.tracking.experiment, contact_seconds=PATIENCE_SECONDS)


def judge(context: Context, history: History, control: Control) -> Verdict:
    """The verdict now, with the run-time knobs of the experiment."""
    return loop.verdict(
        context.experiment,
        history,
        elapsed_seconds=control.running_seconds(context.record, time.time()),
        max_trials=control.max_trials,
        timeout=control.timeout,
        stop=control.stop,
    )


def cut_short(history: History) -> list[Trial]:
    """Trials that were open or killed when an earlier segment ended: they are started again first."""
    return [trial for trial in history if not trial.state.over]


def write_output(directory: Path, name: str, text: str) -> None:
    """An output of the step: there wholly, or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{name}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(directory / name)


def step_parser(doc: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of a step's arguments, with those that every step has."""
    reads = f"reads: {SPEC_VARIABLE} (the spec as JSON), MLFLOW_TRACKING_URI where the spec has no tracking.uri\n"
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, epilog=reads + examples, formatter_class=raw)
    parser.add_argument("--run", required=True, help="name of the experiment's first Workflow")
    parser.add_argument("--segment", type=int, default=0, help="number of this Workflow among the experiment's, from 0")
    return parser


def exit_after(step: Callable[[], int | None], *, always: int | None = None) -> NoReturn:
    """Run a step; every error is one message and exit code 2, or 75 where MLflow was away for too long.

    Args:
        always: the exit code whatever happens; a sidecar that fails would fail a good trial with it.
    """
    try:
        code = step() or 0
    except KatibFlowError as error:
        print(error, file=sys.stderr)
        code = TRY_LATER if isinstance(error, TrackingUnavailable) else BAD_INPUT
    except Exception as error:  # noqa: BLE001 - whatever it is, a pod's log should say it in one line
        print(f"{type(error).__name__}: {error} (a bug; {DEBUG}=1 shows where)", file=sys.stderr)
        if os.environ.get(DEBUG):
            traceback.print_exc()
        code = BAD_INPUT
    sys.stdout.flush()
    sys.exit(code if always is None else always)
