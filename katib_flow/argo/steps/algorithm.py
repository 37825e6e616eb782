"""Prepare the container of a user's algorithm program in a suggest pod."""

from pathlib import Path

from katib_flow.argo.steps.any_image import copy_busybox
from katib_flow.argo.steps.context import spec_of_environment, write_output
from katib_flow.outside.mailbox import script


def serve(directory: Path) -> None:
    """Write a static busybox and the script that it runs to the directory that the containers share."""
    spec = spec_of_environment().algorithm
    assert spec.container is not None
    copy_busybox(directory)
    command = [*spec.container.command, *spec.container.args]
    write_output(directory, "serve.sh", script(directory, command, spec.answer_seconds))
