"""The objects of one Kubernetes namespace; the only door to the kubernetes client, imported when one is opened.

``Cluster`` is all that handover, the watcher and ``submit`` need. ``katib_flow.testing.kubernetes`` has another one, in
memory.
"""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from katib_flow.errors import KatibFlowError

Manifest = dict[str, Any]
WORKFLOW = ("argoproj.io/v1alpha1", "Workflow")
POD = ("v1", "Pod")
CONFIG_MAP = ("v1", "ConfigMap")
EVENT = ("v1", "Event")
Kind = tuple[str, str]
"""apiVersion and kind."""
NOTHING: Mapping[str, str] = {}

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REQUEST_SECONDS = 30
PATIENCE_SECONDS = 120.0  # of a step that asks the cluster something
_LONGEST_PAUSE_SECONDS = 30.0
WATCH_SECONDS = 240  # for which one call tells of changes

T = TypeVar("T")


class AlreadyExists(KatibFlowError):
    """There is an object of that kind and name."""


class Missing(KatibFlowError):
    """There is no object of that kind and name."""


class ClusterError(KatibFlowError):
    """The cluster refuses, or does not answer.

    Attributes:
        status: of HTTP; 0 where it does not answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether it may answer when it is asked again: it was away, overloaded, or in conflict with itself."""
        return self.status >= 500 or self.status in (0, http.client.CONFLICT, http.client.TOO_MANY_REQUESTS)


class Cluster(Protocol):
    """The objects of one namespace. Every method may raise ``ClusterError``."""

    @property
    def namespace(self) -> str: ...

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object; the object as the cluster has it, ``generateName`` resolved. Raises AlreadyExists."""
        ...

    def get(self, kind: Kind, name: str) -> Manifest:
        """Raises Missing."""
        ...

    def find(self, kind: Kind, labels: Mapping[str, str], fields: Mapping[str, str] = NOTHING) -> list[Manifest]:
        """The objects that have all of the labels, oldest first.

        Args:
            fields: values of fields that they have too, by dotted path, of those that the cluster can select by.
        """
        ...

    def patch(self, kind: Kind, name: str, changes: Manifest) -> Manifest:
        """Merge changes into an object (RFC 7396). Raises Missing."""
        ...

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object and, in the background, what it owns; nothing happens where it is gone already."""
        ...

    def changes(
        self, kind: Kind, labels: Mapping[str, str], name: str = "", since: str = "", seconds: int = WATCH_SECONDS
    ) -> Iterator[str]:
        """The version of the objects that have all of the labels, whenever one of them has changed, as it happens.

        It ends after some seconds, or when the cluster has enough of it; who goes on does so from the last version.

        Args:
            name: only the object of that name.
            since: the version after which changes are told; "" for now, which is told first.

        Raises:
            ClusterError: with status 410 where the cluster has forgotten what came after that version.
        """
        ...

    def log(self, pod: str, container: str | None, since_seconds: int | None = None) -> str:
        """What a container has printed, each line after its time (RFC 3339) and a space; "" before it has started.

        Args:
            container: None for the only one.
            since_seconds: only what it printed in the last so many seconds; it may give a little more.

        Raises:
            Missing: there is no such pod.
        """
        ...


def kind_of(manifest: Manifest) -> Kind:
    return manifest["apiVersion"], manifest["kind"]


