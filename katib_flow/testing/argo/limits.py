"""Limits of Kubernetes and of the kernel, as assertions on pods that would be."""

from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.refusal import Rejected

MAX_WORD_BYTES = 128 * 1024
"""The kernel's limit for one argument, or one variable with its name."""


def check_pod(pod: Pod) -> None:
    """Raises Rejected: no container would start."""
    for container in pod.containers():
        words = [*container.get("command", []), *container.get("args", [])]
        variables = [f"{each['name']}={each['value']}" for each in container.get("env", []) if "value" in each]
        for word in (*words, *variables):
            if len(word) + 1 > MAX_WORD_BYTES or len(word.encode()) + 1 > MAX_WORD_BYTES:
                size = len(word.encode())
                raise Rejected(f"pod {pod.name}: argument list too long: {word[:40]!r}... is {size} bytes")
