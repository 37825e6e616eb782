"""``depends``: the tasks that a DAG task waits for, and whether it then runs.

A bare name stands for Succeeded, Skipped or Daemoned. A task waits until every task that is named is fulfilled, even if
the value of the expression is already known.
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
    """The condition of a task, which ``dependencies`` abbreviates; "" if it waits for no other task."""
    return str(task.get("depends") or " && ".join(task.get("dependencies", [])))


@lru_cache(maxsize=1024)
def dependencies(depends: str) -> tuple[str, ...]:
    """The tasks that a condition names, in order.

    Raises:
        Rejected: it names a result that does not exist.
    """
    names: dict[str, None] = {}
    for whole, bare in _NAMED.findall(depends):
        name, _, result = (whole or bare).partition(".")
        if result and result not in RESULTS:
            raise Rejected(f"depends {depends!r}: task result {result!r} for task {name!r} is invalid")
        names[name] = None
    return tuple(names)


def holds(depends: str, results: Callable[[str], Mapping[str, bool]]) -> bool:
    """Whether a task runs, once all tasks that it depends on are fulfilled.

    Args:
        results: for a task, whether each of ``RESULTS`` is true.

    Raises:
        ExpressionError: the condition cannot be evaluated.
    """
    env = {name.replace("-", "_"): results(name) for name in dependencies(depends)}
    return expr.truth(_expanded(depends).replace("-", "_"), env)


@lru_cache(maxsize=1024)
def _expanded(depends: str) -> str:
    def whole(match: "re.Match[str]") -> str:
        name = match[2]
        return match[0] if name is None else f"({name}.Succeeded || {name}.Skipped || {name}.Daemoned)"

    return _NAMED.sub(whole, depends)
