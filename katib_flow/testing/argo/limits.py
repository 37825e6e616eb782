"""Limits of Kubernetes and of the kernel, checked on simulated pods."""

from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.refusal import Rejected

MAX_WORD_BYTES = 128 * 1024
"""The kernel's limit for an argument, or for an environment variable with its name."""


def check_pod(pod: Pod) -> None:
    """Check that the containers of a pod could start.

    Raises:
        Rejected: an argument or a variable is too long.
    """
    for container in pod.containers():
        words = [*container.get("command", []), *container.get("args", [])]
        variables = [
            f"{variable['name']}={variable['value']}" for variable in container.get("env", []) if "value" in variable
        ]
        for word in (*words, *variables):
            if len(word) + 1 > MAX_WORD_BYTES or len(word.encode()) + 1 > MAX_WORD_BYTES:
                size = len(word.encode())
                raise Rejected(f"pod {pod.name}: argument list too long: {word[:40]!r}... is {size} bytes")
