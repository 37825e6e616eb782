"""``retryStrategy``: whether and when a node is retried."""

from typing import TYPE_CHECKING

from katib_flow.testing.argo import expr
from katib_flow.testing.argo.nodes import Node, Phase
from katib_flow.testing.argo.refusal import ExpressionError, Unsupported
from katib_flow.testing.argo.substitution import expanded
from katib_flow.testing.argo.templates import TemplateError
from katib_flow.testing.argo.workflow import Manifest

if TYPE_CHECKING:
    from katib_flow.testing.argo.operation import Operation

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def go_on(operation: "Operation", parent: Node, strategy: Manifest) -> bool:
    """Update a Retry node from its last attempt; False while it waits before the next one.

    Raises:
        TemplateError: the strategy's expression cannot be evaluated.
    """
    attempts = operation.nodes.attempts(parent) if parent.children else []
    if parent.phase.fulfilled or not attempts or not attempts[-1].phase.fulfilled:
        return True
    last = attempts[-1]
    if not last.phase.bad:
        operation.mark(parent, Phase.SUCCEEDED)
    elif operation.over():
        operation.mark(parent, last.phase, operation.over_message())
    elif (wait := _wait(strategy, attempts)) > operation.now and _some_left(strategy, attempts):
        parent.message = "Backoff"
        operation.controller.look_again(operation.workflow, wait)
        return False
    else:
        parent.message = ""
        if (why := _why_not(strategy, attempts)) is not None:
            operation.mark(parent, last.phase, why)
    return True


def _why_not(strategy: Manifest, attempts: list[Node]) -> str | None:
    """Why a node is not retried; None if it is."""
    last = attempts[-1]
    policy = strategy.get("retryPolicy") or ("Always" if "expression" in strategy else "OnFailure")
    if policy not in ("Always", "OnFailure", "OnError"):
        raise Unsupported("retryStrategy", f"the policy {policy}")
    if (last.phase is Phase.FAILED and policy == "OnError") or (last.phase is Phase.ERROR and policy == "OnFailure"):
        return last.message
    if not _some_left(strategy, attempts):
        return "No more retries left"
    if "expression" in strategy and not _wanted(strategy["expression"], attempts):
        return "retryStrategy.expression evaluated to false"
    return None


def _some_left(strategy: Manifest, attempts: list[Node]) -> bool:
    return "limit" not in strategy or len(attempts) <= int(strategy["limit"])


def _wanted(expression: str, attempts: list[Node]) -> bool:
    last = attempts[-1]
    scope = {
        "retries": str(len(attempts) - 1),
        "lastRetry.exitCode": "-1" if last.exit_code is None else last.exit_code,
        "lastRetry.status": str(last.phase),
        "lastRetry.duration": expr.text_of((last.finished or last.started) - last.started),
        "lastRetry.message": last.message,
    }
    try:
        return expr.truth(expression, expanded(scope))
    except ExpressionError as error:
        raise TemplateError(str(error)) from None


def _wait(strategy: Manifest, attempts: list[Node]) -> float:
    """The time at which the next attempt may start; in the past if there is no backoff."""
    backoff = strategy.get("backoff")
    if backoff is None:
        return 0.0
    if "maxDuration" in backoff:
        raise Unsupported("retryStrategy.backoff", "maxDuration")
    seconds = duration(backoff["duration"])
    if int(backoff.get("factor", 0)) > 0:
        seconds *= int(backoff["factor"]) ** (len(attempts) - 1)
    if "cap" in backoff:
        seconds = min(seconds, duration(backoff["cap"]))
    return (attempts[-1].finished or 0.0) + seconds


def duration(text: str) -> float:
    """The seconds of a duration such as 30, 2s, 10m or 1h.

    Raises:
        Unsupported: it has several parts.
    """
    number = text.rstrip("mhs")
    unit = text[len(number) :]
    if unit not in ("", *_UNITS) or not number.replace(".", "", 1).isdigit():
        raise Unsupported(f"duration {text!r}", "durations of several parts")
    return float(number) * _UNITS.get(unit, 1.0)
