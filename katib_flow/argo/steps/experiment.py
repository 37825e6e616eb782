"""run-experiment: run an experiment as one step of another workflow, and output its best trial.

The experiment's name is derived from the step, so a retry waits for the experiment of the first attempt.
"""

import contextlib
import hashlib
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from katib_flow.argo.cluster import Cluster
from katib_flow.argo.names import SPEC_VARIABLE, TERMINATED
from katib_flow.argo.steps.context import patient_store, write_output
from katib_flow.argo.submit import Following, submit
from katib_flow.errors import KatibFlowError
from katib_flow.history import Trial
from katib_flow.spaces import check_architecture
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import parse_spec
from katib_flow.tracking import Record, Status, Store
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.faults import Faults

MODEL, WEIGHTS = "model", "weights.safetensors"  # optional artifacts of a trial's run
PATIENCE_SECONDS = 300.0
OUTPUTS = ("best-parameters", "best-value", "best-model-uri", "run-id")
_WITHOUT_RESULT = {"best-parameters": "{}", "best-value": "", "best-model-uri": "", "run-id": ""}


def experiment_of(text: str) -> Experiment:
    """Parse a spec or a Katib manifest from YAML or JSON text.

    Raises:
        KatibFlowError: the text is empty.
        InvalidSpec: the spec is invalid.
    """
    if not text.strip():
        raise KatibFlowError(f"{SPEC_VARIABLE}: found nothing, need a spec as text")
    return parse_spec(text, "spec", [check_architecture])


def workflow_name(experiment: Experiment, workflow_uid: str, node: str) -> str:
    """Return the name of the Workflow of the experiment that a step runs; the same for all attempts of the step.

    Args:
        experiment: the experiment.
        workflow_uid: uid of the Workflow that the step belongs to.
        node: name of the step's node in that Workflow.
    """
    step = re.sub(r"\(\d+\)$", "", node)  # without Argo's number of the attempt
    digest = hashlib.sha256(f"{workflow_uid}/{step}".encode()).hexdigest()[:8]
    return f"{experiment.name[:40].rstrip('-')}-{digest}"


class Termination:
    """Whether this pod has received SIGTERM."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


class _Terminated(Exception):
    """This pod has received SIGTERM."""


def run(
    cluster: Cluster,
    experiment: Experiment,
    name: str,
    out: Path,
    *,
    termination: Termination,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run an experiment to its end and write its outputs.

    If this pod is terminated, the experiment is stopped, because the calling workflow may have been stopped. A retry of
    the step continues the experiment.

    Args:
        cluster: the namespace to run in.
        experiment: the experiment.
        name: name of its Workflow.
        out: directory for the outputs.
        termination: whether this pod has received SIGTERM.
        sleep: called with each pause in seconds.

    Returns:
        The exit code: 0, 1 if the experiment failed, 143 if this pod was terminated.
    """
    store = patient_store(experiment)
    run = submit(cluster, experiment, name)
    print(f"workflow {cluster.namespace}/{run}")

    def pause(seconds: float) -> None:
        if termination.requested:
            raise _Terminated
        sleep(seconds)

    following = Following(cluster, run, store, sleep=pause)
    try:
        status = following.wait()
    except _Terminated:
        _stop(store, run)
        return TERMINATED
    record = following.record
    print(f"{run}: {status}{f': {following.reason}' if following.reason else ''}")
    for output, text in (_results(store, record) if record else _WITHOUT_RESULT).items():
        write_output(out, output, text)
    return 1 if status is Status.FAILED else 0


def _stop(store: Store, run: str) -> None:
    with contextlib.suppress(KatibFlowError):
        if record := store.keyed(run):
            store.set_control(record, stop=True)


def _results(store: Store, record: Record) -> dict[str, str]:
    results = _WITHOUT_RESULT | {"run-id": record.run_id}
    best = record.experiment.best(store.history(record))
    if best is None:
        return results
    value = best.observations[record.experiment.objective[0].metric]
    return results | {
        "best-parameters": json.dumps(dict(best.assignment)),
        "best-value": json.dumps(value),
        "best-model-uri": _model_uri(store, best),
    }


def _model_uri(store: Store, trial: Trial) -> str:
    """Return the URI of a trial's model: the artifact ``model`` of its run, else its weights; "" if it has neither."""
    run = f"runs:/{trial.run_id}"
    artifacts = Artifacts(store.uri, Faults(store.uri, PATIENCE_SECONDS))
    if artifacts.names(run, MODEL):
        return f"{run}/{MODEL}"
    return f"{run}/{WEIGHTS}" if WEIGHTS in artifacts.names(run, "") else ""
