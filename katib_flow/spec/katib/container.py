"""A Job without obstacles -> a container trial, whose program gets the arguments that it gets in Katib."""

from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.katib.job import Job
from katib_flow.spec.katib.placement import Placement
from katib_flow.spec.katib.shell import is_script, needs_reading, words
from katib_flow.spec.katib.substitution import SPEC, substituted

_CONTINUE = '[ -z "$1" ] || [ -n "$(ls -A "$0")" ] || cp -R "$1/." "$0/"; shift; exec "$@"'
"""Of a shell that is given the trial's own checkpoint directory and its parent's, and then the command."""


def fill_container(draft: Draft, job: Job, values: Mapping[str, str], *, shell: bool, checkpoints: str) -> None:
    """Fill in ``trial``, and ``argo`` and ``limits`` where the Job says something of them.

    Args:
        values: what Katib's placeholders stand for.
        shell: whether Katib gives the command to a shell.
        checkpoints: the directory of the trial's checkpoints in Katib; "" where it has none.
    """
    where = f"{SPEC}.{job.container_path}"
    made = {key: substituted(draft, part, values, f"{where}.{key}") for key, part in job.container.items()}
    if shell:
        made = _as_a_shell_reads(draft, made)
    draft.data["trial"] = {"container": made}
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
    """Fill in ``argo`` where the trials' pods are special."""
    of_trials = {"trial": placement.of_trials} if placement.of_trials else {}
    if placement.of_all or of_trials:
        draft.data["argo"] = {**draft.data.get("argo", {}), **placement.of_all, **of_trials}
    draft.came("argo.trial", f"{SPEC}.spec.template")
    draft.came("argo.image_pull_policy", f"{SPEC}.spec.template.spec.containers[0].imagePullPolicy")
    draft.came("argo.image_pull_secrets", f"{SPEC}.spec.template.spec.imagePullSecrets", below=True)
    draft.came("argo.trial.volumes", f"{SPEC}.spec.template.spec.containers[0].volumeMounts")
    draft.came("argo.trial.tolerations", f"{SPEC}.spec.template.spec.tolerations", below=True)
    draft.came("argo.trial.secrets", f"{SPEC}.spec.template.spec.containers[0].env")


def _as_a_shell_reads(draft: Draft, made: dict[str, Any]) -> dict[str, Any]:
    """The container with the arguments that reach the program in Katib, which has a shell read them."""
    whole = [*made["command"], *made.get("args", ())]
    rest = {key: part for key, part in made.items() if key not in ("image", "command", "args")}
    if is_script(whole):
        draft.note("trial.container.command", "a shell reads this script, and the parameters' values in it")
        read = [*whole[:2], " ".join(whole[2:])]
    elif not needs_reading(whole):
        return made
    elif (read := words(whole)) is None:
        text = "Katib had a shell read this command; none does here: write [sh, -c, ...] where that was meant"
        draft.note("trial.container.command", text)
        return made
    elif read != whole:
        draft.note("trial.container.command", "the words that the shell which Katib puts before a command makes of it")
    return made if read == whole else {"image": made["image"], "command": read, **rest}


def _continued(draft: Draft, checkpoints: str) -> None:
    """Have a container find its parent's checkpoint in the directory for its own, as in Katib."""
    made, place = draft.data["trial"]["container"], "${trial.checkpoint_dir}"
    named = False
    for key in ("command", "args"):
        named |= any(checkpoints in text for text in made.get(key, ()))
        made |= {key: [text.replace(checkpoints, place) for text in made[key]]} if key in made else {}
    if env := made.get("env"):
        named |= any(checkpoints in text for text in env.values())
        made["env"] = {name: text.replace(checkpoints, place) for name, text in env.items()}
    made["command"] = ["sh", "-c", _CONTINUE, place, "${trial.parent_checkpoint_dir}", *made["command"]]
    draft.note("trial.container.command", "the checkpoint of the trial that this one continues is copied first")
    if not named:
        text = f"its checkpoints must be in {place}: no argument names {checkpoints}, which is another place now"
        draft.note("trial.container", text)
