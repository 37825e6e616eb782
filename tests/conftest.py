"""What all tests share: hypothesis makes the same examples every time, and never judges by the clock."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "katib-flow", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("katib-flow")
