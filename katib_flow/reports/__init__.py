"""The report of an experiment, made from its history, and the importance of its parameters."""
