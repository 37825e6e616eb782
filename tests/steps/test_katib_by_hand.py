"""Katib's manifests from end to end: compiled, their programs run in pods of any image, their results in MLflow."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from hand import Hand

from katib_flow.history import State
from katib_flow.spec import parse_spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("busybox") is None, reason="needs a static busybox (apt: busybox-static)"),
]

MANIFEST = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {{name: digits}}
spec:
  objective: {{type: maximize, objectiveMetricName: Validation-accuracy}}
  algorithm:
    algorithmName: pbt
    algorithmSettings:
      - {{name: suggestion_trial_dir, value: /var/log/katib/checkpoints/}}
      - {{name: n_population, value: "2"}}
      - {{name: truncation_threshold, value: "0.2"}}
  parallelTrialCount: 2
  maxTrialCount: 8
  maxFailedTrialCount: 1
  metricsCollectorSpec:
    source: {{filter: {{metricsFormat: ['([\\w|-]+)\\s*is\\s*([0-9.]+)']}}}}
    collector: {{kind: StdOut}}
  parameters:
    - {{name: --lr, parameterType: double, feasibleSpace: {{min: "0.25", max: "0.5"}}}}
    - {{name: kind, parameterType: categorical, feasibleSpace: {{list: ["a b"]}}}}
  trialTemplate:
    primaryContainerName: training
    trialParameters:
      - {{name: rate, reference: --lr}}
      - {{name: kind, reference: kind}}
      - {{name: trial, reference: "${{trialSpec.Name}}"}}
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            restartPolicy: Never
            containers:
              - name: training
                image: train:1
                command: [{python}, train.py]
                args:
                  - '--lr="${{trialParameters.rate}}"'
                  - '--kind="${{trialParameters.kind}}"'
                  - --name=$(NAME)
                  - --dir=/var/log/katib/checkpoints/
                env:
                  - {{name: NAME, value: "${{trialParameters.trial}}"}}
"""
PROGRAM = """\
import pathlib, sys

said = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
assert said["kind"] == "a b", said
print("trial", said["name"])
state = pathlib.Path(said["dir"]) / "steps"
steps = int(state.read_text()) if state.exists() else 0
if state.parent.is_dir():
    state.write_text(str(steps + 1))
for share in (2, 1, 4):
    print(f"Validation-accuracy is {float(said['lr']) / share + steps}")
"""


def test_a_manifest_runs_as_in_katib(tmp_path: Path) -> None:
    """Two members of a population, and the next trial of one, which goes on from a checkpoint."""
    (tmp_path / "train.py").write_text(PROGRAM)
    experiment = parse_spec(MANIFEST.format(python=sys.executable))
    hand = Hand(experiment, tmp_path, f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "pods", run="by-hand")
    for k, count in ((1, 2), (2, 1)):
        ids = json.loads(hand.pod("suggest", k=str(k)).outputs["ids"])
        for trial in ids[:count]:
            pod = hand.pod("trial", id=trial)
            assert pod.exit_code == 0, pod.log
    store, record = hand.store()
    first, second, third, _ = store.history(record, series=True)
    assert (first.suggestion.parent, second.suggestion.parent, third.suggestion.parent in (0, 1)) == (None, None, True)
    for trial, steps in ((first, 0), (second, 0), (third, 1)):
        rate = trial.assignment["lr"]
        assert isinstance(rate, float)
        reported = [rate / 2 + steps, rate + steps, rate / 4 + steps]
        assert [metric.value for metric in trial.series["Validation-accuracy"]] == pytest.approx(reported)
        assert trial.observations == {"Validation-accuracy": reported[1]}  # where nothing is said, the best counts
        assert trial.state is State.SUCCEEDED
