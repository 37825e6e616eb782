"""run-experiment: a whole experiment as one step of somebody's workflow. It submits it, waits, and tells the best.

Its name follows from the step that runs it, so a second try waits for the experiment of the first.
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

MODEL, WEIGHTS = "model", "weights.safetensors"  # artifacts of a trial's run, if any
PATIENCE_SECONDS = 300.0
OUTPUTS = ("best-parameters", "best-value", "best-model-uri", "run-id")
_WITHOUT_RESULT = {"best-parameters": "{}", "best-value": "", "best-model-uri": "", "run-id": ""}


def experiment_of(text: str) -> Experiment:
    """The experiment of a spec or a Katib manifest, as YAML or JSON text."""
    if not text.strip():
        raise KatibFlowError(f"{SPEC_VARIABLE}: found nothing, need a spec as text")
    return parse_spec(text, "spec", [check_architecture])


def workflow_name(experiment: Experiment, workflow_uid: str, node: str) -> str:
    """Of the experiment that a step runs; the same for every try of the step."""
    step = re.sub(r"\(\d+\)$", "", node)  # Argo numbers the tries
    digest = hashlib.sha256(f"{workflow_uid}/{step}".encode()).hexdigest()[:8]
    return f"{experiment.name[:40].rstrip('-')}-{digest}"


class Told:
    """Whether this pod was told to go."""

    def __init__(self) -> None:
        self.now = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.now = True


class _Going(Exception):
    """This pod was told to go."""


def run(
    cluster: Cluster,
    experiment: Experiment,
    name: str,
    out: Path,
    *,
    told: Told,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run an experiment to its end and write what came of it.

    Returns:
        0, 1 where it failed, 143 where this pod was told to go: the experiment is then told to stop, as it must be
        where the workflow that asked for it has been stopped; a further try goes on with it.
    """
    store = patient_store(experiment)
    run = submit(cluster, experiment, name)
    print(f"workflow {cluster.namespace}/{run}")

    def waited(seconds: float) -> None:
        if told.now:
            raise _Going
        sleep(seconds)

    following = Following(cluster, run, store, sleep=waited)
    try:
        status = following.wait()
    except _Going:
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
    found = _WITHOUT_RESULT | {"run-id": record.run_id}
    best = record.experiment.best(store.history(record))
    if best is None:
        return found
    value = best.observations[record.experiment.objective[0].metric]
    return found | {
        "best-parameters": json.dumps(dict(best.assignment)),
        "best-value": json.dumps(value),
        "best-model-uri": _model_uri(store, best),
    }


def _model_uri(store: Store, trial: Trial) -> str:
    """Where a trial's model is: what it logged to its run as ``model``, else its weights; "" where it has neither."""
    run = f"runs:/{trial.run_id}"
    artifacts = Artifacts(store.uri, Faults(store.uri, PATIENCE_SECONDS))
    if artifacts.names(run, MODEL):
        return f"{run}/{MODEL}"
    return f"{run}/{WEIGHTS}" if WEIGHTS in artifacts.names(run, "") else ""
