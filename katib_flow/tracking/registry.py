"""A trial's network, back from the store and into MLflow's model registry."""

import logging
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from katib_flow.errors import KatibFlowError, NotFound, TrackingError
from katib_flow.history import History, Trial
from katib_flow.tracking.models import FILES, fetch_model
from katib_flow.tracking.records import Record
from katib_flow.tracking.store import Store

if TYPE_CHECKING:
    from katib_flow.models.build import Network

NAME = "network"
"""Of the model as MLflow logs it with the trial's run."""
IMAGES = 2  # of the example that it is traced with: with one, a batch could be of no other size


def network_of(
    name: str, trial: str | None = None, *, tracking_uri: str | None = None, tracking_experiment: str = "katib-flow"
) -> "Network":
    """The network of an experiment's best trial, or of another, with its trained weights.

    Args:
        name: of the experiment, or its run id.
        trial: its id, such as ``t00003``.

    Raises:
        NotFound: there is no such experiment or trial, or none with a result yet.
        KatibFlowError: it trained no network, or PyTorch is not installed.
    """
    store = Store(tracking_uri, tracking_experiment)
    record = store.find(name)
    return trained(store, record, wanted(record, store.history(record), trial))


def wanted(record: Record, history: History, trial: str | None = None) -> Trial:
    """The trial of an id, or the best one.

    Raises:
        NotFound: there is none.
    """
    if trial is None:
        if best := record.experiment.best(history):
            return best
        raise NotFound(f"{record.name}: no trial has a finite value of {record.experiment.objective[0].metric!r} yet")
    if found := next((each for each in history if each.id == trial), None):
        return found
    raise NotFound(f"{record.name}: no trial {trial}")


def trained(store: Store, record: Record, trial: Trial) -> "Network":
    """The network of a trial with its trained weights.

    Raises:
        KatibFlowError: it trained none, or PyTorch is not installed.
    """
    if record.experiment.architecture is None:
        raise KatibFlowError(f"{record.name}: searched no architecture, so its trials have no network")
    try:
        from katib_flow.models.build import load_network
    except ModuleNotFoundError as missing:
        raise KatibFlowError(f"{missing.name}: not installed; pip install 'katib-flow[nas]'") from None
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        fetch_model(store, trial.run_id, directory)
        for name in FILES:
            if not (directory / name).exists():
                raise KatibFlowError(f"trial {trial.id}: its run has no {name}; a trial keeps it by kf.save_model")
        return load_network(directory)


def register(store: Store, record: Record, trial: Trial, model: str) -> str:
    """Log the network of a trial with its run, and register it as the next version of a model; the version.

    It is kept as a program of PyTorch's own (``torch.export``), which needs no katib-flow and runs no code of ours
    where it is loaded.

    Raises:
        KatibFlowError: the trial has no trained network, or not one for images.
        TrackingError: MLflow refuses.
    """
    network = trained(store, record, trial)
    topology = network.topology
    if topology.input.shape is None:
        raise KatibFlowError(f"trial {trial.id}: its network reads text; only one for images can be registered")
    import torch
    from mlflow import MlflowClient, pytorch
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    client: Any = MlflowClient(store.uri)
    requirements = [f"mlflow=={version('mlflow')}", f"torch=={torch.__version__.partition('+')[0]}"]
    example = np.zeros((IMAGES, *topology.input.shape), dtype=np.float32)
    how: Any = {"input_example": example, "serialization_format": "pt2", "pip_requirements": requirements}
    try:
        _open_model(client, model)
        group, run_id = record.mlflow_experiment_id, trial.run_id
        model_id = client.create_logged_model(group, name=NAME, source_run_id=run_id).model_id
        with tempfile.TemporaryDirectory() as temporary:
            files = Path(temporary) / NAME
            pytorch.save_model(network.eval(), files, mlflow_model=Model(run_id=run_id, model_uuid=model_id), **how)
            client.log_model_artifacts(model_id, str(files))
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        source = f"models:/{model_id}"
        with _tracking_at(store.uri):  # where MLflow looks the source up, whatever the client's own URI is
            return str(client.create_model_version(model, source, run_id, model_id=model_id).version)
    except MlflowException as refused:
        raise TrackingError(f"model {model}: {refused.message}") from None


@contextmanager
def _tracking_at(uri: str) -> Generator[None]:
    """MLflow's tracking URI for a while; the user's is as it was, also in the environment, where MLflow writes it."""
    import mlflow

    before: Any = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _open_model(client: Any, name: str) -> None:
    """Make a registered model, where it is not there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as refused:
        if refused.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def keep_model(store: Store, record: Record, history: History) -> None:
    """Register the best network of an experiment that has ended, where its spec asks for it.

    A failure is told, not raised.
    """
    model = record.experiment.tracking.register_model
    if model is None:
        return
    try:
        register(store, record, wanted(record, history), model)
    except Exception as error:  # noqa: BLE001 - the experiment is what counts, and it has ended well
        logging.getLogger(__name__).warning("%s: no model is registered: %s", record.name, error)
