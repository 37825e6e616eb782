"""What all tests share: hypothesis makes the same examples every time, and no test sees what another has imported.

A process computes in one thread, as tests run side by side: threads that wait for a core which another test has spin
for far longer than they compute.
"""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when NumPy and PyTorch are imported
    os.environ.setdefault(name, "1")

settings.register_profile(
    "katib-flow", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("katib-flow")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores, because many tests wait for a process or a server."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def fresh_imports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take back what a test put on the path, and forget the modules that it imported from temporary folders."""
    path, before = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    temporary = f"{tmp_path_factory.getbasetemp()}{os.sep}"
    for name in [name for name in sys.modules if name not in before]:  # thousands are loaded: to look at all is slow
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and file.startswith(temporary):
            del sys.modules[name]
