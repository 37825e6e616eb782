"""The arguments of ``KatibClient.tune`` of Katib's SDK -> a spec, by the same translation as for a manifest.

Objects of the SDK (``katib.search.double``, ``V1EnvVar``, ``V1ResourceRequirements``) are recognized by their
attributes, so neither the SDK nor the kubernetes client has to be installed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.spec.katib import algorithms, manifest, sections
from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.problems import shown

_ARGUMENTS = {
    "metadata.name": "name",
    "spec.objective": "objective_metric_name",
    "spec.objective.type": "objective_type",
    "spec.objective.goal": "objective_goal",
    "spec.objective.objectiveMetricName": "objective_metric_name",
    "spec.objective.additionalMetricNames": "additional_metric_names",
    "spec.objective.metricStrategies": "objective_metric_name",
    "spec.algorithm": "algorithm_name",
    "spec.algorithm.algorithmName": "algorithm_name",
    "spec.algorithm.algorithmSettings": "algorithm_settings",
    "spec.parallelTrialCount": "parallel_trial_count",
    "spec.maxTrialCount": "max_trial_count",
    "spec.maxFailedTrialCount": "max_failed_trial_count",
    "spec.parameters": "parameters",
    "limits.trial_timeout": "trial_active_deadline_seconds",
    "argo.namespace": "namespace",
    "argo.trial": "env_per_trial",
    "trial": "objective",
    "trial.arguments": "parameters",
    "trial.env": "env_per_trial",
    "trial.container.env": "env_per_trial",
    "trial.container.image": "base_image",
    "trial.container.resources": "resources_per_trial",
}
"""The argument that a path of the manifest or of the spec comes from; the longest matching path counts."""
_KEPT_BELOW = ("parameters", "algorithm_settings", "additional_metric_names", "env_per_trial", "resources_per_trial")
_RESOURCES = {"gpu": "nvidia.com/gpu"}


@dataclass(frozen=True)
class Environment:
    """The environment variables of a trial.

    Attributes:
        secrets: variables with values from Secrets: name -> secret and key.
        secret_sets: Secrets whose keys all become variables.
    """

    values: dict[str, str] = field(default_factory=dict[str, str])
    secrets: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    secret_sets: list[str] = field(default_factory=list[str])

    @property
    def on_argo(self) -> dict[str, Any]:
        """The variables that are available on a cluster only, as keys of ``argo.trial``."""
        section = {"secrets": self.secrets, "secret_sets": self.secret_sets}
        return {key: value for key, value in section.items() if value}


@dataclass
class Arguments:
    """The translation of the arguments of one call.

    Attributes:
        names: names of parameters and constants in the objective, by their names in the spec, in the order given.
        constants: values among the parameters that are not search spaces.
    """

    draft: Draft = field(default_factory=Draft)
    names: dict[str, str] = field(default_factory=dict[str, str])
    constants: dict[str, Any] = field(default_factory=dict[str, Any])
    _foreign: list[str] = field(default_factory=list[str])
    _settings: list[str] = field(default_factory=list[str])

    def wrong(self, argument: str, value: object, need: str) -> None:
        """Report a mistake by the argument that it is in."""
        self.draft.wrong(argument, value, need)

    def experiment(self, name: str, namespace: str | None, counts: Mapping[str, Any], deadline: Any) -> None:
        """Fill in ``name``, ``limits`` and ``argo``.

        Args:
            counts: the limits by their names in a manifest.
            deadline: the timeout of a trial in seconds.
        """
        draft = self.draft
        draft.data["name"] = name
        draft.came("name", "metadata.name")
        spec = draft.read(manifest.Spec, dict(counts), "spec", unsound=["limits"])
        if spec is not None:
            sections.limits(draft, spec)
            draft.notes.clear()  # remarks on defaults of a manifest, which do not concern a call
            draft.data["limits"] |= {} if deadline is None else {"trial_timeout": deadline}
        for section in ("trial", "argo", "limits.trial_timeout"):
            draft.came(section, section, below=True)
        if namespace is not None:
            draft.data["argo"] = {"namespace": namespace}

    def parameters(self, given: object) -> None:
        """Fill in ``parameters``, and ``constants`` with values that are not search spaces."""
        if not isinstance(given, Mapping):
            self.draft.unsound.add("parameters")
            self.wrong("parameters", shown(given), "a dict from names to kf.search.double(...) and the like")
            return
        ours = {str(name): value for name, value in given.items() if isinstance(value, Parameter)}
        theirs = {str(name): value for name, value in given.items() if _is_katibs(value)}
        self._foreign = list(theirs)
        self.constants |= {str(name): value for name, value in given.items() if name not in {**ours, **theirs}}
        items = [_as_manifest(name, value) for name, value in theirs.items()]
        natives = sections.parameters(self.draft, items)
        self.names = {natives.get(name, name): name for name in map(str, given)}
        known = {**self.draft.data["parameters"], **ours}
        self.draft.data["parameters"] = {name: known[name] for name in self.names if name in known}

    def objective(self, metric: Any, kind: Any, goal: Any, additional: Any) -> None:
        """Fill in ``objective``, ``additional_metrics`` and ``metrics.strategy``."""
        data = {"objectiveMetricName": metric, "type": kind, "goal": goal, "additionalMetricNames": additional}
        sections.objective(self.draft, {key: value for key, value in data.items() if value is not None})

    def algorithm(self, name: Any, settings: Any) -> None:
        """Fill in ``algorithm``, and ``budget`` for hyperband; settings are a dict, or a list of the SDK's objects."""
        items: list[dict[str, Any]] = []
        if isinstance(settings, Mapping):
            items = [{"name": str(key), "value": _text(value)} for key, value in settings.items()]
        elif isinstance(settings, Sequence) and not isinstance(settings, str):
            items = [{"name": _attribute(one, "name"), "value": _attribute(one, "value")} for one in settings]
        elif settings is not None:
            self.wrong("algorithm_settings", shown(settings), "a dict from names to settings")
        self._settings = [str(item["name"]) for item in items]
        data = {"algorithmName": name, "algorithmSettings": items}
        algorithms.algorithm(self.draft, data, {theirs: ours for ours, theirs in self.names.items()})

    def pushes(self, collector: Any) -> bool:
        """True if the objective calls ``report_metrics``."""
        kind = collector.get("kind") if isinstance(collector, Mapping) else collector
        if kind not in ("StdOut", "Push"):
            need = "{'kind': 'StdOut'}, or 'Push' for an objective that calls report_metrics"
            self.wrong("metrics_collector_config", shown(collector), need)
        return kind == "Push"

    def environment(self, given: Any) -> Environment:
        """The environment variables in a dict, or in a list of objects of the kubernetes client."""
        environment = Environment()
        if isinstance(given, Mapping):
            environment.values.update({str(name): str(value) for name, value in given.items()})
            return environment
        if given is not None and (isinstance(given, str) or not isinstance(given, Sequence)):
            self.wrong(
                "env_per_trial", shown(given), "a dict from names to texts, or a list of V1EnvVar and V1EnvFromSource"
            )
            return environment
        for position, variable in enumerate(given or ()):
            if not _add(variable, environment):
                need = "a name with a value or a key of a Secret, or a V1EnvFromSource of a Secret"
                self.wrong(f"env_per_trial[{position}]", shown(variable), need)
        return environment

    def resources(self, given: Any) -> dict[str, Any]:
        """Requests and limits from a dict with cpu, memory and gpu, or from an object of the kubernetes client."""
        if given is None:
            return {}
        if _attribute(given, "num_workers") is not None:
            need = "the resources of one container (a job of several workers is a resource trial in a spec or manifest)"
            self.wrong("resources_per_trial", "TrainerResources", need)
            return {}
        if isinstance(given, Mapping):
            amounts = {_RESOURCES.get(str(key).lower(), str(key)): value for key, value in given.items()}
            return {"requests": amounts, "limits": amounts}
        parts = {key: _attribute(given, key) for key in ("requests", "limits")}
        if not any(isinstance(value, Mapping) for value in parts.values()):
            self.wrong(
                "resources_per_trial", shown(given), "a dict with cpu, memory and gpu, or V1ResourceRequirements"
            )
        return {key: dict(value) for key, value in parts.items() if isinstance(value, Mapping)}

    def named(self, path: str) -> str:
        """Translate a path of the manifest or of the spec to one that begins with an argument."""
        head = max((start for start in _ARGUMENTS if _begins(path, start)), key=len, default="")
        if not head:
            return path
        argument, rest = _ARGUMENTS[head], path[len(head) :].replace(".feasibleSpace", "")
        if argument not in _KEPT_BELOW:
            return argument
        names = {"parameters": self._foreign, "algorithm_settings": self._settings}.get(argument, [])
        if (match := re.match(r"\[(\d+)\](\.value)?", rest)) and int(match[1]) < len(names):
            rest = f".{names[int(match[1])]}{rest[match.end() :]}"
        return argument + rest

    def mistakes(self, of_spec: Sequence[SpecError]) -> list[SpecError]:
        """All mistakes, by the arguments that they are in.

        Args:
            of_spec: the mistakes in the spec that results from the arguments.
        """
        problems = self.draft.all_problems(of_spec)
        return [SpecError(self.named(problem.where), problem.found, problem.need) for problem in problems]


