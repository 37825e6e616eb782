"""``kf.tune``: the interface of ``KatibClient.tune`` in Katib's SDK 0.19, for an ordinary experiment.

Names of Katib (algorithms, settings, the type of the objective) are read as in a manifest. On this machine the
objective is called like any other function; on a cluster its source code becomes the program of a container, as in
Katib.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.decorator import FunctionExperiment, home_of, run
from katib_flow.effects import tell
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.katib.sdk import Arguments
from katib_flow.spec.load import Note
from katib_flow.spec.problems import shown

if TYPE_CHECKING:
    from katib_flow.tracking import Store

BASE_IMAGE = "docker.io/pytorch/pytorch:2.2.1-cuda12.1-cudnn8-runtime"
"""The default of Katib's SDK."""
SOURCE = "kf.tune"
STDOUT = {"kind": "StdOut"}


class TakesDict:
    """Calls a Katib objective, which takes one dict, as a function with parameters by name.

    Args:
        names: names of parameters and constants in the dict, by their names in the spec, in the order of the dict.
        push: True if the objective calls ``report_metrics`` of Katib's SDK.
    """

    def __init__(self, objective: Callable[..., Any], names: Mapping[str, str], *, push: bool) -> None:
        self.objective, self.names, self.push = objective, dict(names), push

    def __call__(self, **parameters: Any) -> Any:
        if self.push:
            from katib_flow.trial.alone import pushed
            from katib_flow.trial.user import report

            pushed(lambda metrics, *_, **__: report({name: float(value) for name, value in metrics.items()}))
        return self.objective({theirs: parameters[ours] for ours, theirs in self.names.items() if ours in parameters})


def tune(
    name: str,
    model_provider_parameters: Any = None,
    dataset_provider_parameters: Any = None,
    trainer_parameters: Any = None,
    storage_config: Any = None,
    objective: Callable[..., Any] | None = None,
    base_image: str = BASE_IMAGE,
    parameters: Mapping[str, Any] | None = None,
    namespace: str | None = None,
    env_per_trial: Mapping[str, str] | Sequence[Any] | None = None,
    algorithm_name: str = "random",
    algorithm_settings: Mapping[str, Any] | Sequence[Any] | None = None,
    objective_metric_name: str | None = None,
    additional_metric_names: Sequence[str] = (),
    objective_type: str = "maximize",
    objective_goal: float | None = None,
    max_trial_count: int | None = None,
    parallel_trial_count: int | None = None,
    max_failed_trial_count: int | None = None,
    resources_per_trial: Any = None,
    retain_trials: bool = False,
    packages_to_install: Sequence[str] | None = None,
    pip_index_urls: Sequence[str] | str | None = None,
    metrics_collector_config: Mapping[str, Any] = STDOUT,
    trial_active_deadline_seconds: int | None = None,
    *,
    pip_index_url: str | None = None,
    backend: Literal["local", "argo"] = "local",
    submit: bool | None = None,
    store: "Store | None" = None,
    tracking_uri: str | None = None,
) -> Any:
    """Search the parameters of an objective with the arguments of ``KatibClient.tune``, on this machine or on Argo.

    Args:
        name: name of the experiment.
        objective: a function of one dict, the parameters; it prints ``metric=value``, returns a number or a dict of
            metrics, or yields one of these per step.
        parameters: ``kf.search.double(...)``, ``kf.Float(...)`` and the like, or objects of ``katib.search`` in Katib's
            SDK, by name; any other value is a constant in the dict of every trial.
        algorithm_name, algorithm_settings: an algorithm of Katib or katib-flow, and its settings.
        base_image, packages_to_install, pip_index_urls, resources_per_trial, namespace: for the trials on Argo; on this
            machine the objective runs in this Python, and a note says so.
        backend: ``local`` runs the experiment here, ``argo`` compiles it to a Workflow.
        submit: for ``argo``, whether to create the Workflow; by default, if a kubeconfig names a cluster.
        store, tracking_uri: as in ``kf.run``.

    Returns:
        The ``Result``; for ``argo``, the ``hera.workflows.Workflow``.

    Raises:
        InvalidSpec: with every mistake, by the argument that it is in.
    """
    arguments = Arguments()
    external = {
        "model_provider_parameters": model_provider_parameters,
        "dataset_provider_parameters": dataset_provider_parameters,
        "trainer_parameters": trainer_parameters,
    }
    for key, value in external.items():
        if value is not None:
            need = "objective and parameters instead; examples/finetune.py fine-tunes a pretrained model"
            arguments.wrong(key, shown(value), need)
    if backend not in ("local", "argo"):
        arguments.wrong("backend", shown(backend), "'local' or 'argo'")
    counts = {
        "maxTrialCount": max_trial_count,
        "parallelTrialCount": parallel_trial_count,
        "maxFailedTrialCount": max_failed_trial_count,
    }
    arguments.experiment(name, namespace, counts, trial_active_deadline_seconds)
    arguments.parameters(parameters)
    arguments.objective(objective_metric_name, objective_type, objective_goal, additional_metric_names)
    arguments.algorithm(algorithm_name, algorithm_settings)
    push = arguments.pushes(metrics_collector_config)
    environment, resources = arguments.environment(env_per_trial), arguments.resources(resources_per_trial)
    if environment.on_argo:
        arguments.draft.data.setdefault("argo", {})["trial"] = environment.on_argo
    experiment = _experiment(arguments, _checked(arguments, objective), environment.values)
    assert objective is not None
    notes = [Note(arguments.named(arguments.draft.origin(note.where)), note.text) for note in arguments.draft.notes]
    if retain_trials:
        notes.append(Note("retain_trials", "the output of a trial is kept in MLflow, but its pod is not kept"))
    index_urls = [pip_index_urls] if isinstance(pip_index_urls, str) else list(pip_index_urls or ())
    index_urls = index_urls or [pip_index_url] if pip_index_url else index_urls
    if backend == "argo":
        tell(notes)
        container = {"image": base_image, "env": environment.values, "resources": resources}
        installed = {"packages": packages_to_install or (), "index_urls": index_urls}
        return _on_argo(_in_container(arguments, experiment, objective, container, push=push, **installed), submit)
    here = {
        "base_image": base_image if base_image != BASE_IMAGE else None,
        "namespace": namespace,
        "env_per_trial": [*environment.secrets, *environment.secret_sets],
        "resources_per_trial": resources_per_trial,
        "packages_to_install": packages_to_install,
        "pip_index_urls": index_urls,
        "storage_config": storage_config,
        "submit": submit,
    }
    tell([*notes, *(Note(key, _WITHOUT_EFFECT.get(key, _ON_ARGO)) for key, value in here.items() if value)])
    function = TakesDict(objective, arguments.names, push=push)
    return run(FunctionExperiment(function, experiment), store=store, tracking_uri=tracking_uri)


