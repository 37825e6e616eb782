"""Callbacks of training libraries: each reports metrics, ends a training that should stop, and keeps checkpoints.

A module a library, which imports the library: ``from katib_flow.callbacks.lightning import KatibFlowCallback``. Nothing
is imported here.
"""
