"""``trialTemplate`` of a Katib manifest -> ``trial``: a container where a Job is no more than that, else a resource."""

import re
from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.container import fill_container
from katib_flow.spec.katib.draft import Draft, get
from katib_flow.spec.katib.job import Job
from katib_flow.spec.katib.substitution import SPEC, escaped, substituted
from katib_flow.spec.problems import NOTHING
from katib_flow.wording import did_you_mean

AT = "spec.trialTemplate"
_METADATA = re.compile(r"\$\{trialSpec\.(\w+)(?:\[(.+)\])?\}")
_CONDITION = 'status.conditions.#(type=="{}")#|#(status=="True")#'
_TRAINING = {"training.kubeflow.org/job-role": "master"}
_KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Job": ("Complete", {}),
    "TrainJob": ("Complete", {"jobset.sigs.k8s.io/replicatedjob-name": "node"}),
    **dict.fromkeys(("TFJob", "PyTorchJob", "XGBoostJob", "MPIJob"), ("Succeeded", _TRAINING)),
}
"""Katib's defaults by kind: the condition of success, and the labels of the pod that prints the metrics."""
_WRAPPED = ("StdOut", "File", "TensorFlowEvent")
"""The collectors for which Katib gives a command to a shell, to tell its end apart."""


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
    if job and not job.obstacles:
        shell = collector is None or collector.collector.kind in _WRAPPED
        fill_container(draft, job, values, shell=shell, checkpoints=checkpoints)
        if template.retain:
            draft.note("trial.container", "retain: what a trial printed is kept in MLflow, its pod is not kept")
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
    if body is None:
        draft.wrong(f"{AT}.trialSpec", NOTHING, "the object that a trial is: a Job, say")
    else:
        for key in ("apiVersion", "kind"):
            if not isinstance(body.get(key), str):
                draft.wrong(f"{SPEC}.{key}", body.get(key, NOTHING), f"the object's {key}, as text")
        if len(draft.problems) == before and all(isinstance(body.get(key), str) for key in ("apiVersion", "kind")):
            return _unnamed(draft, body)
    draft.unsound.add("trial")
    return None


def _unnamed(draft: Draft, body: dict[str, Any]) -> dict[str, Any]:
    """The object without a name and a namespace, which are told where it has them."""
    for key in ("name", "namespace"):
        if (given := get(body, "metadata", key)) is not None:
            draft.wrong(f"{SPEC}.metadata.{key}", given, "nothing here: each trial's object gets its own")
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
