"""An experiment inside other workflows: the template ``run-experiment``, and a task of a Hera DAG that uses it."""

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
    """One pod that submits an experiment, waits for it, and gives its best trial. It costs the caller one node."""
    env = {SPEC_VARIABLE: "{{inputs.parameters.spec}}", "HOME": pods.TEMPORARY, "USER": "katib-flow"}
    return Container(
        name=RUN_EXPERIMENT,
        image=image or steps_image(),
        command=pods.command("run_experiment"),
        args=["--uid", "{{workflow.uid}}", "--node", "{{node.name}}", "--out", pods.SHARED],
        inputs=[Parameter(name="spec", description="a spec, or a Katib manifest, as YAML or JSON")],
        outputs=[Parameter(name=each, value_from=models.ValueFrom(path=f"{pods.SHARED}/{each}")) for each in OUTPUTS],
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
    """A task whose outputs are those of ``run-experiment``; Hera cannot look them up behind a templateRef."""

    def get_parameter(self, name: str) -> Parameter:
        """One of best-parameters, best-value, best-model-uri, run-id, to give to another task.

        Raises:
            KeyError: there is no such output.
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
    """An experiment as a task of a Hera DAG, made inside ``with DAG(...)``.

    Its outputs are the parameters best-parameters (JSON), best-value, best-model-uri and run-id:
    ``task.get_parameter("best-parameters")``.

    Args:
        name: of the task.
        template: the WorkflowTemplate that workflow_templates/ installs.
        cluster_scope: it is the ClusterWorkflowTemplate of that name.
        task: other fields of the task: depends, when ...

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
