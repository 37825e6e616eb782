"""``depends``: which tasks a DAG task waits for, and whether it then runs.

A bare name stands for Succeeded, Skipped or Daemoned. A task waits until every task named is fulfilled, whatever the
expression could say before.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from katib_flow.testing.argo import expr
from katib_flow.testing.argo.refusal import Rejected

RESULTS = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")
_NAMED = re.compile(r"([a-zA-Z0-9][-a-zA-Z0-9]*?\.[A-Z][a-zA-Z]+)|([a-zA-Z0-9][-a-zA-Z0-9]*)")


def depends_of(task: Mapping[str, Any]) -> str:
    """The condition of a task, which ``dependencies`` only abbreviates; empty where it waits for nothing."""
    return str(task.get("depends") or " && ".join(task.get("dependencies", [])))


@lru_cache(maxsize=1024)
def dependencies(depends: str) -> tuple[str, ...]:
    """The tasks that a condition names, in order.

    Raises:
        Rejected: it asks for a result that does not exist.
    """
    found: dict[str, None] = {}
    for whole, bare in _NAMED.findall(depends):
        name, _, result = (whole or bare).partition(".")
        if result and result not in RESULTS:
            raise Rejected(f"depends {depends!r}: task result {result!r} for task {name!r} is invalid")
        found[name] = None
    return tuple(found)


def holds(depends: str, results: Callable[[str], Mapping[str, bool]]) -> bool:
    """Whether a task runs, once all that it depends on is fulfilled.

    Args:
        results: truth of each of ``RESULTS`` of a task.

    Raises:
        ExpressionError: the condition is none.
    """
    env = {name.replace("-", "_"): results(name) for name in dependencies(depends)}
    return expr.truth(_expanded(depends).replace("-", "_"), env)


@lru_cache(maxsize=1024)
def _expanded(depends: str) -> str:
    def whole(match: "re.Match[str]") -> str:
        name = match[2]
        return match[0] if name is None else f"({name}.Succeeded || {name}.Skipped || {name}.Daemoned)"

    return _NAMED.sub(whole, depends)
