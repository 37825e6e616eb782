"""Loads a trial's network from the store, and registers it in MLflow's model registry."""

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
"""The name of the model that MLflow logs with the trial's run."""
IMAGES = 2  # in the example that the network is traced with: tracing with one would fix the batch size to one


def network_of(
    name: str, trial: str | None = None, *, tracking_uri: str | None = None, tracking_experiment: str = "katib-flow"
) -> "Network":
    """The network of an experiment's best trial, or of another trial, with its trained weights.

    Args:
        name: the name of the experiment, or its run id.
        trial: the id of a trial, such as ``t00003``; by default that of the best one.

    Raises:
        NotFound: there is no such experiment or trial, or no trial has a value of the objective yet.
        KatibFlowError: the trial has no stored network, or PyTorch is not installed.
    """
    store = Store(tracking_uri, tracking_experiment)
    record = store.find(name)
    return trained(store, record, wanted(record, store.history(record), trial))


def wanted(record: Record, history: History, trial: str | None = None) -> Trial:
    """The trial with an id, by default the best one.

    Raises:
        NotFound: there is no such trial.
    """
    if trial is None:
        if best := record.experiment.best(history):
            return best
        raise NotFound(f"{record.name}: no trial has a finite value of {record.experiment.objective[0].metric!r} yet")
    if named := next((known for known in history if known.id == trial), None):
        return named
    raise NotFound(f"{record.name}: no trial {trial}")


def trained(store: Store, record: Record, trial: Trial) -> "Network":
    """The network of a trial with its trained weights.

    Raises:
        KatibFlowError: the trial has no stored network, or PyTorch is not installed.
    """
    if record.experiment.architecture is None:
        raise KatibFlowError(f"{record.name}: it does not search an architecture, so its trials have no network")
    try:
        from katib_flow.models.build import load_network
    except ModuleNotFoundError as missing:
        raise KatibFlowError(f"{missing.name}: not installed; pip install 'katib-flow[nas]'") from None
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        fetch_model(store, trial.run_id, directory)
        for name in FILES:
            if not (directory / name).exists():
                raise KatibFlowError(f"trial {trial.id}: its run has no {name}; a trial stores it with kf.save_model")
        return load_network(directory)


def register(store: Store, record: Record, trial: Trial, model: str) -> str:
    """Log the network of a trial with its run, and register it as the next version of a model.

    It is stored as an exported PyTorch program (``torch.export``), which can be loaded without katib-flow.

    Args:
        model: the name of the registered model.

    Returns:
        The new version.

    Raises:
        KatibFlowError: the trial has no trained network, or one that does not take images.
        TrackingError: MLflow refused.
    """
    network = trained(store, record, trial)
    topology = network.topology
    if topology.input.shape is None:
        raise KatibFlowError(f"trial {trial.id}: found a network for text, need one for images to register it")
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
        with _tracking_at(store.uri):  # MLflow looks up the source there, not at the client's URI
            return str(client.create_model_version(model, source, run_id, model_id=model_id).version)
    except MlflowException as refused:
        raise TrackingError(f"model {model}: {refused.message}") from None


@contextmanager
def _tracking_at(uri: str) -> Generator[None]:
    """Set MLflow's tracking URI in the block, and restore the user's afterwards, in the environment too."""
    import mlflow

    before: Any = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _open_model(client: Any, name: str) -> None:
    """Create a registered model, unless it exists."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as refused:
        if refused.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def keep_model(store: Store, record: Record, history: History) -> None:
    """Register the best network of an experiment that has ended, if its spec asks for that.

    A failure is logged as a warning, not raised.
    """
    model = record.experiment.tracking.register_model
    if model is None:
        return
    try:
        register(store, record, wanted(record, history), model)
    except Exception as error:  # noqa: BLE001 - the experiment itself has ended well
        logging.getLogger(__name__).warning("%s: its best network was not registered: %s", record.name, error)
