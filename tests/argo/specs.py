"""Experiments to compile: one of each shape and kind, and one whose texts all mean something to YAML, Argo or sh."""

from typing import Any

from katib_flow.spec import Experiment

HOSTILE = [
    *(
        "y",
        "n",
        "on",
        "off",
        "~",
        "null",
        "true",
        "1e-3",
        "1E3",
        "0o7",
        "010",
        "0x1f",
        "12:30",
        "1_000",
        "1e22",
        "=",
        "<<",
    ),
    *(
        ".5",
        "-",
        "- a",
        ": ",
        "# no",
        "&a",
        "*a",
        "!!int 3",
        "%YAML",
        "@",
        "`",
        "'",
        '"',
        "a\nb\n\nc ",
        "\t",
        "",
        " ",
        "\\",
    ),
    *(
        "{{workflow.name}}",
        "{{{x}}}",
        "{{=1+1}}",
        "$(HOME)",
        "$$",
        "${",
        "$$${x}",
        "\u2028",
        "\x85",
        "\U0001f600",
        "2001-01-01",
    ),
]


def spec(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "digits-mlp",
        "objective": {"metric": "accuracy", "direction": "maximize", "goal": 0.985},
        "parameters": {"lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}},
        "limits": {"max_trials": 60, "parallel_trials": 4, "trial_timeout": "10m", "timeout": "2h"},
        "trial": {"function": "examples.digits:train"},
        "argo": {"image": "registry.example.com/digits:1", "namespace": "ml"},
    }
    return data | changes


def container(**changes: Any) -> dict[str, Any]:
    command = ["python3", "train.py", "--lr", "${lr}"]
    return {"container": {"image": "registry.example.com/any:2", "command": command, **changes}}


def hostile() -> dict[str, Any]:
    names = ("y", "n", "on", "off", "NO", "Null", "e1", "_1e3", "yes.no", "true")
    parameters = {name: {"type": "categorical", "values": HOSTILE} for name in names}
    env = {"y": "on", "A.b-c": "${n} {{x}} $(A)"}
    trial = container(
        image="y",
        command=["sh", "-c", "echo ${y}"],
        args=["${y}", "$${y}", "'; rm -rf /", "{{inputs.parameters.id}}"],
        env=env,
    )
    trial["container"]["resources"] = {"limits": {"memory": "1e3", "cpu": 0.5, "nvidia.com/gpu": 1}}
    argo = {"namespace": "on", "service_account": "n", "image": "010"}
    return spec(name="0e1", description="\n".join(HOSTILE), parameters=parameters, trial=trial, argo=argo)


def resource(**changes: Any) -> dict[str, Any]:
    pod = {
        "containers": [{"name": "main", "image": "x", "command": ["train", "--lr=${lr}"]}],
        "restartPolicy": "Never",
    }
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    return {"resource": {"manifest": manifest, **changes}}


PLACED = {
    "namespace": "ml",
    "labels": {"team": "vision"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "node_selector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "shared", "operator": "Exists"}],
    "priority_class": "low",
    "priority": 3,
    "image_pull_policy": "IfNotPresent",
    "image_pull_secrets": ["registry"],
    "pod_gc": "OnWorkflowSuccess",
    "ttl": "7d",
    "checkpoints": {"claim": "models"},
    "steps": {"resources": {"requests": {"memory": "1Gi", "cpu": 1}}},
    "trial": {
        "node_selector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule", "seconds": 60}],
        "annotations": {"note": "on"},
        "volumes": [
            {"path": "/data", "claim": "data", "read_only": True, "sub_path": "mnist"},
            {"path": "/dev/shm", "memory": "1Gi"},
            {"path": "/etc/keys", "secret": "keys"},
            {"path": "/etc/conf", "config_map": "conf"},
        ],
        "secrets": {"TOKEN": {"secret": "hub", "key": "token"}},
        "secret_sets": ["all"],
        "semaphore": "gpu-trials",
    },
}
GPU = {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}}

SPECS = {
    "function": spec(),
    "command": spec(trial={"command": ["python3", "train.py", "--lr=${lr}"]}),
    "container": spec(trial=container(), metrics={"source": "file", "path": "/var/log/katib/metrics.log"}),
    "custom": spec(
        trial=container(),
        metrics={"source": "custom", "path": "/out", "container": {"image": "mine:1", "command": ["read", "${lr}"]}},
    ),
    "custom-own": spec(
        trial=container(),
        metrics={
            "source": "custom",
            "container": {
                "image": "mine:1",
                "args": ["--trial", "${trial.name}", "$(A)"],
                "env": {"A": "$x ${trial.id}"},
                "working_dir": "/work",
                "resources": {"limits": {"memory": "1Gi"}},
                "starts": "with-trial",
            },
        },
    ),
    "katib": spec(trial=container(), metrics={"source": "katib"}),
    "katib-function": spec(metrics={"source": "katib", "port": 7000}),
    "lanes": spec(argo={"image": "digits:1", "mode": "lanes"}),
    "nas": spec(architecture="cell"),
    "resource": spec(trial=resource()),
    "template": spec(
        trial={"template": {"name": "pipeline", "arguments": {"lr": "${lr}"}}}, metrics={"source": "push"}
    ),
    "placed": spec(trial=container(resources=GPU), argo=PLACED),
    "placed-lanes": spec(
        argo={**PLACED, "image": "digits:1", "mode": "lanes", "trial": {**PLACED["trial"], "resources": GPU}}  # type: ignore[dict-item]
    ),
    "code": spec(trial={"function": "m:train", "code": "def train(lr): ...", "packages": ["rich>=13"]}, argo={}),
    "tracking": spec(tracking={"uri": "https://mlflow.example.com/pa$$th"}),
    "hostile": hostile(),
}


def experiment(name: str) -> Experiment:
    return Experiment.parse(SPECS[name])
