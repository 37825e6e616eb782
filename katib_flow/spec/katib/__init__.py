"""Katib's v1beta1 Experiment manifests, which run here as they are."""

from katib_flow.spec.katib.convert import convert

__all__ = ["convert"]