def patiently(
    call: Callable[[], T],
    seconds: float = PATIENCE_SECONDS,
    *,
    passing: Callable[[BaseException], bool] = lambda error: isinstance(error, ClusterError) and error.passing,
    told: Callable[[BaseException], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of a call that is made again, with growing pauses, while what it asks is away.

    Args:
        seconds: for how long.
        passing: whether an error may pass.
        told: called with the first of them.

    Raises:
        ClusterError: or another: of the last try.
    """

    def first(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None and (error := state.outcome.exception()):
            told(error)

    def over(state: RetryCallState) -> bool:
        return max(state.idle_for, state.seconds_since_start or 0.0) >= seconds

    retrying = Retrying(
        retry=retry_if_exception(passing),
        wait=wait_exponential(multiplier=1, max=_LONGEST_PAUSE_SECONDS),
        stop=over,
        before_sleep=first,
        sleep=sleep,
        reraise=True,
    )
    return retrying(call)


class KubernetesCluster:
    """A namespace of a real cluster, by the pod's own account or by the user's kubeconfig.

    Args:
        seconds: for how long one request may be connecting, or without an answer.
    """

    def __init__(self, namespace: str | None = None, *, in_pod: bool = True, seconds: float = _REQUEST_SECONDS) -> None:
        from kubernetes import client
        from kubernetes.dynamic import DynamicClient

        class Api(client.ApiClient):
            def call_api(self, *args: Any, _request_timeout: Any = None, **options: Any) -> Any:
                return super().call_api(*args, _request_timeout=_request_timeout or seconds, **options)

        _configure(in_pod=in_pod)
        self.namespace = namespace or _own_namespace(in_pod=in_pod)
        api = Api()
        self._pods = client.CoreV1Api(api)
        self._dynamic: Any = _called("reach the cluster", lambda: DynamicClient(api, discoverer=_Discovery))

    def create(self, manifest: Manifest) -> Manifest:
        name = manifest["metadata"].get("name") or manifest["metadata"].get("generateName", "")
        kind = kind_of(manifest)
        return self._call("create", kind, name, lambda of: of.create(body=manifest, **self._where)).to_dict()

    def get(self, kind: Kind, name: str) -> Manifest:
        return self._call("get", kind, name, lambda of: of.get(name=name, **self._where)).to_dict()

    def find(self, kind: Kind, labels: Mapping[str, str], fields: Mapping[str, str] = NOTHING) -> list[Manifest]:
        pairs = {"label_selector": labels, "field_selector": fields}
        selectors = {name: _selector(pair) for name, pair in pairs.items() if pair}
        found = self._call("list", kind, "", lambda of: of.get(**selectors, **self._where)).to_dict()
        return sorted(
            found["items"], key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"])
        )

    def patch(self, kind: Kind, name: str, changes: Manifest) -> Manifest:
        how = {"name": name, "body": changes, "content_type": "application/merge-patch+json"}
        return self._call("patch", kind, name, lambda of: of.patch(**how, **self._where)).to_dict()

    def delete(self, kind: Kind, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            self._call("delete", kind, name, lambda of: of.delete(name=name, body=body, **self._where))
        except Missing:
            return

    def log(self, pod: str, container: str | None, since_seconds: int | None = None) -> str:
        options = [("timestamps", "true")]
        options += [] if container is None else [("container", container)]
        options += [] if since_seconds is None else [("sinceSeconds", str(max(1, since_seconds)))]
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        request = {"query_params": options, "serialize": False, "_request_timeout": _REQUEST_SECONDS}

        def read() -> str:
            return self._dynamic.request("GET", path, **request).data.decode("utf-8", "replace")

        try:
            return _called(f"read the log of pod {pod}", read)
        except ClusterError as error:
            if error.status == http.client.BAD_REQUEST:  # the container has not started
                return ""
            raise

    def changes(
        self, kind: Kind, labels: Mapping[str, str], name: str = "", since: str = "", seconds: int = WATCH_SECONDS
    ) -> Iterator[str]:
        selectors = {"label_selector": _selector(labels), "field_selector": f"metadata.name={name}" if name else ""}
        options: dict[str, Any] = {key: value for key, value in selectors.items() if value}
        if not since:
            now = self._call("list", kind, "", lambda of: of.get(**options, **self._where)).to_dict()
            yield (since := now["metadata"]["resourceVersion"])
        options |= {"watch": True, "allow_watch_bookmarks": True, "resource_version": since, "timeout_seconds": seconds}
        options |= {"serialize": False} | self._where | {"_request_timeout": (_REQUEST_SECONDS, seconds + 10)}
        lines = _lines(self._call("watch", kind, name, lambda of: of.get(**options)))
        while (line := _called(f"watch {kind[1]} {name}".rstrip(), lambda: next(lines, None))) is not None:
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = int(event["object"].get("code") or 0)
                raise ClusterError(f"watch {kind[1]}: the cluster answers {status}", status)
            yield event["object"]["metadata"]["resourceVersion"]

    @property
    def _where(self) -> dict[str, Any]:
        return {"namespace": self.namespace}

    def _call(self, verb: str, kind: Kind, name: str, call: Callable[[Any], Any]) -> Any:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError, ResourceNotUniqueError

        what = f"{verb} {kind[1]} {name}".rstrip()
        try:
            resource = _called(what, lambda: self._dynamic.resources.get(api_version=kind[0], kind=kind[1]))
        except (ResourceNotFoundError, ResourceNotUniqueError):
            raise ClusterError(f"{what}: the cluster has no kind {kind[1]} of {kind[0]}; is it installed?") from None
        return _called(what, lambda: call(resource))


class _Discovery:
    """What the cluster calls the objects of a kind: one call for each apiVersion that is asked for.

    The client's own discovery begins with four calls, and a file beside, in every pod.
    """

    def __init__(self, client: Any, cache_file: str | None) -> None:
        self._client, self._resources = client, dict[Kind, Any]()

    def get(self, api_version: str, kind: str) -> Any:
        """The resource of a kind. Raises ResourceNotFoundError."""
        from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
        from kubernetes.dynamic.resource import Resource

        if (api_version, kind) not in self._resources:
            prefix, (group, _, version) = "apis" if "/" in api_version else "api", api_version.rpartition("/")
            try:
                answer = self._client.request("GET", f"/{prefix}/{api_version}", _request_timeout=_REQUEST_SECONDS)
            except NotFoundError:
                raise ResourceNotFoundError(f"no {api_version}") from None
            where = {"prefix": prefix, "group": group, "api_version": version, "client": self._client}
            for each in answer.to_dict()["resources"]:
                if "/" not in each["name"]:  # else a part of one, its status say
                    fields = {name: each[name] for name in ("name", "kind", "namespaced", "verbs")}
                    self._resources[api_version, each["kind"]] = Resource(**where, **fields)
        if (api_version, kind) not in self._resources:
            raise ResourceNotFoundError(f"no {kind} in {api_version}")
        return self._resources[api_version, kind]


def _called(what: str, call: Callable[[], Any]) -> Any:
    """A call whose errors are ours."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.dynamic.exceptions import DynamicApiError
    from urllib3.exceptions import HTTPError

    try:
        return call()
    except (ApiException, DynamicApiError) as error:
        status = int(error.status or 0)
        if status == http.client.CONFLICT and what.startswith("create"):
            raise AlreadyExists(what) from None
        if status == http.client.NOT_FOUND:
            raise Missing(what) from None
        raise ClusterError(f"{what}: the cluster answers {status} {error.reason}", status) from None
    except (HTTPError, OSError) as error:
        raise ClusterError(f"{what}: the cluster does not answer: {error}") from None


def _selector(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of an answer as they come."""
    rest = b""
    for part in response.stream(2**16):
        *lines, rest = (rest + part).split(b"\n")
        yield from filter(None, lines)


def _configure(*, in_pod: bool) -> None:
    from kubernetes import config

    try:
        if in_pod:
            config.load_incluster_config()
        else:
            config.load_kube_config(os.environ.get("KUBECONFIG") or None)
    except config.ConfigException as error:
        need = "a pod with a service account's token" if in_pod else "a kubeconfig (KUBECONFIG, ~/.kube/config)"
        raise KatibFlowError(f"Kubernetes: found no cluster ({error}), need {need}") from None


def _own_namespace(*, in_pod: bool) -> str:
    if in_pod:
        return _NAMESPACE_FILE.read_text().strip()
    from kubernetes import config

    _, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG") or None)
    return (active or {}).get("context", {}).get("namespace") or "default"
