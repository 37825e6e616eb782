"""Callbacks for training libraries, which report metrics, stop the training early, and save checkpoints.

There is one module per library, which imports it: ``from katib_flow.callbacks.lightning import KatibFlowCallback``.
Nothing is imported here.
"""
