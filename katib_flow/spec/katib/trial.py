"""``trialTemplate`` of a Katib manifest -> ``trial``: a container if a Job is no more than that, else a resource."""

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
"""Katib's defaults by kind: the condition of success, and the labels of the pod that reports the metrics."""
_WRAPPED = ("StdOut", "File", "TensorFlowEvent")
"""The collectors for which Katib runs the command in a shell, to detect its end."""


def fill(
    draft: Draft,
    data: Any,
    meanings: Mapping[str, str],
    collector: manifest.MetricsCollector | None,
    checkpoints: str,
) -> None:
    """Fill in ``trial``.

    Args:
        meanings: the replacements of the references in ``trialParameters``, as text of the spec.
        collector: the metrics collector; None if it could not be read.
        checkpoints: the directory of the trial's checkpoints in Katib; "" if it has no such directory.
    """
    template = draft.read(manifest.TrialTemplate, data, AT, unsound=["trial"])
    draft.came("trial", AT)
    if template is None or not (body := _body(draft, template)):
        return
    values = _values(draft, template, body, meanings)
    job = Job(body, SPEC) if body["kind"] == "Job" else None
    if job and template.primary_container_name not in (None, *job.container_names):
        names = ", ".join(job.container_names) or "none of them has a name"
        need = f"the name of a container of the Job: {names}"
        draft.wrong(f"{AT}.primaryContainerName", template.primary_container_name, need, unsound=["trial"])
    if job and not job.obstacles:
        shell = collector is None or collector.collector.kind in _WRAPPED
        fill_container(draft, job, values, shell=shell, checkpoints=checkpoints)
        if template.retain:
            draft.note("trial.container", "retain: the output of a trial is kept in MLflow, but its pod is not kept")
    else:
        _resource(draft, template, body, values)
        if job:
            why = ", ".join(job.obstacles)
            draft.note("trial.resource", f"still a Job, because a container trial cannot have {why}")
        if checkpoints:
            text = (
                f"{checkpoints} is empty in every trial, because only a container trial finds its parent's checkpoint"
            )
            draft.note("trial.resource", text)


def _body(draft: Draft, template: manifest.TrialTemplate) -> dict[str, Any] | None:
    """The object of a trial; None if it is missing or wrong, which is reported to the draft."""
    before = len(draft.problems)
    body = template.trial_spec
    if body is None:
        draft.wrong(f"{AT}.trialSpec", NOTHING, "the object of a trial, such as a Job")
    else:
        for key in ("apiVersion", "kind"):
            if not isinstance(body.get(key), str):
                draft.wrong(f"{SPEC}.{key}", body.get(key, NOTHING), f"the {key} of the object, as text")
        if len(draft.problems) == before and all(isinstance(body.get(key), str) for key in ("apiVersion", "kind")):
            return _unnamed(draft, body)
    draft.unsound.add("trial")
    return None


def _unnamed(draft: Draft, body: dict[str, Any]) -> dict[str, Any]:
    """The object; a name or namespace in it is reported as a mistake."""
    for key in ("name", "namespace"):
        if (given := get(body, "metadata", key)) is not None:
            draft.wrong(f"{SPEC}.metadata.{key}", given, f"no {key}, because each trial gets its own")
    return body


def _values(
    draft: Draft, template: manifest.TrialTemplate, body: Mapping[str, Any], meanings: Mapping[str, str]
) -> dict[str, str]:
    """The replacement of each of ``trialParameters``, as text of the spec."""
    values: dict[str, str] = {}
    for number, parameter in enumerate(template.trial_parameters):
        at = f"{AT}.trialParameters[{number}]"
        name, reference = parameter.name, parameter.reference
        if name in values:
            draft.wrong(f"{at}.name", name, "each name only once")
        elif match := _METADATA.fullmatch(reference):
            values[name] = _metadata(draft, f"{at}.reference", match, body)
        elif reference in meanings:
            values[name] = meanings[reference]
        else:
            values[name] = ""
            if not {"parameters"} & draft.unsound:
                need = f"the name of a parameter{did_you_mean(reference, meanings)}"
                draft.wrong(f"{at}.reference", reference, f"{need}, or ${{trialSpec.Name}} and the like")
    return values


def _metadata(draft: Draft, at: str, match: re.Match[str], body: Mapping[str, Any]) -> str:
    what, key = match[1], match[2]
    if what in ("Name", "Namespace") and key is None:
        return f"${{trial.{what.lower()}}}"
    text: Any = None
    if what in ("Labels", "Annotations") and key is not None:
        text = get(body, "metadata", what.lower(), key)
    elif what in ("Kind", "APIVersion") and key is None:
        text = body["kind" if what == "Kind" else "apiVersion"]
    if not isinstance(text, str):
        need = "Name, Namespace, Kind, APIVersion, or Labels[key] or Annotations[key] with a key in trialSpec.metadata"
        draft.wrong(at, match[0], need)
        return ""
    return escaped(text)


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
            need = f"a condition on the status of the {body['kind']}, because Katib has no default for this kind either"
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
