"""Single-threaded linear algebra for small matrices: more threads would compete with the trials for cores."""

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """A context in which BLAS computes in the calling thread; only libraries imported before it are affected."""
    return _blas().limit(limits=1)
