"""The placement of a Job's pod -> the section ``argo`` of a spec, with a list of the parts that do not fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from katib_flow.spec.katib.draft import get, items, mapping


@dataclass
class Placement:
    """The parts of a pod that go into ``argo``, and those that do not fit there.

    Attributes:
        of_all: keys of ``argo``, which apply to every pod.
        of_trials: keys of ``argo.trial``.
        left: paths in the pod of the parts that do not fit.
    """

    of_all: dict[str, Any] = field(default_factory=dict[str, Any])
    of_trials: dict[str, Any] = field(default_factory=dict[str, Any])
    left: list[str] = field(default_factory=list[str])

    @classmethod
    def from_pod(cls, pod: Any, container: Any, annotations: Mapping[str, Any]) -> "Placement":
        """The placement of a pod with one container."""
        new = cls()
        new._take(new.of_trials, "annotations", "metadata.annotations", annotations, _texts)
        new._take(new.of_trials, "node_selector", "spec.nodeSelector", get(pod, "nodeSelector"), _texts)
        new._take(new.of_trials, "tolerations", "spec.tolerations", get(pod, "tolerations"), _tolerations)
        new._take(new.of_all, "image_pull_secrets", "spec.imagePullSecrets", get(pod, "imagePullSecrets"), _names)
        at = "spec.containers[0]"
        new._take(new.of_all, "image_pull_policy", f"{at}.imagePullPolicy", get(container, "imagePullPolicy"), _text)
        mounts, volumes = get(container, "volumeMounts"), items(get(pod, "volumes"))
        new._take(new.of_trials, "volumes", f"{at}.volumeMounts", mounts, lambda written: _mounts(written, volumes))
        new._take(new.of_trials, "secret_sets", f"{at}.envFrom", get(container, "envFrom"), _secret_sets)
        return new

    def _take(
        self, section: dict[str, Any], key: str, path: str, written: Any, read: Callable[[Any], Any | None]
    ) -> None:
        if written in (None, [], {}, ""):
            return
        native = None if "${" in str(written) else read(written)  # these are the same for every trial
        if native is None:
            self.left.append(path)
        else:
            section[key] = native


def secret_key(item: Any) -> dict[str, str] | None:
    """The Secret and key of an environment variable; None if its value does not come from a Secret."""
    source = get(item, "valueFrom")
    reference = get(source, "secretKeyRef")
    if not isinstance(reference, Mapping) or set(source) != {"secretKeyRef"} or set(reference) != {"name", "key"}:
        return None
    secret, key = reference["name"], reference["key"]
    return {"secret": secret, "key": key} if isinstance(secret, str) and isinstance(key, str) else None


def _text(written: Any) -> str | None:
    return written if isinstance(written, str) else None


def _texts(written: Any) -> dict[str, str] | None:
    good = isinstance(written, Mapping) and all(isinstance(value, str) for value in written.values())
    return dict(written) if good else None


def _names(written: Any) -> list[str] | None:
    """The names in a list of references."""
    names = [get(reference, "name") for reference in items(written)]
    return names if all(isinstance(name, str) for name in names) else None


def _tolerations(written: Any) -> list[dict[str, Any]] | None:
    tolerations: list[dict[str, Any]] = []
    known = {"key", "operator", "value", "effect", "tolerationSeconds"}
    for item in items(written):
        if not isinstance(item, Mapping) or set(item) - known:
            return None
        tolerations.append({"seconds" if key == "tolerationSeconds" else key: value for key, value in item.items()})
    return tolerations


def _secret_sets(written: Any) -> list[str] | None:
    references = [get(item, "secretRef") for item in items(written) if set(mapping(item)) == {"secretRef"}]
    named = all(set(mapping(reference)) == {"name"} for reference in references)
    return _names(references) if named and len(references) == len(items(written)) else None


def _mounts(written: Any, volumes: list[Any]) -> list[dict[str, Any]] | None:
    by_name = {str(get(volume, "name")): volume for volume in volumes}
    mounts = [_mount(mount, by_name) for mount in items(written)]
    return None if None in mounts else [mount for mount in mounts if mount is not None]


def _mount(mount: Any, volumes: Mapping[str, Any]) -> dict[str, Any] | None:
    if not isinstance(mount, Mapping) or set(mount) - {"name", "mountPath", "subPath", "readOnly"}:
        return None
    volume, path = _volume(volumes.get(str(mount.get("name")))), mount.get("mountPath")
    if volume is None or not isinstance(path, str):
        return None
    native = {"path": path.rstrip("/"), **volume, "sub_path": mount.get("subPath"), "read_only": mount.get("readOnly")}
    return {key: value for key, value in native.items() if value}


def _volume(volume: Any) -> dict[str, Any] | None:
    """The kind of a volume with its name (in memory, its size); None if the volume has other properties."""
    for kind, name, ours in (
        ("persistentVolumeClaim", "claimName", "claim"),
        ("secret", "secretName", "secret"),
        ("configMap", "name", "config_map"),
    ):
        source = get(volume, kind)
        if isinstance(source, Mapping) and set(source) == {name}:
            return {ours: source[name]}
    memory = get(volume, "emptyDir")
    if isinstance(memory, Mapping) and set(memory) == {"medium", "sizeLimit"} and memory["medium"] == "Memory":
        return {"memory": str(memory["sizeLimit"])}
    return None
