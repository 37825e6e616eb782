"""Katib's v1beta1 Experiment, section by section, as it is written: frozen models that say where they do not fit.

Katib writes numbers as text (``min: "0.01"``); a number without quotes is read too.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from katib_flow.spec.model import Count, Model, Natural, PlainData, Real, Text
from katib_flow.spec.problems import problem, shown

API_VERSION, KIND = "kubeflow.org/v1beta1", "Experiment"


def _as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _no_text(value: Any) -> Any:
    if isinstance(value, str):
        raise problem("", shown(value), "the object itself, not a text that has it: leave out the '|' after trialSpec")
    return value


Written = Annotated[str, BeforeValidator(_as_text)]
"""Text, or a number that Katib would have as text."""


class Section(Model):
    """A part of the manifest; its keys are in camel case there."""

    model_config = ConfigDict(alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        """Kubernetes takes null for a key that is left out."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Manifest(Section):
    """The whole; each section is read by itself, so that the mistakes of all are told."""

    api_version: Literal["kubeflow.org/v1beta1"]
    kind: Literal["Experiment"]
    metadata: dict[str, Any] = {}
    spec: dict[str, Any]
    status: Any = None


class Spec(Section):
    parameters: Any = None
    objective: Any = None
    algorithm: Any = None
    early_stopping: Any = None
    trial_template: Any = None
    parallel_trial_count: Count | None = None
    max_trial_count: Count | None = None
    max_failed_trial_count: Natural | None = None
    metrics_collector_spec: Any = None
    nas_config: Any = None
    resume_policy: Literal["Never", "LongRunning", "FromVolume", ""] = "Never"


class Metadata(Model):
    """What is read of Kubernetes' ObjectMeta."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)

    name: Text | None = None
    generate_name: Text | None = None
    namespace: Text | None = None
    labels: dict[str, str] = {}


class FeasibleSpace(Section):
    max: Written = ""
    min: Written = ""
    step: Written = ""
    values: tuple[Written, ...] = Field((), alias="list")
    distribution: Literal["uniform", "logUniform", "normal", "logNormal", "unknown", ""] = ""


class Parameter(Section):
    name: Text
    parameter_type: Literal["double", "int", "categorical", "discrete"]
    feasible_space: FeasibleSpace


class Strategy(Section):
    name: Text
    value: Literal["min", "max", "latest"]


class Objective(Section):
    type: Literal["minimize", "maximize"]
    goal: Real | None = None
    objective_metric_name: Text
    additional_metric_names: tuple[Text, ...] = ()
    metric_strategies: tuple[Strategy, ...] = ()


class Setting(Section):
    name: Text
    value: Written


class Algorithm(Section):
    """Of the search, and of early stopping."""

    algorithm_name: Text
    algorithm_settings: tuple[Setting, ...] = ()


class HttpGet(Section):
    path: str = ""
    port: Written = ""
    host: str = ""
    scheme: str = ""
    http_headers: Any = None


class FileSystemPath(Section):
    path: str = ""
    kind: Literal["File", "Directory", ""] = ""
    format: Literal["TEXT", "JSON", ""] = ""


class Filter(Section):
    metrics_format: tuple[str, ...] = ()


class Source(Section):
    http_get: HttpGet = HttpGet()
    file_system_path: FileSystemPath = FileSystemPath()
    filter: Filter = Filter()


class Collector(Section):
    kind: Literal["StdOut", "File", "TensorFlowEvent", "PrometheusMetric", "Push", "Custom", "None"] = "StdOut"
    custom_collector: PlainData | None = None


class MetricsCollector(Section):
    source: Source = Source()
    collector: Collector = Collector()


class TrialParameter(Section):
    name: Annotated[str, Field(min_length=1, pattern=r"^[^{}]+$")]
    description: str = ""
    reference: Text


class ConfigMapKey(Section):
    """Where the template of a trial stands, in the place of ``trialSpec``."""

    config_map_name: Text
    config_map_namespace: Text | None = None
    template_path: Text


class TrialTemplate(Section):
    retain: bool = False
    primary_pod_labels: dict[str, str] = {}
    primary_container_name: Text | None = None
    success_condition: str = ""
    failure_condition: str = ""
    trial_parameters: tuple[TrialParameter, ...] = ()
    trial_spec: Annotated[PlainData | None, BeforeValidator(_no_text)] = None
    config_map: ConfigMapKey | None = None


class Operation(Section):
    operation_type: Text
    parameters: tuple[Parameter, ...] = ()


class GraphConfig(Section):
    num_layers: Annotated[Count, Field(le=100)]
    input_sizes: tuple[Count, ...] = ()
    output_sizes: tuple[Count, ...] = ()


class NasConfig(Section):
    graph_config: GraphConfig
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)]
