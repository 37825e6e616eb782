"""Translate the parameters, objective, limits and metrics of a Katib manifest."""

import re
from collections.abc import Callable
from typing import Any

from katib_flow.spec.katib import collector, manifest
from katib_flow.spec.katib.draft import Draft, listed
from katib_flow.spec.template import BUILTIN

PARALLEL = 3  # Katib's default
MANY = 1_000_000
SCALES = {
    **dict.fromkeys(("uniform", "unknown", ""), "linear"),
    **{"logUniform": "log", "normal": "normal", "logNormal": "lognormal"},
}
DEFAULT_FILE, DEFAULT_DIRECTORY = "/var/log/katib/metrics.log", "/var/log/katib/tfevent/"
_WHOLE = r"[+-]?[0-9]+"
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


def parameters(draft: Draft, data: Any) -> dict[str, str]:
    """Fill in ``parameters`` and return their names in the spec by those in the manifest."""
    names: dict[str, str] = {}
    items = [] if data is None else listed(data)
    if items is None:
        draft.wrong("spec.parameters", data, "a list", unsound=["parameters"])
        return names
    draft.data["parameters"] = {}
    draft.came("parameters", "spec.parameters")
    for number, item in enumerate(items):
        read = draft.read(manifest.Parameter, item, "spec.parameters", number, unsound=["parameters"])
        if draft.has_mended(f"spec.parameters[{number}].name"):
            draft.unsound.add("parameters")  # other parts may refer to it
        if read is not None and read.name in names:
            draft.wrong(f"spec.parameters[{number}].name", read.name, "each parameter only once")
        elif read is not None:
            names[read.name] = _native_name(draft, read.name, set(names.values()), number)
            _parameter(draft, read, names[read.name], f"spec.parameters[{number}]")
    return names


def _native_name(draft: Draft, name: str, taken: set[str], number: int) -> str:
    """The name in the spec: unlike Katib, a spec does not allow names such as ``--lr``."""
    plain = re.sub(r"[^\w.-]", "_", name).lstrip("-.")
    plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
    while plain in taken or plain in BUILTIN:
        plain += f"_{number}"
    if plain != name:
        draft.note(f"parameters.{plain}", f"called {name!r} in Katib, which is not a valid name here")
    return plain


def _parameter(draft: Draft, read: manifest.Parameter, name: str, path: str) -> None:
    native = (_number if read.parameter_type in ("double", "int") else _choice)(draft, read, name, path)
    if native is None:
        native = {"type": "categorical", "values": ["?"]}  # a stand-in, so that references to it can be checked
        draft.unsound.add(f"parameters.{name}")
    draft.data["parameters"][name] = native
    draft.came(f"parameters.{name}", path)
    for ours, theirs in (("min", "min"), ("max", "max"), ("step", "step"), ("values", "list")):
        draft.came(f"parameters.{name}.{ours}", f"{path}.feasibleSpace.{theirs}")
    draft.came(f"parameters.{name}.scale", f"{path}.feasibleSpace.distribution")


def _number(draft: Draft, read: manifest.Parameter, name: str, path: str) -> dict[str, Any] | None:
    space, whole = read.feasible_space, read.parameter_type == "int"
    before = len(draft.problems)
    if space.values:
        draft.wrong(f"{path}.feasibleSpace.list", list(space.values), f"min and max, because it is {_a(read)}")
    native: dict[str, Any] = {"type": "int" if whole else "float"}
    for key, text in (("min", space.min), ("max", space.max), ("step", space.step)):
        if not text and key != "step":
            draft.wrong(f"{path}.feasibleSpace.{key}", text, f"a number, because it is {_a(read)}")
        elif text:
            number = _whole(text) if whole else _real(text)
            if number is None:
                need = "a whole number" if whole else "a number"
                draft.wrong(f"{path}.feasibleSpace.{key}", text, f"{need} as text, because it is {_a(read)}")
            native[key] = number
    if (scale := SCALES[space.distribution]) != "linear":
        native["scale"] = scale
    return native if len(draft.problems) == before else None


def _choice(draft: Draft, read: manifest.Parameter, name: str, path: str) -> dict[str, Any] | None:
    space = read.feasible_space
    given = [key for key in ("min", "max", "step") if getattr(space, key)]
    if given:
        bound = getattr(space, given[0])
        draft.wrong(f"{path}.feasibleSpace.{given[0]}", bound, f"only a list, because it is {_a(read)}")
    if not space.values:
        draft.wrong(f"{path}.feasibleSpace.list", list(space.values), f"a list of values, because it is {_a(read)}")
    if given or not space.values:
        return None
    if read.parameter_type == "categorical":
        return {"type": "categorical", "values": list(space.values)}
    numbers = [number for text in space.values if (number := plain(text)) is not None]
    if len(numbers) < len(space.values):
        return {"type": "ordinal", "values": list(space.values)}
    if numbers != sorted(numbers):
        draft.note(f"parameters.{name}", "sorted here; not in ascending order in the manifest")
    return {"type": "ordinal", "values": sorted(numbers)}


def _a(read: manifest.Parameter) -> str:
    return f"{'an' if read.parameter_type == 'int' else 'a'} {read.parameter_type}"


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(_WHOLE, text.strip()) and len(text) < 400 else None


def _real(text: str) -> float | None:
    return float(text) if re.fullmatch(_NUMBER, text.strip()) else None


def plain(text: str) -> int | float | None:
    """The number that a text represents; None if it is not a number."""
    whole = _whole(text)
    return whole if whole is not None else _real(text)


