"""What other tuners have tried, as a finished experiment to start from.

    a study of Optuna, a folder of Ray Tune ──▶ Study ──▶ an experiment in MLflow, and a spec with ``warm_start``

Nothing is imported here.
"""
