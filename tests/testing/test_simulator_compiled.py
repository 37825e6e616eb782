"""Every shape and kind that is compiled: known to the simulator, run to its end, its pods looked at."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "argo"))
from shapes import Scripts, barrier, run
from specs import SPECS, experiment

from katib_flow.argo import compile_experiment
from katib_flow.testing.argo import Pod
from katib_flow.testing.argo.security import token_holders, violations
from katib_flow.testing.kubernetes import FakeCluster


def one_trial(pod: Pod) -> Any:
    files: dict[str, str] = {"id": "t00000", "go": "true", "handover": "false"}
    if "lane" in pod.inputs:
        return files if pod.inputs["k"] == "1" else {**files, "go": "false"}
    return {"ids": json.dumps(["t00000", "t00001"])}


def pods(name: str) -> list[Pod]:
    """Every pod of a Workflow of two trials and a second segment."""
    programs = Scripts({"suggest": one_trial, "collect-metrics": {"go": "true"}})
    manifest = compile_experiment(experiment(name)).to_dict()
    last = next(each for each in manifest["spec"]["arguments"]["parameters"] if each["name"] == "last")
    last["value"] = "1"
    cluster = FakeCluster()
    limits = {"metadata": {"name": "kf-limits"}, "data": {"gpu-trials": "2"}}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", **limits})
    simulator, done = run(manifest, programs, cluster=cluster)
    assert done.phase == "Succeeded"
    started = simulator.machine.history
    assert {"suggest", "trial", "collect-metrics", "handover", "finish"} <= {each.template for each in started}
    return started


@pytest.mark.parametrize("name", SPECS)
def test_every_pod_of_every_shape_meets_the_restricted_profile(name: str) -> None:
    if SPECS[name].get("argo", {}).get("lock_pods") is False:
        pytest.skip("its pods are locked by the controller's settings")
    assert [problem for pod in pods(name) for problem in violations(pod)] == []


@pytest.mark.parametrize("name", SPECS)
def test_only_the_executor_and_those_who_talk_to_the_cluster_hold_a_token(name: str) -> None:
    for pod in pods(name):
        if pod.spec["automountServiceAccountToken"]:
            assert pod.template in ("handover", "collect-metrics", "suggest") or name in ("resource", "template")
        else:
            assert token_holders(pod) == {"init", "wait"}
    if name not in ("resource", "template"):
        judging = {"collect-metrics", *({"suggest"} if "lanes" in name else ())}
        assert {pod.template for pod in pods(name) if "main" in token_holders(pod)} == {"handover", *judging}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"securityContext": {}}, "container main: allowPrivilegeEscalation is not false"),
        ({"securityContext": {"privileged": True}}, "container main: privileged"),
        ({"volumeMounts": [{"name": "h", "mountPath": "/h"}]}, ""),
    ],
)
def test_the_check_finds_what_is_wrong(change: dict[str, Any], problem: str) -> None:
    manifest = barrier()
    trial = next(each for each in manifest["spec"]["templates"] if each["name"] == "trial")
    trial["container"] |= change
    trial["volumes"] = [{"name": "h", "hostPath": {"path": "/"}}]
    programs = Scripts({"suggest": {"ids": '["a"]'}, "collect-metrics": {"go": "false"}})
    simulator, _ = run(manifest, programs)
    [pod] = [each for each in simulator.machine.history if each.template == "trial"]
    found = violations(pod)
    assert "volume h is a hostPath" in found
    assert "container main: runAsNonRoot is not true" in found
    assert "container init: allowPrivilegeEscalation is not false" in found  # no podSpecPatch here
    assert not problem or problem in found
