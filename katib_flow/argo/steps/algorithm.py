"""Before a suggest pod's user container starts: what it answers questions with."""

from pathlib import Path

from katib_flow.argo.steps.any_image import put_busybox
from katib_flow.argo.steps.context import spec_of_environment, write_output
from katib_flow.outside.mailbox import script


def serve(directory: Path) -> None:
    """Put a static busybox and the script that it runs into the directory that the containers share."""
    spec = spec_of_environment().algorithm
    assert spec.container is not None
    put_busybox(directory)
    command = [*spec.container.command, *spec.container.args]
    write_output(directory, "serve.sh", script(directory, command, spec.answer_seconds))
