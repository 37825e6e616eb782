"""The spec: YAML or Python -> Experiment, frozen."""

from katib_flow.spec.experiment import Budget, Experiment, Limits, Objective
from katib_flow.spec.load import load_spec, load_yaml, parse_spec
from katib_flow.spec.space import Assignment, SearchSpace

__all__ = [
    "Assignment",
    "Budget",
    "Experiment",
    "Limits",
    "Objective",
    "SearchSpace",
    "load_spec",
    "load_yaml",
    "parse_spec",
]
