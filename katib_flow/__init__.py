"""katib-flow: AutoML as plain workflows.

The public names. Each is imported on first use, so that ``import katib_flow`` is fast, and a trial that only reports a
metric does not load a scheduler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katib_flow import search
    from katib_flow.algorithms.learning import Learner
    from katib_flow.algorithms.registry import Ask, Settings, algorithm
    from katib_flow.argo import compile_experiment as compile
    from katib_flow.argo.embed import experiment_task
    from katib_flow.decorator import Categorical, Float, Int, Ordinal, experiment, run, start
    from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
    from katib_flow.history import History, Kind, Metric, Origin, State, Suggestion, Trial
    from katib_flow.local import Result
    from katib_flow.local.asking import ask_and_tell
    from katib_flow.loop import load, suggest, verdict
    from katib_flow.models import Space, Topology, merge, operation
    from katib_flow.spaces import architectures, search_space
    from katib_flow.spec import Experiment
    from katib_flow.tracking.registry import network_of
    from katib_flow.trial.user import (
        arguments,
        checkpoint_dir,
        load_model,
        parameters,
        parent_checkpoint_dir,
        report,
        save_model,
        should_stop,
        topology,
    )
    from katib_flow.tuning import tune

_HOME = {
    "katib_flow.algorithms.learning": ("Learner",),
    "katib_flow.algorithms.registry": ("Ask", "Settings", "algorithm"),
    "katib_flow.argo.embed": ("experiment_task",),
    "katib_flow.decorator": ("Categorical", "Float", "Int", "Ordinal", "experiment", "run", "start"),
    "katib_flow.errors": ("InvalidSpec", "KatibFlowError", "SpecError"),
    "katib_flow.history": ("History", "Kind", "Metric", "Origin", "State", "Suggestion", "Trial"),
    "katib_flow.local": ("Result",),
    "katib_flow.local.asking": ("ask_and_tell",),
    "katib_flow.loop": ("load", "suggest", "verdict"),
    "katib_flow.spaces": ("architectures", "search_space"),
    "katib_flow.spec": ("Experiment",),
    "katib_flow.models": ("Space", "Topology", "merge", "operation"),
    "katib_flow.tracking.registry": ("network_of",),
    "katib_flow.tuning": ("tune",),
    "katib_flow.trial.user": (
        "arguments",
        "checkpoint_dir",
        "load_model",
        "parameters",
        "parent_checkpoint_dir",
        "report",
        "save_model",
        "should_stop",
        "topology",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Ask",
    "Categorical",
    "Experiment",
    "Float",
    "History",
    "Int",
    "InvalidSpec",
    "KatibFlowError",
    "Kind",
    "Learner",
    "Metric",
    "Ordinal",
    "Origin",
    "Result",
    "Settings",
    "Space",
    "SpecError",
    "State",
    "Suggestion",
    "Topology",
    "Trial",
    "algorithm",
    "architectures",
    "arguments",
    "ask_and_tell",
    "checkpoint_dir",
    "compile",
    "experiment",
    "experiment_task",
    "load",
    "load_model",
    "merge",
    "network_of",
    "operation",
    "parameters",
    "parent_checkpoint_dir",
    "report",
    "run",
    "save_model",
    "search",
    "search_space",
    "should_stop",
    "start",
    "suggest",
    "topology",
    "tune",
    "verdict",
]


def __getattr__(name: str) -> Any:
    if name == "search":
        return import_module("katib_flow.search")
    if name == "compile":
        return import_module("katib_flow.argo").compile_experiment
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'katib_flow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
