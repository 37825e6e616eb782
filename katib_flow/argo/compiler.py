"""Compile an experiment into one self-contained Workflow, whose size does not depend on the number of trials."""

from typing import Any

import hera.workflows as hera
from hera.workflows import Parameter, models

from katib_flow.argo import barrier, lanes, pods
from katib_flow.argo.checks import check
from katib_flow.argo.manifest import write_yaml
from katib_flow.argo.names import EXPERIMENT_FAILED, LABEL
from katib_flow.argo.placement import workflow_fields
from katib_flow.argo.spec_text import encode_spec
from katib_flow.spec.experiment import Experiment

_SHAPES = {"barrier": barrier.shape, "lanes": lanes.shape}
DEADLINE_NET_SECONDS = 1800
"""Added to ``limits.timeout`` for the Workflow's deadline. The steps enforce the timeout and end in order; the deadline
is the safety net for pods that cannot be scheduled, and fails the Workflow."""


def deadline_seconds(timeout: float) -> int:
    """Return the deadline, in seconds, of a Workflow whose experiment may run for another ``timeout`` seconds."""
    return int(timeout) + DEADLINE_NET_SECONDS


class ExperimentWorkflow(hera.Workflow):
    """A Hera Workflow whose YAML Argo parses correctly; see ``katib_flow.argo.manifest``."""

    def to_yaml(self, *args: Any, **kwargs: Any) -> str:
        """Write the workflow as YAML; the arguments of Hera's method are accepted and ignored."""
        return write_yaml(self.to_dict())


def compile_experiment(experiment: Experiment) -> hera.Workflow:
    """See ``katib_flow.argo.compile_experiment``."""
    check(experiment)
    shape = _SHAPES[experiment.argo.mode](experiment)
    accounts = pods.Accounts.of(experiment)
    timeout = experiment.limits.timeout
    return ExperimentWorkflow(
        api_version="argoproj.io/v1alpha1",
        kind="Workflow",
        generate_name=f"{experiment.name}-",
        namespace=experiment.argo.namespace,
        entrypoint=shape.entrypoint,
        on_exit="finish",
        service_account_name=accounts.trial,
        automount_service_account_token=False,
        executor=models.ExecutorConfig(service_account_name=accounts.executor),
        pod_spec_patch=pods.POD_SPEC_PATCH if experiment.argo.lock_pods else None,
        security_context=pods.pod_security(),
        active_deadline_seconds=None if timeout is None else deadline_seconds(timeout),
        arguments=[
            Parameter(name="run", value="{{workflow.name}}"),  # handover passes the first Workflow's name on
            Parameter(name="segment", value="0"),
            *(Parameter(name=name, value=value) for name, value in shape.parameters.items()),
            Parameter(name="spec", value=encode_spec(experiment)),
        ],
        templates=[*shape.templates, handover(experiment, accounts), finish(experiment, accounts)],
        **workflow_fields(experiment, {LABEL: experiment.name}),
    )


def handover(experiment: Experiment, accounts: pods.Accounts) -> hera.Container:
    """Return the step that creates the next segment, the only one that may create Workflows."""
    where = ["--namespace", "{{workflow.namespace}}", "--workflow", "{{workflow.name}}"]
    which = ["--run", pods.RUN, "--segment", pods.SEGMENT]
    fields: dict[str, Any] = {"service_account_name": accounts.submitter, "automount_service_account_token": True}
    return barrier.own_step(experiment, "handover", "handover", [*where, *which], **fields)


def finish(experiment: Experiment, accounts: pods.Accounts) -> hera.Container:
    """Return the exit handler, which closes open runs and records the outcome. It fails if the experiment failed."""
    which = ["--run", pods.RUN, "--segment", pods.SEGMENT]
    how = ["--status", "{{workflow.status}}", "--failures", "{{workflow.failures}}"]
    retries = pods.step_retry(unless=str(EXPERIMENT_FAILED))
    account = accounts.watching(experiment)
    return barrier.own_step(experiment, "finish", "finish", [*which, *how], retry_strategy=retries, **account)
