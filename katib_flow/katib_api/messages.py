"""The messages of Katib's gRPC API, ``api.v1beta1``, as Katib's ``api.proto`` defines them.

They are built from the table below on first use, in their own descriptor pool, so that a program may also import
Katib's SDK, which registers the same names. The SDK itself cannot be a dependency, because it needs a version of
protobuf that MLflow's other dependencies exclude.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "api.v1.beta1"
_TABLE = """
Experiment: name=1 string, spec=2 ExperimentSpec
ExperimentSpec: parameter_specs=1 ExperimentSpec.ParameterSpecs, objective=2 ObjectiveSpec, algorithm=3 AlgorithmSpec,
  early_stopping=4 EarlyStoppingSpec, parallel_trial_count=5 int32, max_trial_count=6 int32, nas_config=7 NasConfig
ExperimentSpec.ParameterSpecs: parameters=1 ParameterSpec*
ParameterSpec: name=1 string, parameter_type=2 ParameterType, feasible_space=3 FeasibleSpace
FeasibleSpace: max=1 string, min=2 string, list=3 string*, step=4 string, distribution=5 Distribution
ObjectiveSpec: type=1 ObjectiveType, goal=2 double, objective_metric_name=3 string, additional_metric_names=4 string*
AlgorithmSpec: algorithm_name=1 string, algorithm_settings=2 AlgorithmSetting*
AlgorithmSetting: name=1 string, value=2 string
EarlyStoppingSpec: algorithm_name=1 string, algorithm_settings=2 EarlyStoppingSetting*
EarlyStoppingSetting: name=1 string, value=2 string
NasConfig: graph_config=1 GraphConfig, operations=2 NasConfig.Operations
NasConfig.Operations: operation=1 Operation*
GraphConfig: num_layers=1 int32, input_sizes=2 int32*, output_sizes=3 int32*
Operation: operation_type=1 string, parameter_specs=2 Operation.ParameterSpecs
Operation.ParameterSpecs: parameters=1 ParameterSpec*
Trial: name=1 string, spec=2 TrialSpec, status=3 TrialStatus
TrialSpec: objective=2 ObjectiveSpec, parameter_assignments=3 TrialSpec.ParameterAssignments, labels=4 string{}
TrialSpec.ParameterAssignments: assignments=1 ParameterAssignment*
ParameterAssignment: name=1 string, value=2 string
TrialStatus: start_time=1 string, completion_time=2 string, condition=3 TrialStatus.TrialConditionType,
  observation=4 Observation
Observation: metrics=1 Metric*
Metric: name=1 string, value=2 string
ReportObservationLogRequest: trial_name=1 string, observation_log=2 ObservationLog
ReportObservationLogReply:
GetObservationLogRequest: trial_name=1 string, metric_name=2 string, start_time=3 string, end_time=4 string
GetObservationLogReply: observation_log=1 ObservationLog
ObservationLog: metric_logs=1 MetricLog*
MetricLog: time_stamp=1 string, metric=2 Metric
GetSuggestionsRequest: experiment=1 Experiment, trials=2 Trial*, current_request_number=4 int32,
  total_request_number=5 int32
GetSuggestionsReply: parameter_assignments=1 GetSuggestionsReply.ParameterAssignments*, algorithm=2 AlgorithmSpec,
  early_stopping_rules=3 EarlyStoppingRule*
GetSuggestionsReply.ParameterAssignments: assignments=1 ParameterAssignment*, trial_name=2 string, labels=3 string{}
ValidateAlgorithmSettingsRequest: experiment=1 Experiment
ValidateAlgorithmSettingsReply:
GetEarlyStoppingRulesRequest: experiment=1 Experiment, trials=2 Trial*, db_manager_address=3 string
GetEarlyStoppingRulesReply: early_stopping_rules=1 EarlyStoppingRule*
EarlyStoppingRule: name=1 string, value=2 string, comparison=3 ComparisonType, start_step=4 int32
ValidateEarlyStoppingSettingsRequest: early_stopping=1 EarlyStoppingSpec
ValidateEarlyStoppingSettingsReply:
SetTrialStatusRequest: trial_name=1 string
SetTrialStatusReply:
"""
"""One message per line, continued on indented lines: name=number type, ``*`` for repeated, ``{}`` for a text map."""
_ENUMS = """
ParameterType: UNKNOWN_TYPE DOUBLE INT DISCRETE CATEGORICAL
Distribution: DISTRIBUTION_UNSPECIFIED UNIFORM LOG_UNIFORM NORMAL LOG_NORMAL
ObjectiveType: UNKNOWN MINIMIZE MAXIMIZE
ComparisonType: UNKNOWN_COMPARISON EQUAL LESS GREATER
TrialStatus.TrialConditionType: CREATED RUNNING SUCCEEDED KILLED FAILED METRICSUNAVAILABLE EARLYSTOPPED UNKNOWN
"""
"""The values of each enumeration, numbered from 0."""
Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "double": Field.TYPE_DOUBLE}


def message(name: str) -> Any:
    """The class of a message, such as ``GetSuggestionsRequest``; a nested one is ``Outer.Inner``."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def number(enum: str, value: str) -> int:
    """The number of an enumeration's value: ``number("ObjectiveType", "MINIMIZE")`` is 1."""
    return _pool().FindEnumTypeByName(f"{PACKAGE}.{enum}").values_by_name[value].number


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="api.proto", package=PACKAGE, syntax="proto3")
    messages: dict[str, Any] = {}
    enums = dict(_lines(_ENUMS))
    for name, fields in _lines(_TABLE):
        outer, _, inner = name.rpartition(".")
        messages[name] = (messages[outer].nested_type if outer else file.message_type).add(name=inner)
        for field in filter(None, fields.split(",")):
            _add_field(messages[name], name, field, enums)
    for name, values in enums.items():
        outer, _, inner = name.rpartition(".")
        enum = (messages[outer].enum_type if outer else file.enum_type).add(name=inner)
        for index, value in enumerate(values.split()):
            enum.value.add(name=value, number=index)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return pool


def _add_field(owner: Any, name: str, field: str, enums: dict[str, str]) -> None:
    label, _, kind = field.strip().partition("=")
    index, kind = kind.split()
    several = kind.endswith(("*", "{}"))
    added = owner.field.add(name=label, number=int(index), label=Field.LABEL_REPEATED if several else None)
    if kind.endswith("{}"):
        entry = owner.nested_type.add(name=f"{label.capitalize()}Entry")
        entry.options.map_entry = True
        for at, part in enumerate(("key", "value"), 1):
            entry.field.add(name=part, number=at, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
        kind = f"{name}.{entry.name}"
    kind = kind.rstrip("*")
    if kind in _SCALARS:
        added.type = _SCALARS[kind]
    else:
        added.type = Field.TYPE_ENUM if kind in enums else Field.TYPE_MESSAGE
        added.type_name = f".{PACKAGE}.{kind}"


def _lines(table: str) -> Iterator[tuple[str, str]]:
    for line in table.strip().replace("\n  ", " ").splitlines():
        name, _, rest = line.partition(":")
        yield name, rest
