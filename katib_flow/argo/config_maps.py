"""ConfigMaps of a cluster, for Katib manifests whose trials' template stands in one."""

from collections.abc import Mapping
from typing import Any

from katib_flow.argo import cluster
from katib_flow.errors import KatibFlowError
from katib_flow.spec.config_maps import Absent, ConfigMaps, NotNow

_SECONDS = 10.0


def in_cluster() -> ConfigMaps:
    """Asks the cluster of the user's kubeconfig, whenever a ConfigMap is wanted."""
    return _asked


def in_cluster_if_any() -> ConfigMaps:
    """The same for who only judges a spec: where the cluster cannot be asked, that is no mistake."""

    def asked(namespace: str, name: str) -> Mapping[str, Any]:
        try:
            return _asked(namespace, name)
        except Absent:
            raise
        except KatibFlowError as error:
            raise NotNow(str(error)) from None

    return asked


def _asked(namespace: str, name: str) -> Mapping[str, Any]:
    try:
        there = cluster.KubernetesCluster(namespace, in_pod=False, seconds=_SECONDS)
    except ImportError:
        raise KatibFlowError("the Kubernetes client is not installed: pip install 'katib-flow[argo]'") from None
    try:
        data = there.get(cluster.CONFIG_MAP, name).get("data")
    except cluster.Missing:
        raise Absent("the cluster of the kubeconfig has none of this name there") from None
    return data if isinstance(data, dict) else {}