_ON_ARGO = "has no effect here, only with backend='argo'"
_WITHOUT_EFFECT = {
    "base_image": f"{_ON_ARGO}, because the objective runs in this Python",
    "packages_to_install": f"{_ON_ARGO}, because the objective runs in this Python with its installed packages",
    "env_per_trial": "values from Secrets have no effect here, only with backend='argo'",
    "storage_config": "has no effect, because nothing is stored for a custom objective",
}


def _checked(arguments: Arguments, objective: Any) -> str:
    """The objective as ``module:name``; mistakes are reported in ``arguments``."""
    need = "a function of one argument, the dict of parameters"
    if not callable(objective) or not getattr(objective, "__name__", "").isidentifier():
        arguments.wrong("objective", shown(objective), f"{need}, defined with def")
        return "objective:objective"
    try:
        inspect.signature(objective).bind({})
    except TypeError:
        signature = f"{getattr(objective, '__name__', objective)}{inspect.signature(objective)}"
        arguments.wrong("objective", signature, f"{need}; for a function that takes them by name, use kf.experiment")
    except ValueError:  # some callables have no signature; the first call will show
        pass
    module, called = home_of(objective)
    return f"{module or '__main__'}:{called}"  # a function created by exec has no module


def _experiment(arguments: Arguments, reference: str, env: Mapping[str, str]) -> Experiment:
    """The experiment whose trials call the objective here."""
    trial = {"function": reference, "arguments": arguments.constants, "env": env}
    return _parsed(arguments, {**arguments.draft.data, "trial": trial})


def _parsed(arguments: Arguments, data: Mapping[str, Any]) -> Experiment:
    """Build the experiment.

    Raises:
        InvalidSpec: with every mistake, by the argument that it is in.
    """
    experiment, problems = None, list[SpecError]()
    try:
        experiment = Experiment.parse(data, SOURCE, [check_algorithm])
    except InvalidSpec as invalid:
        problems = list(invalid.problems)
    mistakes = arguments.mistakes(problems)
    if mistakes or experiment is None:
        raise InvalidSpec(SOURCE, mistakes)
    return experiment


def _in_container(
    arguments: Arguments, experiment: Experiment, objective: Callable[..., Any], container: dict[str, Any], **how: Any
) -> Experiment:
    """The experiment whose trials call the objective in a container of any image."""
    from katib_flow.argo.alone import command

    try:
        container["command"] = command(experiment, objective, arguments.names, **how)
    except SpecError as problem:
        raise InvalidSpec(SOURCE, [SpecError("objective", problem.found, problem.need)]) from None
    return _parsed(arguments, {**arguments.draft.data, "trial": {"container": container}})


def _on_argo(experiment: Experiment, submit: bool | None) -> Any:
    """The Workflow, which is created if there is a cluster, unless ``submit`` is False."""
    from katib_flow.argo import compile_experiment
    from katib_flow.argo.cluster import Cluster, ClusterError, KubernetesCluster
    from katib_flow.argo.submit import submit as create
    from katib_flow.errors import KatibFlowError

    workflow = compile_experiment(experiment)
    if submit is False:
        return workflow
    try:
        cluster: Cluster = KubernetesCluster(experiment.argo.namespace, in_pod=False)
    except ClusterError:
        raise
    except (KatibFlowError, ImportError) as error:
        if submit:
            raise
        tell([Note("backend", f"the Workflow was compiled, but not submitted: {error}")])
        return workflow
    workflow.name = create(cluster, experiment)
    workflow.generate_name = None
    print(f"workflow {cluster.namespace}/{workflow.name}: created")
    return workflow
