"""Pods of an object that report as to Katib: to a sidecar, which prints what it is told."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit import experiment

pytest.importorskip("grpc")

from katib_flow.argo.checks import check
from katib_flow.argo.names import SPEC_VARIABLE
from katib_flow.argo.steps.manifests import watched
from katib_flow.argo.steps.objects import owner
from katib_flow.errors import InvalidSpec
from katib_flow.metrics.katib import reporting_to

ROOT = Path(__file__).parents[2]
SDK = ROOT / "tests" / "katib_api" / "programs" / "reports_as_sdk.py"


def job(port: int | None = None, **pod: Any) -> Any:
    main = {"name": "main", "image": "x", "env": [{"name": "A", "value": "${lr}"}]}
    spec = {"template": {"spec": {"containers": [main, {"name": "other", "image": "y"}], **pod}}}
    resource = {"manifest": {"apiVersion": "batch/v1", "kind": "Job", "spec": spec}, "primary_container": "main"}
    metrics = {"source": "katib", **({} if port is None else {"port": port})}
    of = experiment(trial={"resource": resource}, metrics=metrics)
    check(of)
    values = {"lr": 0.5}
    return watched(of, "exp-x7k2p", "t00001", values, owner("w", "u")).manifest["spec"]["template"]["spec"]


def test_the_sidecar_has_what_katibs_sdk_calls() -> None:
    pod = job(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["mine"]}])
    main, other = pod["containers"]
    said = {item["name"]: item["value"] for item in main["env"]}
    assert said == {"A": "0.5", **reporting_to("exp-x7k2p-t00001", 6789)}
    assert "env" not in other
    assert [item["ip"] for item in pod["hostAliases"]] == ["10.0.0.1", "127.0.0.1"]
    assert "katib-db-manager.kubeflow" in pod["hostAliases"][1]["hostnames"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["volumeMounts"] == []
    assert "6789" in sidecar["startupProbe"]["exec"]["command"][2]  # the trial starts when it listens


def test_a_sidecar_prints_what_a_real_client_reports() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (sidecar,) = job(port)["initContainers"]
    spec = {item["name"]: item["value"] for item in sidecar["env"]}[SPEC_VARIABLE]
    command = [sys.executable, str(ROOT / "steps" / "train.py"), *sidecar["args"]]
    environment = {**os.environ, SPEC_VARIABLE: spec}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as reader:
        listens = [sys.executable, *sidecar["startupProbe"]["exec"]["command"][1:]]
        while subprocess.run(listens, stderr=subprocess.DEVNULL).returncode:
            assert reader.poll() is None
        client = {**os.environ, **reporting_to("exp-x7k2p-t00001", port)}
        subprocess.run([sys.executable, SDK, "accuracy=0.5,other=1", "accuracy=0.75"], env=client, check=True)
        reader.send_signal(signal.SIGTERM)
        out, _ = reader.communicate(timeout=60)
    assert [json.loads(line) for line in out.splitlines()] == [
        {"metrics": {"accuracy": 0.5}, "step": 0},
        {"metrics": {"accuracy": 0.75}, "step": 1},
    ]
    assert reader.returncode == 0


def test_the_pods_of_a_template_are_not_ours_to_put_one_into() -> None:
    with pytest.raises(InvalidSpec, match=r"metrics.source: found 'katib', need stdout or push"):
        check(experiment(trial={"template": {"name": "x", "arguments": {"lr": "${lr}"}}}, metrics={"source": "katib"}))


def collected(**changes: Any) -> Any:
    pod = {"containers": [{"name": "main", "image": "x"}]}
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}
    container = {
        "image": "mine:1",
        "args": ["--lr=${lr}", "$(A)"],
        "env": {"A": "${trial.name}"},
        "starts": "with-trial",
    }
    of = experiment(
        trial={"resource": {"manifest": manifest}},
        metrics={"source": "custom", "path": "/out", "container": container | changes},
    )
    check(of)
    return watched(of, "exp-x7k2p", "t00001", {"lr": 0.5}, owner("w", "u"))


def test_a_collector_of_the_users_is_a_container_of_the_objects_pods_as_in_katib() -> None:
    built = collected()
    pod = built.manifest["spec"]["template"]["spec"]
    main, theirs = pod["containers"]
    assert built.container == "main"  # of two, the trial's log is that of its own
    assert theirs["image"] == "mine:1"
    assert "command" not in theirs
    assert theirs["args"] == ["--lr=0.5", "$$(A)"]
    said = {item["name"]: item["value"] for item in theirs["env"]}
    assert said == {
        "A": "exp-x7k2p-t00001",
        "KATIB_FLOW_REPORT_FILE": "/katib-flow/report.jsonl",
        **reporting_to("exp-x7k2p-t00001", 6789),
    }
    assert "env" not in main
    assert theirs["securityContext"]["runAsNonRoot"]
    (shared,) = main["volumeMounts"]
    assert shared["mountPath"] == "/out"
    assert [mount["mountPath"] for mount in theirs["volumeMounts"]] == ["/out", "/katib-flow"]
    assert not theirs["volumeMounts"][0]["readOnly"]
    assert [mount["mountPath"] for mount in pod["initContainers"][0]["volumeMounts"]] == ["/katib-flow"]
    assert {item["name"] for item in pod["volumes"]} == {shared["name"], theirs["volumeMounts"][1]["name"]}
    assert pod["shareProcessNamespace"] is True
    assert pod["hostAliases"][0]["ip"] == "127.0.0.1"


def test_a_sidecar_prints_what_a_collector_writes(tmp_path: Path) -> None:
    report = {"metrics": {"accuracy": 0.5}, "step": 2}
    script = (
        "import sys, pathlib; from katib_flow.argo.steps.sidecar import print_metrics; "
        "from katib_flow.metrics.sources import NOTHING; print_metrics(NOTHING, pathlib.Path(sys.argv[1]))"
    )
    file = tmp_path / "report.jsonl"
    file.write_text(json.dumps(report) + "\n")
    with subprocess.Popen([sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert json.loads(reader.stdout.readline()) == report
        file.write_text(json.dumps(report) + "\n" + json.dumps(report | {"step": 3}))  # no line break follows
        reader.send_signal(signal.SIGTERM)
        out, _ = reader.communicate(timeout=60)
    assert [json.loads(line)["step"] for line in out.splitlines()] == [3]
