"""Katib's trial templates -> a container or a resource: the same program with the same arguments."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from katib_manifests import CONTAINER_OF_MORE, POD_OF_MORE, Data, good, mistakes, notes, parsed, with_job

from katib_flow.spec.katib.shell import needs_reading, words
from katib_flow.spec.template import substitute_all

COMPLETE = 'status.conditions.#(type=="Complete")#|#(status=="True")#'
SUCCEEDED = 'status.conditions.#(type=="Succeeded")#|#(status=="True")#'
FAILED = 'status.conditions.#(type=="Failed")#|#(status=="True")#'
POD = "spec.template.spec"


def with_object(manifest: Data, **template: object) -> Data:
    """The manifest with another object in the place of its Job."""
    data = good()
    data["spec"]["trialTemplate"] = {
        "trialParameters": [{"name": "learningRate", "reference": "lr"}], "trialSpec": manifest, **template
    }  # fmt: skip
    return data


def pytorch_job(argument: str = "--lr=${trialParameters.learningRate}") -> Data:
    pod = {"spec": {"containers": [{"name": "pytorch", "image": "train:1", "command": ["train", argument]}]}}
    replicas = {"Master": {"replicas": 1, "template": pod}, "Worker": {"replicas": 2, "template": pod}}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "spec": {"pytorchReplicaSpecs": replicas}}


# containers


def test_a_job_of_one_plain_container_is_a_container():
    read = parsed(
        with_job(
            container={
                "args": ["--epochs=1"],
                "env": [{"name": "A", "value": "1"}, {"name": "B"}],
                "resources": {"limits": {"memory": "1Gi", "nvidia.com/gpu": 1}, "requests": {}},
            },
            job={"ttlSecondsAfterFinished": 60, "completions": 1, "backoffLimit": 0, "activeDeadlineSeconds": 600},
        )
    )
    assert read.data["trial"]["container"] == {
        "image": "train:1",
        "command": ["python3", "--lr=${lr}"],
        "args": ["--epochs=1"],
        "env": {"A": "1", "B": ""},
        "resources": {"limits": {"memory": "1Gi", "nvidia.com/gpu": 1}},
    }
    assert read.experiment.limits.trial_timeout == 600
    assert notes(read) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"job": {"backoffLimit": 2}}, "a Job restarts a failed pod; here a failed trial is not restarted, see limits.retries"),
        ({"pod": {"restartPolicy": "OnFailure"}}, "a Job restarts a failed pod; here a failed trial is not restarted, see "
         "limits.retries"),
        ({"retain": True}, "retain: the output of a trial is kept in MLflow, but its pod is not kept"),
    ],
)  # fmt: skip
def test_what_a_container_trial_does_otherwise_is_told(changes: Data, told: str):
    assert notes(parsed(with_job(**changes))) == [f"trial.container: {told}"]


def test_metadata_of_the_trial_can_be_named():
    data = good()
    template = data["spec"]["trialTemplate"]
    template["trialSpec"]["metadata"] = {"labels": {"a/b": "l ${x}"}, "annotations": {"c": "n"}}
    names = ["Name", "Namespace", "Kind", "APIVersion", "Labels[a/b]", "Annotations[c]"]
    template["trialParameters"] += [{"name": f"p{i}", "reference": f"${{trialSpec.{n}}}"} for i, n in enumerate(names)]
    container = template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": f"E{i}", "value": f"<${{trialParameters.p{i}}}>"} for i in range(len(names))]
    assert list(parsed(data).data["trial"]["container"]["env"].values()) == [
        "<${trial.name}>", "<${trial.namespace}>", "<Job>", "<batch/v1>", "<l $${x}>", "<n>"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["Labels[gone]", "Labels", "Uid", "Name[x]"])
def test_metadata_that_is_not_there_is_told(name: str):
    data = good()
    data["spec"]["trialTemplate"]["trialParameters"].append({"name": "x", "reference": f"${{trialSpec.{name}}}"})
    (told,) = mistakes(data)
    assert told.startswith(
        f"spec.trialTemplate.trialParameters[1].reference: found '${{trialSpec.{name}}}', need Name,"
    )


@pytest.mark.parametrize(
    ("written", "reaches"),
    [
        ("--home=${HOME}", "--home=${HOME}"),  # not a placeholder of Katib's
        ("$${HOME}", "$${HOME}"),
        ("--lr=${trialParameters.learningRate}", "--lr=0.5"),
        ("${trialParameters.learningRate}${trialParameters.learningRate}", "0.50.5"),
        ("--lr=$(LR)", "--lr=0.5"),  # Kubernetes' own
        ("--b=$(B)", "--b=<0.5>"),
        ("--no=$(NOBODY)", "--no=$(NOBODY)"),
        ("--dollar=$$(LR)", "--dollar=$(LR)"),
        ('--config="a b"', "--config=a b"),  # a shell's, which Katib starts
        ("--lr='${trialParameters.learningRate}'", "--lr=0.5"),
        ("a\\ b", "a b"),
    ],
)
def test_an_argument_reaches_the_program_as_in_katib(written: str, reaches: str):
    env = [{"name": "LR", "value": "${trialParameters.learningRate}"}, {"name": "B", "value": "<$(LR)>"}]
    container = parsed(with_job(container={"args": [written], "env": env})).data["trial"]["container"]
    arguments = substitute_all([*container["command"], *container.get("args", ())], {"lr": 0.5})
    assert arguments[2:] == [reaches]


def test_arguments_that_a_shell_would_split_are_split():
    read = parsed(with_job(container={"command": ["python3", "train.py --lr ${trialParameters.learningRate}"]}))
    assert read.data["trial"]["container"]["command"] == ["python3", "train.py", "--lr", "${lr}"]
    assert notes(read) == ["trial.container.command: split into words as by the shell that Katib runs a command in"]


def test_a_script_of_a_shell_stays_one():
    script = "cd /data && train --lr ${trialParameters.learningRate} > $OUT"
    read = parsed(with_job(container={"command": ["sh", "-c"], "args": [script, "2>&1"]}))
    assert read.data["trial"]["container"] == {
        "image": "train:1",
        "command": ["sh", "-c", "cd /data && train --lr ${lr} > $OUT 2>&1"],
    }
    assert notes(read) == [
        "trial.container.command: a shell interprets this script, including the parameters' values in it"
    ]


@pytest.mark.parametrize("argument", ["$HOME", "a | b", "*.py", "`date`", "${HOME:-x} y", "'open"])
def test_what_only_a_shell_can_do_is_told(argument: str):
    read = parsed(with_job(container={"args": [argument]}))
    assert notes(read) == [
        "trial.container.command: in Katib a shell interprets this command, here it does not; write [sh, -c, ...] if a "
        "shell is needed"
    ]
    (kept,) = substitute_all(read.data["trial"]["container"]["args"], {})
    assert kept == argument


def test_what_pushes_its_metrics_is_not_given_to_a_shell():
    data = with_job(container={"args": ['--config="a b"']})
    data["spec"]["metricsCollectorSpec"] = {"collector": {"kind": "Push"}}
    assert parsed(data).data["trial"]["container"]["args"] == ['--config="a b"']


@given(st.lists(st.text(alphabet="ab '\"\\=-.{}!\t", max_size=8), min_size=1, max_size=4))
def test_words_are_those_of_a_real_shell(command: list[str]):
    """shlex agrees with sh on quoting; what it cannot do, words does not claim to."""
    made = words(command)
    if made is None:
        return
    assert made == shlex.split(" ".join(command))
    if not needs_reading(command):
        assert made == command


@pytest.mark.parametrize(
    "line", [r"""a 'b "c' "d 'e" f\ g\"h 'i\j' "k\\l" --x={"a"}""", "'' a", "x\"y\"z'w'", r'"a\b"']
)
def test_a_real_shell_makes_the_same_words(line: str):
    program = [sys.executable, "-c", "import sys; print(*map(repr, sys.argv[1:]), sep='\\n')"]
    script = f"{shlex.join(program)} {line}"
    out = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [repr(word) for word in words([line]) or ()] == out


