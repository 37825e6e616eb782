"""``trialTemplate.configMap`` of a Katib manifest: a template in a ConfigMap instead of under ``trialSpec``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.spec.config_maps import Absent, ConfigMaps, NotNow
from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.draft import Draft, get, items
from katib_flow.spec.katib.substitution import SPEC
from katib_flow.spec.problems import shown
from katib_flow.spec.yaml12 import load_yaml
from katib_flow.wording import did_you_mean

TEMPLATE = "spec.trialTemplate"
AT = f"{TEMPLATE}.configMap"
_OF_METADATA = re.compile(r"\$\{trialSpec\.(Labels|Annotations)\[(.+)\]\}")


@dataclass(frozen=True)
class Resolved:
    """A ``trialTemplate`` that has its template under ``trialSpec``.

    Attributes:
        where: the path of the template.
        known: True if this is the user's template; otherwise it is a stand-in with every trial parameter, so that the
            rest of the manifest can be checked.
    """

    data: Any
    where: str = SPEC
    known: bool = True


def resolved(draft: Draft, template: Any, config_maps: ConfigMaps) -> Resolved:
    """Look up the ConfigMap of a ``trialTemplate``, if it names one, and report mistakes in it to the draft.

    If ConfigMaps cannot be looked up now, the draft gets a note instead.
    """
    if not isinstance(template, Mapping) or template.get("configMap") is None:
        return Resolved(template)
    rest = {name: part for name, part in template.items() if name != "configMap"}
    if template.get("trialSpec") is not None:
        need = "no configMap, because trialSpec has the template"
        draft.wrong(AT, shown(template["configMap"]), need, unsound=["trial"])
        return Resolved(rest)
    key = draft.read(manifest.ConfigMapKey, template["configMap"], *AT.split("."), unsound=["trial"])
    body = _template(draft, key, config_maps) if key else None
    if key is None or body is None:
        return Resolved({**rest, "trialSpec": _stand_in(template)}, AT, known=False)
    return Resolved({**rest, "trialSpec": body}, f"{AT}[{key.config_map_name}/{key.template_path}]")


def _template(draft: Draft, key: manifest.ConfigMapKey, config_maps: ConfigMaps) -> dict[str, Any] | None:
    """The template as plain data; None if it could not be read, which is reported to the draft."""
    namespace, name = key.config_map_namespace or get(draft.data, "argo", "namespace") or "default", key.config_map_name
    named = f"ConfigMap {namespace}/{name}"
    try:
        return _body(draft, key, named, config_maps(namespace, name))
    except NotNow as why:
        when = "is read from the cluster when the experiment is compiled or submitted, or from --config-map FILE"
        draft.note("trial", f"the template, {key.template_path} of {named}, {when}; it is not checked now: {why}")
        return None
    except Absent as why:
        need = f"the name of a ConfigMap in the namespace {namespace}: {why}"
    except KatibFlowError as error:
        need = f"a readable ConfigMap ({error}), or its manifest passed with --config-map"
    draft.wrong(f"{AT}.configMapName", name, need, unsound=["trial"])
    return None


def _body(draft: Draft, key: manifest.ConfigMapKey, named: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
    path, text = key.template_path, data.get(key.template_path)
    if not isinstance(text, str):
        there = f"it has {', '.join(data)}" if data else "it has no keys"
        need = f"a key of {named}: {there}{did_you_mean(path, data)}"
        draft.wrong(f"{AT}.templatePath", path, need, unsound=["trial"])
        return None
    try:
        body = load_yaml(text, f"{named}, {path}").data
    except KatibFlowError as error:
        draft.wrong(f"{AT}.templatePath", path, f"a key with a YAML document ({error})", unsound=["trial"])
        return None
    if not isinstance(body, dict):
        draft.wrong(
            f"{AT}.templatePath", path, f"a key with a Kubernetes object, not {shown(body)!r}", unsound=["trial"]
        )
        return None
    return body


def _stand_in(template: Mapping[str, Any]) -> dict[str, Any]:
    """A Job that uses every trial parameter and has the labels and annotations that these refer to."""
    parameters = items(template.get("trialParameters"))
    metadata: dict[str, dict[str, str]] = {"labels": {}, "annotations": {}}
    for item in parameters:
        if match := _OF_METADATA.fullmatch(str(get(item, "reference"))):
            metadata[match[1].lower()][match[2]] = "unknown"
    words = [f"${{trialParameters.{get(item, 'name')}}}" for item in parameters]
    name = template.get("primaryContainerName") or "training"
    container = {"name": name, "image": "unknown", "command": ["unknown", *words]}
    spec = {"template": {"spec": {"containers": [container]}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
