"""Translate Katib's v1beta1 Experiment manifests to specs, so that they run here unchanged."""

from katib_flow.spec.katib.convert import convert

__all__ = ["convert"]
