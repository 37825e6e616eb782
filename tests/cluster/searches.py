"""Experiments of the cluster tests beyond the smallest: code that keeps checkpoints, budgets, a population, weights."""

from typing import Any

from cluster_kit import LOCKED, shell

GOES_ON = """\
import time

import katib_flow as kf

def count(x, steps=40, seconds=1.0):
    file = kf.checkpoint_dir() / "step"
    first = int(file.read_text()) if file.exists() else 0
    for step in range(first, int(steps)):
        time.sleep(seconds)
        part = file.with_name("part")
        part.write_text(str(step + 1))
        part.replace(file)
        kf.report(score=x * (step + 1), first=first, step=step)

def inherit(x, epochs):
    before = kf.parent_checkpoint_dir()
    done = int((before / "epochs").read_text()) if before else 0
    (kf.checkpoint_dir() / "epochs").write_text(str(int(epochs)))
    return {"score": x * epochs, "done": done}
"""

CHECKPOINTS: dict[str, Any] = {
    "additional_metrics": ["first"],
    "trial": {"function": "cluster_test:count", "code": GOES_ON},
    "argo": {"checkpoints": {"every": "5s"}},
    "limits": {"max_trials": 1},
}
HYPERBAND: dict[str, Any] = {
    "additional_metrics": ["done"],
    "algorithm": "hyperband",
    "budget": {"parameter": "epochs", "min": 1, "max": 9, "eta": 3},
    "trial": {"function": "cluster_test:inherit", "code": GOES_ON},
    "limits": {"parallel_trials": 9},
}
PBT: dict[str, Any] = {
    "additional_metrics": ["done"],
    "algorithm": {"name": "pbt", "seed": 1, "settings": {"n_population": 4, "truncation_threshold": 0.25}},
    "budget": {"parameter": "epochs", "min": 1, "max": 3},
    "trial": {"function": "cluster_test:inherit", "code": GOES_ON},
    "limits": {"parallel_trials": 4},
}
ENAS: dict[str, Any] = {
    "additional_metrics": ["loss"],
    "objective": {"metric": "accuracy", "direction": "maximize"},
    "architecture": {"space": "cell", "settings": {"operations": ["none", "skip", "conv3", "avg3"]}},
    "algorithm": {"name": "enas", "settings": {"epochs": 4, "segment_epochs": 1, "retrain": 1}},
    "trial": {"arguments": {"epochs": 1}},
    "limits": {"max_failed_trials": 0},
}
SLEEPS: dict[str, Any] = {
    "x": {"type": "float", "min": 0, "max": 1},
    "seconds": {"type": "categorical", "values": [20]},
}


def katib(name: str, image: str) -> dict[str, Any]:
    """A manifest of Katib's, whose trials are Jobs."""
    main = {
        "name": "training", "image": image, "imagePullPolicy": "Never", "securityContext": LOCKED,
        "command": shell('echo "loss=$1"', "${trialParameters.rate}"),
    }  # fmt: skip
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [main]}
    parameter = {"name": "lr", "parameterType": "double", "feasibleSpace": {"min": "0.01", "max": "0.05"}}
    return {
        "apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "metadata": {"name": name},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {"algorithmName": "random"},
            "parallelTrialCount": 2, "maxTrialCount": 4, "maxFailedTrialCount": 1,
            "parameters": [parameter],
            "trialTemplate": {
                "primaryContainerName": "training",
                "trialParameters": [{"name": "rate", "reference": "lr"}],
                "trialSpec": {
                    "apiVersion": "batch/v1", "kind": "Job",
                    "spec": {"backoffLimit": 0, "template": {"spec": pod}},
                },
            },
        },
    }  # fmt: skip
