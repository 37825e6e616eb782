"""Import the trials of other tuners as a finished experiment to start from.

    an Optuna study, a Ray Tune folder ──▶ Study ──▶ an experiment in MLflow, and a spec with ``warm_start``

This package itself imports nothing.
"""
