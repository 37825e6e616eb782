"""One trial as a process: its protocol, its runner, and the functions for user code.

Nothing is imported here, so that a trial that only reports a metric loads only ``user``.
"""
