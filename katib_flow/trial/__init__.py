"""One trial as a process: protocol, runner, and what user code may call.

Nothing is imported here: a trial that only reports a metric loads ``user`` and no more.
"""
