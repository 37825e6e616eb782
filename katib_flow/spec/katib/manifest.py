"""Katib's v1beta1 Experiment as written: a frozen model for each section, which validates its fields.

Katib writes numbers as text (``min: "0.01"``); numbers without quotes are accepted too.
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
        raise problem("", shown(value), "the object itself, not its text; remove the '|' after trialSpec")
    return value


Written = Annotated[str, BeforeValidator(_as_text)]
"""Text, or a number, which becomes the text that Katib would require."""


class Section(Model):
    """A part of the manifest, with keys in camel case."""

    model_config = ConfigDict(alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        """Drop null values: to Kubernetes, null is the same as a missing key."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Manifest(Section):
    """The whole manifest; its sections are read separately, so that mistakes in all of them are reported."""

    api_version: Literal["kubeflow.org/v1beta1"]
    kind: Literal["Experiment"]
    metadata: dict[str, Any] = {}
    spec: dict[str, Any]
    status: Any = None


class Spec(Section):
    """``spec``; the sections in it are read separately."""

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
    """The fields of Kubernetes' ObjectMeta that are read."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)

    name: Text | None = None
    generate_name: Text | None = None
    namespace: Text | None = None
    labels: dict[str, str] = {}


class FeasibleSpace(Section):
    """``feasibleSpace`` of a parameter: bounds and a distribution, or a list of values."""

    max: Written = ""
    min: Written = ""
    step: Written = ""
    values: tuple[Written, ...] = Field((), alias="list")
    distribution: Literal["uniform", "logUniform", "normal", "logNormal", "unknown", ""] = ""


class Parameter(Section):
    """An item of ``spec.parameters``, or a parameter of an operation."""

    name: Text
    parameter_type: Literal["double", "int", "categorical", "discrete"]
    feasible_space: FeasibleSpace


class Strategy(Section):
    """An item of ``metricStrategies``: how the values of a metric become one."""

    name: Text
    value: Literal["min", "max", "latest"]


class Objective(Section):
    """``spec.objective``."""

    type: Literal["minimize", "maximize"]
    goal: Real | None = None
    objective_metric_name: Text
    additional_metric_names: tuple[Text, ...] = ()
    metric_strategies: tuple[Strategy, ...] = ()


class Setting(Section):
    """An item of ``algorithmSettings``."""

    name: Text
    value: Written


class Algorithm(Section):
    """``spec.algorithm`` or ``spec.earlyStopping``."""

    algorithm_name: Text
    algorithm_settings: tuple[Setting, ...] = ()


class HttpGet(Section):
    """``source.httpGet``: the endpoint that a Prometheus collector scrapes."""

    path: str = ""
    port: Written = ""
    host: str = ""
    scheme: str = ""
    http_headers: Any = None


class FileSystemPath(Section):
    """``source.fileSystemPath``: the file or directory that a collector reads."""

    path: str = ""
    kind: Literal["File", "Directory", ""] = ""
    format: Literal["TEXT", "JSON", ""] = ""


class Filter(Section):
    """``source.filter``: regular expressions that find metrics in text."""

    metrics_format: tuple[str, ...] = ()


class Source(Section):
    """``metricsCollectorSpec.source``."""

    http_get: HttpGet = HttpGet()
    file_system_path: FileSystemPath = FileSystemPath()
    filter: Filter = Filter()


class Collector(Section):
    """``metricsCollectorSpec.collector``: its kind, and the container of a Custom one."""

    kind: Literal["StdOut", "File", "TensorFlowEvent", "PrometheusMetric", "Push", "Custom", "None"] = "StdOut"
    custom_collector: PlainData | None = None


class MetricsCollector(Section):
    """``spec.metricsCollectorSpec``."""

    source: Source = Source()
    collector: Collector = Collector()


class TrialParameter(Section):
    """An item of ``trialParameters``: the name of a placeholder, and the parameter or metadata that it refers to."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[^{}]+$")]
    description: str = ""
    reference: Text


class ConfigMapKey(Section):
    """``trialTemplate.configMap``: the location of the trial's object, as an alternative to ``trialSpec``."""

    config_map_name: Text
    config_map_namespace: Text | None = None
    template_path: Text


class TrialTemplate(Section):
    """``spec.trialTemplate``."""

    retain: bool = False
    primary_pod_labels: dict[str, str] = {}
    primary_container_name: Text | None = None
    success_condition: str = ""
    failure_condition: str = ""
    trial_parameters: tuple[TrialParameter, ...] = ()
    trial_spec: Annotated[PlainData | None, BeforeValidator(_no_text)] = None
    config_map: ConfigMapKey | None = None


class Operation(Section):
    """An item of ``nasConfig.operations``."""

    operation_type: Text
    parameters: tuple[Parameter, ...] = ()


class GraphConfig(Section):
    """``nasConfig.graphConfig``: the number of layers, and the sizes of inputs and outputs."""

    num_layers: Annotated[Count, Field(le=100)]
    input_sizes: tuple[Count, ...] = ()
    output_sizes: tuple[Count, ...] = ()


class NasConfig(Section):
    """``spec.nasConfig``."""

    graph_config: GraphConfig
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)]
