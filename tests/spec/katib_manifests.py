"""A small Katib manifest to test with, and what becomes of it."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import yaml

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec
from katib_flow.spec.load import Parsed, parse
from katib_flow.spec.yaml12 import dump_yaml
from katib_flow.stopping import check_stopping

Data = dict[str, Any]

GOOD = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata:
  name: digits
  namespace: ml
spec:
  objective:
    type: minimize
    goal: 0.001
    objectiveMetricName: loss
  algorithm:
    algorithmName: random
  parallelTrialCount: 2
  maxTrialCount: 12
  maxFailedTrialCount: 3
  parameters:
    - name: lr
      parameterType: double
      feasibleSpace:
        min: "0.01"
        max: "0.05"
  trialTemplate:
    primaryContainerName: training
    trialParameters:
      - name: learningRate
        reference: lr
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            containers:
              - name: training
                image: train:1
                command:
                  - python3
                  - --lr=${trialParameters.learningRate}
            restartPolicy: Never
"""

POD_OF_MORE = {
    "nodeSelector": {"gpu": "a100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 60}],
    "imagePullSecrets": [{"name": "registry"}],
    "volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "images"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "code", "configMap": {"name": "code"}},
    ],
}
CONTAINER_OF_MORE = {
    "workingDir": "/work",
    "imagePullPolicy": "Always",
    "volumeMounts": [
        {"name": "data", "mountPath": "/data/", "subPath": "train", "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "keys", "mountPath": "/keys"},
        {"name": "code", "mountPath": "/code"},
    ],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    ],
    "envFrom": [{"secretRef": {"name": "all"}}],
}


def good() -> Data:
    """The manifest as plain data, to be changed."""
    return copy.deepcopy(yaml.safe_load(GOOD))


def with_spec(**sections: Any) -> Data:
    """The manifest with some sections of its spec in the place of its own; None takes one out."""
    data = good()
    data["spec"] = {key: part for key, part in {**data["spec"], **sections}.items() if part is not None}
    return data


def with_job(container: Data | None = None, pod: Data | None = None, job: Data | None = None, **template: Any) -> Data:
    """The manifest with more in its Job's container, pod and spec, and in the trial template."""
    data = good()
    trial = data["spec"]["trialTemplate"]
    spec = trial["trialSpec"]["spec"]
    spec["template"]["spec"]["containers"][0].update(container or {})
    spec["template"]["spec"].update(pod or {})
    spec.update(job or {})
    trial.update(template)
    return data


def parsed(data: Data | str) -> Parsed:
    text = data if isinstance(data, str) else dump_yaml(data)
    return parse(text, "k.yaml", [check_algorithm, check_stopping])


def refusals(data: Data | str) -> list[str]:
    """What is told of a manifest that is wrong, a line a mistake."""
    with pytest.raises(InvalidSpec) as caught:
        parsed(data)
    return str(caught.value).splitlines()


def mistakes(data: Data) -> list[str]:
    """The same without file and line."""
    return [line.split(": ", 1)[1] for line in refusals(data)]


def notes(of: Parsed) -> list[str]:
    return [f"{note.where}: {note.text}" for note in of.notes]


def settings(**values: str) -> Iterable[Data]:
    """Settings as Katib writes them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def algorithm(name: str, **values: str) -> Data:
    return {"algorithmName": name, "algorithmSettings": list(settings(**values))}


def parameter(name: str, kind: str, **space: Any) -> Data:
    return {"name": name, "parameterType": kind, "feasibleSpace": space}
