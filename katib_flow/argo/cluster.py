"""Access to the objects of one Kubernetes namespace. Only this module uses the kubernetes client, imported when needed.

``Cluster`` is the interface that the steps and ``submit`` use; ``katib_flow.testing.kubernetes`` implements it in
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
PATIENCE_SECONDS = 120.0  # how long a step retries a request to the cluster
_LONGEST_PAUSE_SECONDS = 30.0
WATCH_SECONDS = 240  # duration of one watch request

T = TypeVar("T")


class AlreadyExists(KatibFlowError):
    """An object of that kind and name already exists."""


class Missing(KatibFlowError):
    """No object of that kind and name exists."""


class ClusterError(KatibFlowError):
    """The cluster refuses a request or does not answer.

    Attributes:
        status: HTTP status; 0 if the cluster does not answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def transient(self) -> bool:
        """Whether a retry may succeed: the cluster was unreachable or overloaded, or the request met a conflict."""
        return self.status >= 500 or self.status in (0, http.client.CONFLICT, http.client.TOO_MANY_REQUESTS)


class Cluster(Protocol):
    """The objects of one namespace. Every method may raise ``ClusterError``."""

    @property
    def namespace(self) -> str:
        """The name of the namespace."""
        ...

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object and return it as stored, with ``generateName`` resolved. Raises AlreadyExists."""
        ...

    def get(self, kind: Kind, name: str) -> Manifest:
        """Return an object. Raises Missing."""
        ...

    def find(self, kind: Kind, labels: Mapping[str, str], fields: Mapping[str, str] = NOTHING) -> list[Manifest]:
        """Return the objects that have all of the labels, oldest first.

        Args:
            labels: required labels.
            fields: required values of fields, by dotted path; Kubernetes supports only some fields.
        """
        ...

    def patch(self, kind: Kind, name: str, changes: Manifest) -> Manifest:
        """Merge changes into an object (RFC 7396) and return it. Raises Missing."""
        ...

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object and, in the background, the objects it owns. Do nothing if it does not exist."""
        ...

    def changes(
        self, kind: Kind, labels: Mapping[str, str], name: str = "", since: str = "", seconds: int = WATCH_SECONDS
    ) -> Iterator[str]:
        """Yield the resource version whenever one of the objects that have all of the labels changes.

        The iterator ends after ``seconds``, or when the cluster closes the watch. To continue, pass the last version.

        Args:
            name: watch only the object of this name.
            since: the version after which to report changes; by default the current one, which is then yielded first.

        Raises:
            ClusterError: with status 410 if the cluster no longer has the changes since that version.
        """
        ...

    def log(self, pod: str, container: str | None, since_seconds: int | None = None) -> str:
        """Return a container's output, each line prefixed by its time (RFC 3339) and a space; "" before it starts.

        Args:
            container: name of the container; None if the pod has only one.
            since_seconds: return the output of this many seconds only; a little more may be included.

        Raises:
            Missing: there is no such pod.
        """
        ...


def kind_of(manifest: Manifest) -> Kind:
    """Return the apiVersion and kind of an object."""
    return manifest["apiVersion"], manifest["kind"]