# where a pod runs


def test_where_the_pod_runs_and_what_is_mounted_has_its_place():
    data = with_job(container=CONTAINER_OF_MORE, pod=POD_OF_MORE)
    data["metadata"]["labels"] = {"team": "vision"}
    template = data["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    template["metadata"] = {"annotations": {"a": "b"}, "labels": {"sidecar.istio.io/inject": "false"}}
    read = parsed(data)
    assert read.data["argo"] == {
        "namespace": "ml",
        "labels": {"team": "vision"},
        "image_pull_secrets": ["registry"],
        "image_pull_policy": "Always",
        "trial": {
            "annotations": {"sidecar.istio.io/inject": "false", "a": "b"},
            "node_selector": {"gpu": "a100"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "seconds": 60}],
            "volumes": [
                {"path": "/data", "claim": "images", "sub_path": "train", "read_only": True},
                {"path": "/dev/shm", "memory": "1Gi"},
                {"path": "/keys", "secret": "keys"},
                {"path": "/code", "config_map": "code"},
            ],
            "secret_sets": ["all"],
            "secrets": {"TOKEN": {"secret": "hub", "key": "token"}},
        },
    }
    assert read.data["trial"]["container"]["env"] == {"A": "1"}
    assert read.data["trial"]["container"]["working_dir"] == "/work"
    assert notes(read) == []