def objective(draft: Draft, data: Any) -> None:
    """Fill in ``objective``, ``additional_metrics`` and ``metrics.strategy``."""
    read = draft.read(manifest.Objective, data, "spec.objective", unsound=["objective", "metrics", "limits"])
    if read is None:
        return
    goal = {} if read.goal is None else {"goal": read.goal}
    draft.data["objective"] = {"metric": read.objective_metric_name, "direction": read.type, **goal}
    if read.additional_metric_names:
        draft.data["additional_metrics"] = list(read.additional_metric_names)
    given = {strategy.name: strategy.value for strategy in read.metric_strategies}
    default = "min" if read.type == "minimize" else "max"  # Katib's default
    names = (read.objective_metric_name, *read.additional_metric_names)
    draft.data.setdefault("metrics", {})["strategy"] = {name: given.pop(name, default) for name in names}
    for name in given:
        draft.note("metrics.strategy", f"left out {name!r}, because it is not a metric of this experiment")
    draft.came("objective", "spec.objective")
    for ours, theirs in (("metric", "objectiveMetricName"), ("direction", "type"), ("goal", "goal")):
        draft.came(f"objective.{ours}", f"spec.objective.{theirs}")
    draft.came("additional_metrics", "spec.objective.additionalMetricNames", below=True)
    draft.came("metrics.strategy", "spec.objective.metricStrategies")


def limits(draft: Draft, spec: manifest.Spec) -> None:
    """Fill in ``limits``."""
    failed = spec.max_failed_trial_count
    section: dict[str, Any] = {"parallel_trials": spec.parallel_trial_count or PARALLEL}
    if spec.max_trial_count is not None:
        section = {"max_trials": spec.max_trial_count, **section}
    if failed is None:
        draft.note("limits.max_failed_trials", "without maxFailedTrialCount, Katib has no such limit")
        failed = spec.max_trial_count or MANY
    draft.data["limits"] = {**section, "max_failed_trials": failed}
    draft.came("limits", "spec.maxTrialCount")
    draft.came("limits.max_trials", "spec.maxTrialCount")
    draft.came("limits.parallel_trials", "spec.parallelTrialCount")
    draft.came("limits.max_failed_trials", "spec.maxFailedTrialCount")
    if spec.resume_policy in ("LongRunning", "FromVolume"):
        text = f"resumePolicy {spec.resume_policy}: here any experiment can be resumed, with katib-flow resume NAME"
        draft.note("limits", text)


def metrics(draft: Draft, data: Any) -> manifest.MetricsCollector | None:
    """Fill in ``metrics`` and return the section as read; None if it is too wrong to be read."""
    at = "spec.metricsCollectorSpec"
    read = draft.read(manifest.MetricsCollector, {} if data is None else data, at, unsound=["metrics"])
    if read is None:
        return None
    source = _SOURCES[read.collector.kind](draft, read)
    draft.data["metrics"] = {**source, **_filter(draft, read, source), **draft.data.get("metrics", {})}
    draft.came("metrics", at)
    draft.came("metrics.source", f"{at}.collector.kind")
    draft.came("metrics.path", f"{at}.source.fileSystemPath.path")
    draft.came("metrics.format", f"{at}.source.fileSystemPath.format")
    draft.came("metrics.filter", f"{at}.source.filter.metricsFormat", below=True)
    draft.came("metrics.port", f"{at}.source.httpGet.port")
    return read


_POSIX_CLASS = re.compile(r"\[[^\]]*\[:\^?\w+:\]")


def _filter(draft: Draft, read: manifest.MetricsCollector, source: dict[str, Any]) -> dict[str, Any]:
    patterns = read.source.filter.metrics_format
    if not patterns:
        return {}
    if source["source"] not in ("stdout", "file"):
        draft.note("metrics", f"left out metricsFormat, because a {read.collector.kind} collector does not use it")
        return {}
    if classes := [number for number, pattern in enumerate(patterns) if _POSIX_CLASS.search(pattern)]:
        need = "a Python regular expression, such as [A-Za-z] for [[:alpha:]]"
        at = f"spec.metricsCollectorSpec.source.filter.metricsFormat[{classes[0]}]"
        draft.wrong(at, patterns[classes[0]], need)
        return {}
    return {"filter": patterns[0] if len(patterns) == 1 else list(patterns)}


def _stdout(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    return {"source": "stdout"}


def _file(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    file = read.source.file_system_path
    if file.kind == "Directory":
        need = "File, because the collector is File; TensorFlowEvent reads a directory"
        draft.wrong("spec.metricsCollectorSpec.source.fileSystemPath.kind", file.kind, need)
    json = {"format": "json"} if file.format == "JSON" else {}
    return {"source": "file", "path": file.path or DEFAULT_FILE, **json}


def _tensorboard(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    return {"source": "tensorboard", "path": read.source.file_system_path.path or DEFAULT_DIRECTORY}


def _prometheus(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    get = read.source.http_get
    port = _whole(get.port) if get.port else 8080
    if port is None:
        need = "a port number, because ports have no names here"
        draft.wrong("spec.metricsCollectorSpec.source.httpGet.port", get.port, need, unsound=["metrics"])
    for key, value in (("host", get.host), ("scheme", get.scheme), ("httpHeaders", get.http_headers)):
        if value:
            draft.note("metrics", f"left out httpGet.{key}, because the endpoint is the trial's own, over plain HTTP")
    return {"source": "prometheus", "port": port, "path": get.path or "/metrics"}


def _push(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    return {"source": "katib"}


def _none(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    draft.note("metrics", "without a collector, metrics must be reported over Katib's API, as in Katib")
    return {"source": "katib"}


_SOURCES: dict[str, Callable[[Draft, manifest.MetricsCollector], dict[str, Any]]] = {
    "StdOut": _stdout,
    "File": _file,
    "TensorFlowEvent": _tensorboard,
    "PrometheusMetric": _prometheus,
    "Push": _push,
    "None": _none,
    "Custom": collector.custom,
}
