"""What a collector of the user's own is told, wherever it runs beside a trial."""

from katib_flow.metrics import katib
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.protocol import ENDED_FILE, REPORT_FILE, TRIAL_FILE, TrialDirectory

COLLECTOR_KNOWS = ("trial.id", "trial.name", "trial.directory", "trial.file", "experiment.name")
"""What ``${...}`` may name where the command is that of the image: the same for every trial, or known to Argo."""


def collector_variables(experiment: Experiment, name: str, directory: TrialDirectory, ended: str) -> dict[str, str]:
    """The trial's files, and where it may report as to Katib in a pod.

    Args:
        name: of the trial.
        ended: a file that is there when the trial's program has ended.
    """
    files = {TRIAL_FILE: str(directory.trial_file), REPORT_FILE: str(directory.report_file), ENDED_FILE: ended}
    return {**files, **katib.reporting_to(name, experiment.metrics.port or katib.PORT)}
