"""The spec: YAML or Python -> Experiment, frozen."""

from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import load_spec, parse_spec
from katib_flow.spec.sections import Budget, Limits, Objective
from katib_flow.spec.space import Assignment, SearchSpace
from katib_flow.spec.yaml12 import dump_yaml, load_yaml

__all__ = [
    "Assignment",
    "Budget",
    "Experiment",
    "Limits",
    "Objective",
    "SearchSpace",
    "dump_yaml",
    "load_spec",
    "load_yaml",
    "parse_spec",
]
