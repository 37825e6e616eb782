"""``trialTemplate`` of a Katib manifest -> ``trial``: a container where a Job is no more than that, else a resource."""

import re
from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.draft import Draft, get
from katib_flow.spec.katib.job import Job
from katib_flow.spec.katib.placement import Placement
from katib_flow.spec.katib.shell import is_script, needs_reading, words
from katib_flow.spec.problems import NOTHING, did_you_mean, shown

AT = "spec.trialTemplate"
SPEC = f"{AT}.trialSpec"
_PLACEHOLDER = re.compile(r"\$\{trialParameters\.([^{}]+)\}")
_METADATA = re.compile(r"\$\{trialSpec\.(\w+)(?:\[(.+)\])?\}")
_CONDITION = 'status.conditions.#(type=="{}")#|#(status=="True")#'
_TRAINING = {"training.kubeflow.org/job-role": "master"}
_KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Job": ("Complete", {}),
    "TrainJob": ("Complete", {"jobset.sigs.k8s.io/replicatedjob-name": "node"}),
    **dict.fromkeys(("TFJob", "PyTorchJob", "XGBoostJob", "MPIJob"), ("Succeeded", _TRAINING)),
}
"""Katib's defaults by kind: the condition of success, and the labels of the pod that prints the metrics."""
_CONTINUE = '[ -z "$1" ] || [ -n "$(ls -A "$0")" ] || cp -R "$1/." "$0/"; shift; exec "$@"'
"""Of a shell that is given the trial's own checkpoint directory and its parent's, and then the command."""


def fill(
    draft: Draft,
    data: Any,
    meanings: Mapping[str, str],
    collector: manifest.MetricsCollector | None,
    checkpoints: str,
) -> None:
    """Fill in ``trial``.

    Args:
        meanings: what the references of Katib's trial parameters stand for, as text of the spec.
        checkpoints: the directory of the trial's checkpoints in Katib; "" where it has none.
    """
    template = draft.read(manifest.TrialTemplate, data, AT, unsound=["trial"])
    draft.came("trial", AT)
    if template is None or not (body := _body(draft, template)):
        return
    values = _values(draft, template, body, meanings)
    job = Job(body, SPEC) if body["kind"] == "Job" else None
    if job and template.primary_container_name not in (None, *job.container_names):
        need = f"the name of a container of the Job: {', '.join(job.container_names) or 'it has none'}"
        draft.wrong(f"{AT}.primaryContainerName", template.primary_container_name, need, unsound=["trial"])
    elif job and not job.obstacles:
        _container(draft, template, job, values, wrapped=collector is None or collector.collector.kind != "Push")
        if checkpoints:
            _continued(draft, checkpoints)
    else:
        _resource(draft, template, body, values)
        if job:
            why = ", ".join(job.obstacles)
            draft.note("trial.resource", f"still a Job, because a container trial has no place for {why}")
        if checkpoints:
            text = f"{checkpoints} is empty in every trial: only a container trial finds its parent's checkpoint"
            draft.note("trial.resource", text)


def _body(draft: Draft, template: manifest.TrialTemplate) -> dict[str, Any] | None:
    """The object that a trial is; None, and the mistake told, where there is none."""
    before = len(draft.problems)
    body = template.trial_spec
    if template.config_map is not None:
        need = (
            f"nothing here: put the template that kubectl get configmap "
            f"{get(template.config_map, 'configMapName') or 'NAME'} shows under trialSpec"
        )
        draft.wrong(f"{AT}.configMap", shown(template.config_map), need)
    elif body is None:
        draft.wrong(f"{AT}.trialSpec", NOTHING, "the object that a trial is: a Job, say")
    else:
        for key in ("apiVersion", "kind"):
            if not isinstance(body.get(key), str):
                draft.wrong(f"{SPEC}.{key}", body.get(key, NOTHING), f"the object's {key}, as text")
        for key in ("name", "namespace"):
            if (found := get(body, "metadata", key)) is not None:
                draft.wrong(f"{SPEC}.metadata.{key}", found, "nothing here: each trial's object gets its own")
    if len(draft.problems) > before:
        draft.unsound.add("trial")
        return None
    return body


def _values(
    draft: Draft, template: manifest.TrialTemplate, body: Mapping[str, Any], meanings: Mapping[str, str]
) -> dict[str, str]:
    """What each of ``trialParameters`` stands for in the spec."""
    values: dict[str, str] = {}
    for number, each in enumerate(template.trial_parameters):
        at = f"{AT}.trialParameters[{number}]"
        if each.name in values:
            draft.wrong(f"{at}.name", each.name, "each name once")
        elif match := _METADATA.fullmatch(each.reference):
            values[each.name] = _metadata(draft, f"{at}.reference", match, body)
        elif each.reference in meanings:
            values[each.name] = meanings[each.reference]
        else:
            values[each.name] = ""
            if not {"parameters"} & draft.unsound:
                need = f"the name of a parameter{did_you_mean(each.reference, meanings)}"
                draft.wrong(f"{at}.reference", each.reference, f"{need}, or ${{trialSpec.Name}} and the like")
    return values


