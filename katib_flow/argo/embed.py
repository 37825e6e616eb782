"""Embed an experiment in other workflows: the template ``run-experiment``, and a Hera task that refers to it."""

from typing import TYPE_CHECKING, Any

from hera.workflows import Container, Parameter, Task, models

from katib_flow.argo import pods
from katib_flow.argo.names import SPEC_VARIABLE, steps_image
from katib_flow.argo.spec_text import encode_spec
from katib_flow.argo.steps.experiment import OUTPUTS
from katib_flow.spec.experiment import Experiment

if TYPE_CHECKING:
    from katib_flow.decorator import FunctionExperiment

TEMPLATE, RUN_EXPERIMENT = "katib-flow", "run-experiment"


def run_experiment_template(image: str | None = None) -> Container:
    """Return the template of a pod that submits an experiment, waits for it and outputs its best trial."""
    env = {SPEC_VARIABLE: "{{inputs.parameters.spec}}", "HOME": pods.TEMPORARY, "USER": "katib-flow"}
    return Container(
        name=RUN_EXPERIMENT,
        image=image or steps_image(),
        command=pods.command("run_experiment"),
        args=["--uid", "{{workflow.uid}}", "--node", "{{node.name}}", "--out", pods.SHARED],
        inputs=[Parameter(name="spec", description="a spec, or a Katib manifest, as YAML or JSON")],
        outputs=[Parameter(name=key, value_from=models.ValueFrom(path=f"{pods.SHARED}/{key}")) for key in OUTPUTS],
        env=[models.EnvVar(name=name, value=value) for name, value in env.items()],
        env_from=pods.settings(),
        service_account_name=pods.Accounts().submitter,
        automount_service_account_token=True,
        pod_spec_patch=pods.POD_SPEC_PATCH,
        security_context=pods.container_security(),
        pod_security_context=pods.pod_security(),
        volumes=pods.volumes(),
        volume_mounts=pods.mounts(),
        retry_strategy=pods.step_retry(unless="1"),
    )


class ExperimentTask(Task):
    """A task with the outputs of ``run-experiment``, which Hera cannot look up through a templateRef."""

    def get_parameter(self, name: str) -> Parameter:
        """Return an output to pass to another task: best-parameters, best-value, best-model-uri or run-id.

        Raises:
            KeyError: the task has no output of that name.
        """
        if name not in OUTPUTS:
            raise KeyError(f"{name}: need one of {', '.join(OUTPUTS)}")
        return Parameter(name=name, value=f"{{{{tasks.{self.name}.outputs.parameters.{name}}}}}")


def experiment_task(
    what: "Experiment | FunctionExperiment",
    *,
    name: str = "tune",
    template: str = TEMPLATE,
    cluster_scope: bool = False,
    **task: Any,
) -> ExperimentTask:
    """Create a task that runs an experiment, inside ``with DAG(...)`` of Hera.

    Its output parameters are best-parameters (JSON), best-value, best-model-uri and run-id; pass one to another task
    with ``task.get_parameter("best-parameters")``.

    Args:
        what: the experiment, or a function decorated with ``@kf.experiment``.
        name: name of the task.
        template: name of the WorkflowTemplate that workflow_templates/ installs.
        cluster_scope: whether to use the ClusterWorkflowTemplate of that name instead.
        task: further fields of the task, such as ``depends`` and ``when``.

    Raises:
        InvalidSpec: the experiment cannot run on a cluster.
    """
    from katib_flow.argo.checks import check
    from katib_flow.argo.inline import check_importable

    if isinstance(what, Experiment):
        spec = what
    else:
        spec = what.spec
        check_importable(spec, what.function)
    check(spec)
    reference = models.TemplateRef(name=template, template=RUN_EXPERIMENT, cluster_scope=cluster_scope or None)
    arguments = [Parameter(name="spec", value=encode_spec(spec))]
    return ExperimentTask(name=name, template_ref=reference, arguments=arguments, **task)
