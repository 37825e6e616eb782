"""A Job without obstacles -> a container trial, whose program gets the same arguments as in Katib."""

from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.katib.job import Job
from katib_flow.spec.katib.placement import Placement
from katib_flow.spec.katib.shell import is_script, needs_reading, words
from katib_flow.spec.katib.substitution import SPEC, substituted

_CONTINUE = '[ -z "$1" ] || [ -n "$(ls -A "$0")" ] || cp -R "$1/." "$0/"; shift; exec "$@"'
"""A script for a shell whose arguments are the trial's checkpoint directory, its parent's, and the command."""


def fill_container(draft: Draft, job: Job, values: Mapping[str, str], *, shell: bool, checkpoints: str) -> None:
    """Fill in ``trial``, and the parts of ``argo`` and ``limits`` that the Job determines.

    Args:
        values: the replacements of Katib's placeholders, by name.
        shell: whether Katib passes the command to a shell.
        checkpoints: the directory of the trial's checkpoints in Katib; "" if it has no such directory.
    """
    where = f"{SPEC}.{job.container_path}"
    container = {key: substituted(draft, part, values, f"{where}.{key}") for key, part in job.container.items()}
    if shell:
        container = _as_a_shell_reads(draft, container)
    draft.data["trial"] = {"container": container}
    draft.came("trial.container", where, below=True)
    draft.came("trial.container.working_dir", f"{where}.workingDir")
    _place(draft, job.placement)
    for note in job.notes:
        draft.note("trial.container", note)
    if job.timeout is not None:
        draft.data.setdefault("limits", {})["trial_timeout"] = job.timeout
        draft.came("limits.trial_timeout", f"{SPEC}.spec.activeDeadlineSeconds")
    if checkpoints:
        _continued(draft, checkpoints)


def _place(draft: Draft, placement: Placement) -> None:
    """Fill in ``argo`` from the placement of the trials' pods."""
    of_trials = {"trial": placement.of_trials} if placement.of_trials else {}
    if placement.of_all or of_trials:
        draft.data["argo"] = {**draft.data.get("argo", {}), **placement.of_all, **of_trials}
    draft.came("argo.trial", f"{SPEC}.spec.template")
    draft.came("argo.image_pull_policy", f"{SPEC}.spec.template.spec.containers[0].imagePullPolicy")
    draft.came("argo.image_pull_secrets", f"{SPEC}.spec.template.spec.imagePullSecrets", below=True)
    draft.came("argo.trial.volumes", f"{SPEC}.spec.template.spec.containers[0].volumeMounts")
    draft.came("argo.trial.tolerations", f"{SPEC}.spec.template.spec.tolerations", below=True)
    draft.came("argo.trial.secrets", f"{SPEC}.spec.template.spec.containers[0].env")


def _as_a_shell_reads(draft: Draft, container: dict[str, Any]) -> dict[str, Any]:
    """The container with the arguments that reach the program in Katib, where a shell interprets the command."""
    whole = [*container["command"], *container.get("args", ())]
    rest = {key: part for key, part in container.items() if key not in ("image", "command", "args")}
    if is_script(whole):
        draft.note("trial.container.command", "a shell interprets this script, including the parameters' values in it")
        read = [*whole[:2], " ".join(whole[2:])]
    elif not needs_reading(whole):
        return container
    elif (read := words(whole)) is None:
        text = "in Katib a shell interprets this command, here it does not; write [sh, -c, ...] if a shell is needed"
        draft.note("trial.container.command", text)
        return container
    elif read != whole:
        draft.note("trial.container.command", "split into words as by the shell that Katib runs a command in")
    return container if read == whole else {"image": container["image"], "command": read, **rest}


def _continued(draft: Draft, checkpoints: str) -> None:
    """Copy the parent's checkpoint into the trial's own checkpoint directory first, where Katib's trials find it."""
    container, directory = draft.data["trial"]["container"], "${trial.checkpoint_dir}"
    named = False
    for key in ("command", "args"):
        named |= any(checkpoints in text for text in container.get(key, ()))
        container |= (
            {key: [text.replace(checkpoints, directory) for text in container[key]]} if key in container else {}
        )
    if env := container.get("env"):
        named |= any(checkpoints in text for text in env.values())
        container["env"] = {name: text.replace(checkpoints, directory) for name, text in env.items()}
    container["command"] = ["sh", "-c", _CONTINUE, directory, "${trial.parent_checkpoint_dir}", *container["command"]]
    draft.note("trial.container.command", "copies the checkpoint of the parent trial first")
    if not named:
        text = f"no argument names {checkpoints}, but here the trial must write its checkpoints to {directory}"
        draft.note("trial.container", text)
