"""One thread for linear algebra on small matrices: more would only wait for cores that trials have."""

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """While it is entered, BLAS computes in the calling thread. What is to compute must have been imported before."""
    return _blas().limit(limits=1)