def _metadata(draft: Draft, at: str, match: re.Match[str], body: Mapping[str, Any]) -> str:
    what, key = match[1], match[2]
    if what in ("Name", "Namespace") and key is None:
        return f"${{trial.{what.lower()}}}"
    found: Any = None
    if what in ("Labels", "Annotations") and key is not None:
        found = get(body, "metadata", what.lower(), key)
    elif what in ("Kind", "APIVersion") and key is None:
        found = body["kind" if what == "Kind" else "apiVersion"]
    if not isinstance(found, str):
        need = "Name, Namespace, Kind, APIVersion, or Labels[key] or Annotations[key] of what trialSpec.metadata has"
        draft.wrong(at, match[0], need)
        return ""
    return escaped(found)


def escaped(text: str) -> str:
    """Text that stands for itself in a spec."""
    return text.replace("${", "$${")


def substituted(draft: Draft, node: Any, values: Mapping[str, str], at: str) -> Any:
    """A part of the object with Katib's placeholders as ours."""
    if isinstance(node, str):
        return _text(draft, node, values, at)
    if isinstance(node, Mapping):
        for key in node:
            if match := _PLACEHOLDER.search(key):
                draft.wrong(f"{at}.{key}", match[0], "no placeholder in a key: it can stand in a value only")
        return {key: substituted(draft, inner, values, f"{at}.{key}") for key, inner in node.items()}
    if isinstance(node, list | tuple):
        return [substituted(draft, inner, values, f"{at}[{place}]") for place, inner in enumerate(node)]
    return node


def _text(draft: Draft, text: str, values: Mapping[str, str], at: str) -> str:
    made, end = "", 0
    for match in _PLACEHOLDER.finditer(text):
        before = escaped(text[end : match.start()])
        if match[1] not in values:
            need = f"a name of trialParameters: {', '.join(values) or 'there are none'}{did_you_mean(match[1], values)}"
            draft.wrong(at, match[0], need, unsound=["trial"])
        if before.endswith("$"):
            draft.wrong(at, f"${match[0]}", "something between a '$' and a placeholder", unsound=["trial"])
        made, end = made + before + values.get(match[1], ""), match.end()
    return made + escaped(text[end:])


def _container(
    draft: Draft, template: manifest.TrialTemplate, job: Job, values: Mapping[str, str], *, wrapped: bool
) -> None:
    where = f"{SPEC}.{job.container_path}"
    made = {key: substituted(draft, part, values, f"{where}.{key}") for key, part in job.container.items()}
    if wrapped:
        made = _as_a_shell_reads(draft, made)
    draft.data["trial"] = {"container": made}
    draft.came("trial.container", where, below=True)
    draft.came("trial.container.working_dir", f"{where}.workingDir")
    _place(draft, job.placement)
    for note in job.notes:
        draft.note("trial.container", note)
    if template.retain:
        draft.note("trial.container", "retain: what a trial printed is kept in MLflow, its pod is not kept")
    if job.timeout is not None:
        draft.data.setdefault("limits", {})["trial_timeout"] = job.timeout
        draft.came("limits.trial_timeout", f"{SPEC}.spec.activeDeadlineSeconds")


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


def _resource(
    draft: Draft, template: manifest.TrialTemplate, body: Mapping[str, Any], values: Mapping[str, str]
) -> None:
    success, labels = _KINDS.get(body["kind"], ("", {}))
    resource: dict[str, Any] = {"manifest": substituted(draft, body, values, SPEC)}
    for key, given, default in (
        ("success_condition", template.success_condition, success),
        ("failure_condition", template.failure_condition, success and "Failed"),
    ):
        resource[key] = given or (_CONDITION.format(default) if default else "")
        theirs = "successCondition" if key.startswith("s") else "failureCondition"
        draft.came(f"trial.resource.{key}", f"{AT}.{theirs}")
        if not resource[key]:
            need = f"a condition on the status of the {body['kind']}, whose defaults Katib does not know either"
            draft.wrong(f"{AT}.{theirs}", NOTHING, need, unsound=["trial"])
    if chosen := dict(template.primary_pod_labels or labels):
        resource["primary_pod_labels"] = chosen
    if template.primary_container_name:
        resource["primary_container"] = template.primary_container_name
    if template.retain:
        resource["retain"] = True
    draft.data["trial"] = {"resource": resource}
    draft.came("trial.resource", AT)
    draft.came("trial.resource.manifest", SPEC, below=True)
    draft.came("trial.resource.primary_pod_labels", f"{AT}.primaryPodLabels", below=True)
    draft.came("trial.resource.primary_container", f"{AT}.primaryContainerName")
