"""Reports the result of a trial's function: a number, a dict of metrics, or an iterator with one of these per step."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from katib_flow.trial import user
from katib_flow.wording import counted

NEED = "a number, a dict of metrics, or a generator of these"


class Unusable(Exception):
    """The result of a function cannot be a value of the objective; the message is for the user."""


def report_returned(returned: Any, objective: str) -> None:
    """Report the result of a function. A number is the objective; an iterator yields the values of one step at a time.

    Raises:
        Unusable: it cannot be a value of the objective.
    """
    if not isinstance(returned, Iterator) or isinstance(returned, Mapping):
        if returned is None:  # it may have called kf.report
            user.remark(returned="None")
        else:
            _report(returned, objective, None, "returned")
        return
    user.listen_for_stop()
    count = 0
    for count, values in enumerate(returned, start=1):
        _report(values, objective, count - 1, "yielded")
        if user.should_stop():
            if inspect.isgenerator(returned):
                returned.close()
            return
    if not count:
        user.remark(returned="an empty iterator")


def _report(values: Any, objective: str, step: int | None, how: str) -> None:
    if not isinstance(values, Mapping):
        user.report({objective: _number(values, f"{how} {described(values)}", NEED)}, step=step)
        return
    metrics: dict[str, Any] = {str(name): value for name, value in values.items()}
    step = metrics.pop("step", step)
    numbers: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, value in metrics.items():
        if name == objective:
            numbers[name] = _number(value, f"{how} {described(value)} for {name!r}", "one number")
            continue
        try:
            numbers[name] = user.plain(value)
        except TypeError:
            left_out[name] = described(value)
    if left_out:
        user.remark(left_out=left_out)
    if numbers:
        user.report(numbers, step=step)


def _number(value: Any, what: str, need: str) -> float:
    try:
        number = user.plain(value)
    except TypeError:
        raise Unusable(f"the function {what}, need {need}") from None
    if isinstance(number, list):
        if len(number) != 1:
            raise Unusable(f"the function {what}, need one number")
        number = number[0]
    return number


def described(value: Any) -> str:
    """Describe a value to people: a vector by its length, anything else by its type and the beginning of its text."""
    try:
        if isinstance(vector := user.plain(value), list):
            return f"a vector of {counted(len(vector), 'number')}"
    except TypeError:
        pass
    if value is None:
        return "None"
    kind = type(value).__name__
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an object of the user's, or an int with more digits than Python prints
        return f"a value of type {kind}"
    text = " ".join(text.split())
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return f"the text {text}" if isinstance(value, str) else f"a value of type {kind}, {text}"
