"""``nasConfig`` of a Katib manifest, and what its trials are given."""

from collections.abc import Mapping
from typing import Any

from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.problems import shown


def architecture(draft: Draft, data: Any, algorithm: manifest.Algorithm | None) -> Mapping[str, str]:
    """Fill in ``architecture``; what the references of ``trialParameters`` to it stand for."""
    if data is None:
        return {}
    need = "parameters; the architecture search of Katib's manifests is not there yet"
    draft.wrong("spec.nasConfig", shown(data), need, unsound=["parameters", "architecture", "algorithm", "trial"])
    return dict.fromkeys(("architecture", "nn_config", "algorithm-settings", "search-space", "num-layers"), "?")
