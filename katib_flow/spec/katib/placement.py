"""What a Job says of where its pod runs and what is mounted -> the section ``argo`` of a spec, where it has a place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from katib_flow.spec.katib.draft import get, items, mapping


@dataclass
class Placement:
    """What goes into ``argo``, and what has no place there.

    Attributes:
        of_all: keys of ``argo``; of every pod.
        of_trials: keys of ``argo.trial``.
        left: paths in the Job's pod.
    """

    of_all: dict[str, Any] = field(default_factory=dict[str, Any])
    of_trials: dict[str, Any] = field(default_factory=dict[str, Any])
    left: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, pod: Any, container: Any, annotations: Mapping[str, Any]) -> "Placement":
        """Of a pod of one container."""
        made = cls()
        made._take(made.of_trials, "annotations", "metadata.annotations", annotations, _texts)
        made._take(made.of_trials, "node_selector", "spec.nodeSelector", get(pod, "nodeSelector"), _texts)
        made._take(made.of_trials, "tolerations", "spec.tolerations", get(pod, "tolerations"), _tolerations)
        made._take(made.of_all, "image_pull_secrets", "spec.imagePullSecrets", get(pod, "imagePullSecrets"), _names)
        at = "spec.containers[0]"
        made._take(made.of_all, "image_pull_policy", f"{at}.imagePullPolicy", get(container, "imagePullPolicy"), _text)
        mounts, volumes = get(container, "volumeMounts"), items(get(pod, "volumes"))
        made._take(made.of_trials, "volumes", f"{at}.volumeMounts", mounts, lambda found: _mounts(found, volumes))
        made._take(made.of_trials, "secret_sets", f"{at}.envFrom", get(container, "envFrom"), _secret_sets)
        return made

    def _take(
        self, section: dict[str, Any], key: str, path: str, found: Any, read: Callable[[Any], Any | None]
    ) -> None:
        if found in (None, [], {}, ""):
            return
        native = None if "${" in str(found) else read(found)  # these are the same for every trial
        if native is None:
            self.left.append(path)
        else:
            section[key] = native


def secret_key(item: Any) -> dict[str, str] | None:
    """Of an environment variable whose value is in a Secret; None where it is elsewhere."""
    source = get(item, "valueFrom")
    reference = get(source, "secretKeyRef")
    if not isinstance(reference, Mapping) or set(source) != {"secretKeyRef"} or set(reference) != {"name", "key"}:
        return None
    secret, key = reference["name"], reference["key"]
    return {"secret": secret, "key": key} if isinstance(secret, str) and isinstance(key, str) else None


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def _texts(found: Any) -> dict[str, str] | None:
    good = isinstance(found, Mapping) and all(isinstance(value, str) for value in found.values())
    return dict(found) if good else None


def _names(found: Any) -> list[str] | None:
    """The names in a list of references."""
    names = [get(each, "name") for each in items(found)]
    return names if all(isinstance(name, str) for name in names) else None


def _tolerations(found: Any) -> list[dict[str, Any]] | None:
    made: list[dict[str, Any]] = []
    for each in items(found):
        if not isinstance(each, Mapping) or set(each) - {"key", "operator", "value", "effect", "tolerationSeconds"}:
            return None
        made.append({"seconds" if key == "tolerationSeconds" else key: value for key, value in each.items()})
    return made


def _secret_sets(found: Any) -> list[str] | None:
    references = [get(each, "secretRef") for each in items(found) if set(mapping(each)) == {"secretRef"}]
    whole = len(references) == len(items(found)) and all(set(mapping(each)) == {"name"} for each in references)
    return _names(references) if whole else None


def _mounts(found: Any, volumes: list[Any]) -> list[dict[str, Any]] | None:
    made = [_mount(each, {str(get(volume, "name")): volume for volume in volumes}) for each in items(found)]
    return None if None in made else [each for each in made if each is not None]


def _mount(mount: Any, volumes: Mapping[str, Any]) -> dict[str, Any] | None:
    if not isinstance(mount, Mapping) or set(mount) - {"name", "mountPath", "subPath", "readOnly"}:
        return None
    what, path = _volume(volumes.get(str(mount.get("name")))), mount.get("mountPath")
    if what is None or not isinstance(path, str):
        return None
    made = {"path": path.rstrip("/"), **what, "sub_path": mount.get("subPath"), "read_only": mount.get("readOnly")}
    return {key: value for key, value in made.items() if value}


def _volume(volume: Any) -> dict[str, Any] | None:
    """What a volume is, where it is no more than a name (or, in memory, a size)."""
    for kind, name, ours in (
        ("persistentVolumeClaim", "claimName", "claim"),
        ("secret", "secretName", "secret"),
        ("configMap", "name", "config_map"),
    ):
        found = get(volume, kind)
        if isinstance(found, Mapping) and set(found) == {name}:
            return {ours: found[name]}
    memory = get(volume, "emptyDir")
    if isinstance(memory, Mapping) and set(memory) == {"medium", "sizeLimit"} and memory["medium"] == "Memory":
        return {"memory": str(memory["sizeLimit"])}
    return None
