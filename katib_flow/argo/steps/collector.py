"""A custom collector beside a trial's container: its start script, and whether it has finished."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.script import as_words
from katib_flow.history import Trial
from katib_flow.metrics.lines import LineSplitter, Tail
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.template import substitute_all, substitute_env
from katib_flow.trial.collecting import collector_variables
from katib_flow.trial.diagnosis import collector_failure
from katib_flow.trial.outcome import Ending
from katib_flow.trial.protocol import COLLECT_SECONDS, TrialDirectory, substitutions, trial_name
from katib_flow.trial.reader import Reader

SILENCE_SECONDS = 5.0  # after which a collector whose end cannot be observed counts as finished
COLLECT = """\
# katib-flow: runs the program that reads the metrics; its failure does not fail the pod.
b={shared}/busybox d={shared}
[ -f $d/final ] && exit 0
{exports}
while [ ! -f $d/ready ]; do $b sleep 0.2; done
{wait}{command} > $d/collector.out 2>&1 < /dev/null
code=$?
$b cat $d/collector.out
echo $code > $d/collected.part; $b mv $d/collected.part $d/collected
exit 0
"""
AFTER = """\
while [ ! -f $d/rc ] && [ ! -f $d/gone ]; do $b sleep 0.2; done
[ -f $d/rc ] && [ "$($b cat $d/rc)" = 0 ] && [ ! -f $d/stop ] || exit 0
"""


def collect_script(context: Context, trial: Trial, directory: TrialDirectory) -> str:
    """Return the script of the collector's container; "" without a collector, or if it runs its image's own command.

    Raises:
        KatibFlowError: a value cannot be an argument, because it holds a NUL byte.
    """
    experiment, suggestion, shared = context.experiment, trial.suggestion, directory.path.parent
    collector = experiment.metrics.container
    if collector is None or collector.command is None:
        return ""
    values = substitutions(experiment, suggestion, directory, run_id=trial.run_id, uri=context.store.uri)
    protocol = collector_variables(experiment, trial_name(experiment, suggestion), directory, str(shared / "rc"))
    defaults = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108 - an emptyDir of the pod
    variables = defaults | substitute_env(collector.env, values) | protocol
    argv = substitute_all([*collector.command, *collector.args], values)
    exports, command = as_words(suggestion.id, variables, argv, shared)
    wait = AFTER if collector.starts == "after-trial" else ""
    return COLLECT.format(shared=shlex.quote(str(shared)), exports="\n".join(exports), wait=wait, command=command)


@dataclass
class Collector:
    """The progress of a trial's collector after the trial has ended.

    Attributes:
        shared: the directory that the containers share.
        reader: reads the metrics that the collector reports.
        known: whether katib-flow's busybox runs the collector and so writes its exit code.
    """

    shared: Path
    reader: Reader
    known: bool
    _since: float | None = None
    _heard: tuple[int, float] = (-1, 0.0)

    @classmethod
    def of(cls, experiment: Experiment, shared: Path, reader: Reader) -> "Collector | None":
        """Return the collector of an experiment's trials; None if the spec has no ``metrics.container``."""
        container = experiment.metrics.container
        return None if container is None else cls(shared, reader, container.command is not None)

    def busy(self, ending: Ending) -> bool:
        """Whether the collector is still reading the metrics of a trial that ended by itself and successfully.

        If the collector fails or takes too long, the reason becomes the reader's failure.
        """
        if ending != Ending(0):
            return False
        now = time.monotonic()
        self._since = self._since or now
        late = now - self._since > COLLECT_SECONDS
        if not self.known:
            return not (late or self._silent(now))
        code = self._exit_code()
        if code is None and not late:
            return True
        self.reader.failure = self.reader.failure or collector_failure("metrics.container", code, self._last_line())
        return False

    def _silent(self, now: float) -> bool:
        """Whether every objective has been reported and nothing has followed for ``SILENCE_SECONDS``."""
        count = self.reader.thinning.reported
        if count != self._heard[0]:
            self._heard = (count, now)
        _, observed = self.reader.concluded()
        objectives = [objective.metric for objective in self.reader.experiment.objective]
        return all(name in observed for name in objectives) and now - self._heard[1] > SILENCE_SECONDS

    def _exit_code(self) -> int | None:
        try:
            return int((self.shared / "collected").read_text())
        except (OSError, ValueError):
            return None

    def _last_line(self) -> str:
        lines = LineSplitter()
        for portion in Tail(self.shared / "collector.out").portions():
            lines.split(portion)
        lines.split(b"", end=True)
        return lines.last