# resources


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"container": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}}, f"{POD}.containers[0].volumeMounts"),
        ({"pod": {"serviceAccountName": "train"}}, f"{POD}.serviceAccountName"),
        ({"container": {"command": None}}, f"{POD}.containers[0].command"),
        ({"container": {"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}}, f"{POD}.containers[0].env[0].valueFrom"),
        ({"job": {"parallelism": 2}}, "spec.parallelism"),
        ({"pod": {"nodeSelector": {"a": "${trialParameters.learningRate}"}}}, f"{POD}.nodeSelector"),
        ({"pod": {"tolerations": [{"key": "a", "strange": 1}]}}, f"{POD}.tolerations"),
        ({"pod": {"volumes": [{"name": "v", "emptyDir": {}}]},
          "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}}, f"{POD}.containers[0].volumeMounts"),
        ({"container": {"envFrom": [{"configMapRef": {"name": "c"}}]}}, f"{POD}.containers[0].envFrom"),
        ({"container": {"securityContext": {"runAsUser": 0}}}, f"{POD}.containers[0].securityContext"),
        ({"pod": {"containers": [{"name": "training", "image": "x"}, {"name": "other", "image": "y"}]}}, f"{POD}.containers"),
    ],
)  # fmt: skip
def test_a_job_of_more_stays_a_job(changes: Data, why: str):
    read = parsed(with_job(**changes))
    resource = read.data["trial"]["resource"]
    assert resource["manifest"]["kind"] == "Job"
    assert (resource["success_condition"], resource["failure_condition"]) == (COMPLETE, FAILED)
    assert resource["primary_container"] == "training"
    assert "primary_pod_labels" not in resource
    assert notes(read) == [f"trial.resource: still a Job, because a container trial cannot have {why}"]


def test_a_training_job_keeps_its_parts_with_katibs_defaults():
    read = parsed(with_object(pytorch_job(), primaryContainerName="pytorch"))
    resource = read.data["trial"]["resource"]
    assert resource["manifest"] == pytorch_job("--lr=${lr}")
    assert resource["success_condition"] == SUCCEEDED
    assert resource["failure_condition"] == FAILED
    assert resource["primary_pod_labels"] == {"training.kubeflow.org/job-role": "master"}
    assert resource["primary_container"] == "pytorch"
    assert notes(read) == []


def test_a_train_job_is_complete_and_not_succeeded():
    resource = parsed(with_object({"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"})).data["trial"]
    assert resource["resource"]["success_condition"] == COMPLETE
    assert resource["resource"]["primary_pod_labels"] == {"jobset.sigs.k8s.io/replicatedjob-name": "node"}


def test_what_a_template_says_is_kept():
    workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": {"entrypoint": "{{x}} ${y}"}}
    said = {"primaryPodLabels": {"a": "b"}, "successCondition": "ok", "failureCondition": "no"}
    resource = parsed(with_object(workflow, **said)).data["trial"]["resource"]
    assert resource["manifest"]["spec"] == {"entrypoint": "{{x}} $${y}"}
    assert (resource["primary_pod_labels"], resource["success_condition"], resource["failure_condition"]) == (
        {"a": "b"}, "ok", "no"
    )  # fmt: skip


def test_an_object_that_katib_does_not_know_needs_conditions():
    assert mistakes(with_object({"apiVersion": "v1", "kind": "Pod"})) == [
        f"spec.trialTemplate.{key}Condition: found nothing, need a condition on the status of the Pod, because Katib has no "
        "default for this kind either"
        for key in ("success", "failure")
    ]


def test_an_object_may_write_its_metrics_to_a_file():
    data = with_object(pytorch_job(), primaryContainerName="pytorch", retain=True)
    data["spec"]["metricsCollectorSpec"] = {"collector": {"kind": "File"}}
    read = parsed(data)
    assert read.experiment.metrics.path == "/var/log/katib/metrics.log"
    assert read.data["trial"]["resource"]["retain"] is True


def test_a_placeholder_in_a_key_is_told():
    manifest = pytorch_job()
    manifest["metadata"] = {"labels": {"${trialParameters.learningRate}": "x"}}
    (told,) = mistakes(with_object(manifest))
    assert told.endswith("need no placeholder in a key, only in values")
