"""How a trial ended: from its exit code, what it reported and who ended it, to a state and a message for a person."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from katib_flow.history import Metric, State, Trial
from katib_flow.metrics.text import now_ms
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.diagnosis import failure, left_out, signal_of, thinned, unavailable
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.reader import Reader

CUT_SHORT = "interrupted before it finished"
"""The message of a killed trial."""
MACHINE_SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT)


@dataclass(frozen=True)
class StopTrial:
    """A request that a running trial end now.

    Attributes:
        state: EARLY_STOPPED, what it reported counts; or KILLED, it may be started again.
        why: for a person.
    """

    state: State
    why: str = ""


@dataclass(frozen=True)
class Ending:
    """How a trial's program ended.

    Attributes:
        exit_code: negative for a signal.
        request: why it was asked to end; None where nobody asked.
        timed_out: it was ended because its time was over.
    """

    exit_code: int | None
    request: StopTrial | None = None
    timed_out: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        metrics: what it reported, in order; of very many, those that are kept.
        observations: over everything it reported.
        fault: whether the machine, not the trial, is to blame, so that it may be tried again.
        whole: whether its program ended by itself and without an error, in the midst of nothing.
    """

    state: State
    message: str = ""
    metrics: tuple[Metric, ...] = ()
    started: float = 0.0
    ended: float = 0.0
    fault: bool = False
    whole: bool = False
    observations: Mapping[str, float] = field(default_factory=dict[str, float])

    def applied_to(self, trial: Trial) -> Trial:
        """The trial in its final state."""
        series: dict[str, list[Metric]] = {}
        for metric in self.metrics:
            series.setdefault(metric.name, []).append(metric)
        return replace(
            trial,
            state=self.state,
            message=self.message,
            observations=self.observations,
            series={name: tuple(values) for name, values in series.items()},
            started=trial.started or self.started,
            ended=self.ended,
        )


def conclude(
    experiment: Experiment, directory: TrialDirectory, ending: Ending, reader: Reader, started: float
) -> Outcome:
    """The outcome of a trial of which everything has been read.

    Args:
        started: seconds since the epoch.
    """
    code = ending.exit_code
    metrics, observed = reader.concluded()
    missing = [objective.metric for objective in experiment.objective if objective.metric not in observed]
    fault = False
    if reader.failure:
        state, message = State.FAILED, reader.failure
    elif ending.timed_out:
        limit = experiment.limits.trial_timeout
        state, message = State.FAILED, f"reached limits.trial_timeout ({limit:g} s)"
    elif ending.request:
        what = {State.KILLED: f"{CUT_SHORT}, on request", State.EARLY_STOPPED: "stopped early"}
        state, why = ending.request.state, ending.request.why
        message = f"{what[state]}{': ' if why else ''}{why}"
    elif code:
        fault = signal_of(code) in MACHINE_SIGNALS
        state, message = State.FAILED, failure(code, directory, reader)
    elif missing:
        state, message = State.METRICS_UNAVAILABLE, unavailable(missing, directory, reader)
    else:
        state, message = State.SUCCEEDED, left_out(reader)
    message = "; ".join(text for text in (message, thinned(reader)) if text)
    return Outcome(state, message, tuple(metrics), started, now_ms() / 1000, fault, code == 0, observed)
