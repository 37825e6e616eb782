"""Read ConfigMaps from a cluster, for Katib manifests that keep their trial template in one."""

from collections.abc import Mapping
from typing import Any

from katib_flow.argo import cluster
from katib_flow.errors import KatibFlowError
from katib_flow.spec.config_maps import Absent, ConfigMaps, NotNow

_SECONDS = 10.0


def in_cluster() -> ConfigMaps:
    """Return a reader that asks the cluster of the user's kubeconfig on each call."""
    return _read


def in_cluster_if_any() -> ConfigMaps:
    """Return a reader for validation only: it raises ``NotNow`` if the cluster cannot be asked."""

    def read(namespace: str, name: str) -> Mapping[str, Any]:
        try:
            return _read(namespace, name)
        except Absent:
            raise
        except KatibFlowError as error:
            raise NotNow(str(error)) from None

    return read


def _read(namespace: str, name: str) -> Mapping[str, Any]:
    try:
        namespaced = cluster.KubernetesCluster(namespace, in_pod=False, seconds=_SECONDS)
    except ImportError:
        raise KatibFlowError("the Kubernetes client is not installed: pip install 'katib-flow[argo]'") from None
    try:
        data = namespaced.get(cluster.CONFIG_MAP, name).get("data")
    except cluster.Missing:
        raise Absent("the kubeconfig's cluster has no ConfigMap of that name in that namespace") from None
    return data if isinstance(data, dict) else {}