def _begins(path: str, head: str) -> bool:
    return path.startswith(head) and path[len(head) : len(head) + 1] in ("", ".", "[")


def _attribute(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _is_katibs(value: Any) -> bool:
    return hasattr(value, "parameter_type") and hasattr(value, "feasible_space")


def _as_manifest(name: str, value: Any) -> dict[str, Any]:
    """A parameter of the SDK as an item of a manifest."""
    keys = ("min", "max", "step", "list", "distribution")
    space = {key: given for key in keys if (given := getattr(value.feasible_space, key, None)) is not None}
    return {"name": name, "parameterType": value.parameter_type, "feasibleSpace": space}


def _add(given: Any, environment: Environment) -> bool:
    """Add an object of the kubernetes client; True on success."""
    name, source = _attribute(given, "name"), _attribute(given, "value_from") or _attribute(given, "valueFrom")
    if isinstance(name, str) and source is None:
        environment.values[name] = str(_attribute(given, "value") or "")
        return True
    key = _attribute(source, "secret_key_ref") or _attribute(source, "secretKeyRef")
    if isinstance(name, str) and key is not None:
        environment.secrets[name] = {"secret": str(_attribute(key, "name")), "key": str(_attribute(key, "key"))}
        return True
    whole = _attribute(given, "secret_ref") or _attribute(given, "secretRef")
    if name is None and whole is not None and not _attribute(given, "prefix"):
        environment.secret_sets.append(str(_attribute(whole, "name")))
        return True
    return False
