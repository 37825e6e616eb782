"""The outcome of a trial: its state and a message for people, from its exit code, its metrics and a request to stop."""

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
    """A request to a running trial to end now.

    Attributes:
        state: EARLY_STOPPED, if its metrics count; KILLED, if it may be started again.
        why: the reason, for people.
    """

    state: State
    why: str = ""


@dataclass(frozen=True)
class Ending:
    """How a trial's program ended.

    Attributes:
        exit_code: negative for a signal.
        request: the request to end, if there was one.
        timed_out: True if it was ended by ``limits.trial_timeout``.
    """

    exit_code: int | None
    request: StopTrial | None = None
    timed_out: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        metrics: its metrics, in order; thinned if there are very many.
        started, ended: seconds since the epoch.
        fault: True if the machine is to blame, not the trial, so that it may be tried again.
        whole: True if its program ended with exit code 0.
        observations: the observations over all of its metrics, including those left out by thinning.
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
    """The outcome of a trial whose output and reports have been read to their end.

    Args:
        started: when it started, in seconds since the epoch.
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
