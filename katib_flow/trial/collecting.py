"""The environment of a user's own metrics collector, on this machine or in a pod."""

from katib_flow.metrics import katib
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.protocol import ENDED_FILE, REPORT_FILE, TRIAL_FILE, TrialDirectory

COLLECTOR_KNOWS = ("trial.id", "trial.name", "trial.directory", "trial.file", "experiment.name")
"""The names allowed in ``${...}`` if the image sets the command: the same for every trial, or known to Argo."""


def collector_variables(experiment: Experiment, name: str, directory: TrialDirectory, ended: str) -> dict[str, str]:
    """Variables with the paths of the trial's files, and with the endpoint for reports in Katib's protocol.

    Args:
        name: the name of the trial.
        ended: the path of a file that exists once the trial's program has ended.
    """
    files = {TRIAL_FILE: str(directory.trial_file), REPORT_FILE: str(directory.report_file), ENDED_FILE: ended}
    return {**files, **katib.reporting_to(name, experiment.metrics.port or katib.PORT)}