def patiently(
    call: Callable[[], T],
    seconds: float = PATIENCE_SECONDS,
    *,
    transient: Callable[[BaseException], bool] = lambda error: isinstance(error, ClusterError) and error.transient,
    on_first_error: Callable[[BaseException], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call a function, and retry it with growing pauses while its errors are transient.

    Args:
        call: the function.
        seconds: how long to keep trying.
        transient: whether an error may pass.
        on_first_error: called with the first error that is retried.
        sleep: called with each pause in seconds.

    Returns:
        The result of the first call that succeeds.

    Raises:
        ClusterError: or another error of the call, if it is not transient or the time is up.
    """

    def first(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None and (error := state.outcome.exception()):
            on_first_error(error)

    def over(state: RetryCallState) -> bool:
        return max(state.idle_for, state.seconds_since_start or 0.0) >= seconds

    retrying = Retrying(
        retry=retry_if_exception(transient),
        wait=wait_exponential(multiplier=1, max=_LONGEST_PAUSE_SECONDS),
        stop=over,
        before_sleep=first,
        sleep=sleep,
        reraise=True,
    )
    return retrying(call)


class KubernetesCluster:
    """A namespace of a real cluster, reached with the pod's service account or the user's kubeconfig.

    Args:
        namespace: by default that of the pod or of the kubeconfig's context.
        in_pod: whether to use the pod's service account instead of the kubeconfig.
        seconds: timeout of a request, both for connecting and for reading.

    Raises:
        KatibFlowError: neither names a cluster, or the cluster does not answer.
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
        """As ``Cluster.create``."""
        name = manifest["metadata"].get("name") or manifest["metadata"].get("generateName", "")
        kind = kind_of(manifest)
        return self._call("create", kind, name, lambda of: of.create(body=manifest, **self._where)).to_dict()

    def get(self, kind: Kind, name: str) -> Manifest:
        """As ``Cluster.get``."""
        return self._call("get", kind, name, lambda of: of.get(name=name, **self._where)).to_dict()

    def find(self, kind: Kind, labels: Mapping[str, str], fields: Mapping[str, str] = NOTHING) -> list[Manifest]:
        """As ``Cluster.find``."""
        pairs = {"label_selector": labels, "field_selector": fields}
        selectors = {name: _selector(pair) for name, pair in pairs.items() if pair}
        answer = self._call("list", kind, "", lambda of: of.get(**selectors, **self._where)).to_dict()
        return sorted(
            answer["items"], key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"])
        )

    def patch(self, kind: Kind, name: str, changes: Manifest) -> Manifest:
        """As ``Cluster.patch``: a JSON merge patch."""
        how = {"name": name, "body": changes, "content_type": "application/merge-patch+json"}
        return self._call("patch", kind, name, lambda of: of.patch(**how, **self._where)).to_dict()

    def delete(self, kind: Kind, name: str) -> None:
        """As ``Cluster.delete``, in the background; nothing happens if the object does not exist."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            self._call("delete", kind, name, lambda of: of.delete(name=name, body=body, **self._where))
        except Missing:
            return

    def log(self, pod: str, container: str | None, since_seconds: int | None = None) -> str:
        """As ``Cluster.log``; "" if the container has not started."""
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
        """As ``Cluster.changes``."""
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
    """Looks up the resources of kinds with one request per apiVersion.

    The client's own discovery starts with four requests and a cache file in every pod.
    """

    def __init__(self, client: Any, cache_file: str | None) -> None:
        self._client, self._resources = client, dict[Kind, Any]()

    def get(self, api_version: str, kind: str) -> Any:
        """Return the resource of a kind. Raises ResourceNotFoundError."""
        from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
        from kubernetes.dynamic.resource import Resource

        if (api_version, kind) not in self._resources:
            prefix, (group, _, version) = "apis" if "/" in api_version else "api", api_version.rpartition("/")
            try:
                answer = self._client.request("GET", f"/{prefix}/{api_version}", _request_timeout=_REQUEST_SECONDS)
            except NotFoundError:
                raise ResourceNotFoundError(f"no {api_version}") from None
            where = {"prefix": prefix, "group": group, "api_version": version, "client": self._client}
            for resource in answer.to_dict()["resources"]:
                if "/" not in resource["name"]:  # not a subresource such as jobs/status
                    fields = {name: resource[name] for name in ("name", "kind", "namespaced", "verbs")}
                    self._resources[api_version, resource["kind"]] = Resource(**where, **fields)
        if (api_version, kind) not in self._resources:
            raise ResourceNotFoundError(f"no {kind} in {api_version}")
        return self._resources[api_version, kind]


def _called(what: str, call: Callable[[], Any]) -> Any:
    """Call the kubernetes client and translate its errors into those of this module."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.dynamic.exceptions import DynamicApiError
    from urllib3.exceptions import HTTPError

    try:
        return call()
    except (ApiException, DynamicApiError) as error:
        status = int(error.status or 0)
        if status == http.client.CONFLICT and what.startswith("create"):
            raise AlreadyExists(f"{what}: it already exists") from None
        if status == http.client.NOT_FOUND:
            raise Missing(f"{what}: it does not exist") from None
        raise ClusterError(f"{what}: the cluster answers {status} {error.reason}", status) from None
    except (HTTPError, OSError) as error:
        raise ClusterError(f"{what}: the cluster does not answer: {error}") from None


def _selector(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())


def _lines(response: Any) -> Iterator[bytes]:
    """Yield the lines of a streamed response."""
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
