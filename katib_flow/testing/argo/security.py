"""The restricted pod security standard, checked on simulated pods, and the containers that have a Kubernetes token.

Source: Kubernetes documentation, Pod Security Standards, "Restricted" (and "Baseline", which it includes).
"""

from collections.abc import Iterator
from typing import Any

from katib_flow.testing.argo.pods import TOKEN_PATH, Pod

_VOLUMES = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
_PROFILES = ("RuntimeDefault", "Localhost")


def violations(pod: Pod) -> list[str]:
    """The reasons to refuse a pod in a namespace with the restricted profile; empty if it is accepted."""
    return [
        *_of_pod(pod.spec),
        *(problem for container in pod.containers() for problem in _of_container(pod.spec, container)),
    ]


def token_holders(pod: Pod) -> set[str]:
    """The names of the containers that can use the Kubernetes API."""
    names = {container["name"] for container in pod.containers()}
    if pod.spec["automountServiceAccountToken"]:
        return names
    facts = {volume["name"] for volume in pod.spec["volumes"] if "downwardAPI" in volume}  # facts about the pod only
    return {
        container["name"]
        for container in pod.containers()
        if any(
            mount["mountPath"] == TOKEN_PATH and mount["name"] not in facts
            for mount in container.get("volumeMounts", [])
        )
    }


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"
    for volume in spec["volumes"]:
        if unknown := set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} is a {unknown.pop()}"


def _of_container(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    own, around = container.get("securityContext", {}), spec.get("securityContext", {})
    both = {**around, **own}
    problems = {
        "privileged": own.get("privileged"),
        "allowPrivilegeEscalation is not false": own.get("allowPrivilegeEscalation") is not False,
        "capabilities are not dropped": own.get("capabilities", {}).get("drop") != ["ALL"],
        "capabilities are added": set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"},
        "runAsNonRoot is not true": both.get("runAsNonRoot") is not True,
        "runs as root": both.get("runAsUser") == 0,
        "seccompProfile is not set": both.get("seccompProfile", {}).get("type") not in _PROFILES,
        "hostPort": any(port.get("hostPort") for port in container.get("ports", [])),
    }
    yield from (f"container {container['name']}: {problem}" for problem, there in problems.items() if there)
