"""``withItems``, ``withParam`` and ``withSequence``: one task or step becomes several."""

import json
from typing import Any

from katib_flow.testing.argo.refusal import ExpressionError, Unsupported
from katib_flow.testing.argo.substitution import Scope, substitute
from katib_flow.testing.argo.templates import TemplateError
from katib_flow.testing.argo.when import should_execute
from katib_flow.testing.argo.workflow import Manifest

LOOPS = ("withItems", "withParam", "withSequence")


def loops(task: Manifest) -> bool:
    """Whether a task or step has one of ``LOOPS``."""
    return any(key in task for key in LOOPS)


def expand(task: Manifest, scope: Scope) -> list[Manifest]:
    """The tasks of a loop, one per item, named ``task(0:item)``; the task itself if it does not loop.

    Raises:
        TemplateError: ``withParam`` is not a list, and ``when`` does not rule the task out.
    """
    if not loops(task):
        return [task]
    once = {key: value for key, value in task.items() if key not in LOOPS}
    return [_one(once, index, item, scope) for index, item in enumerate(_items(task))]


def _items(task: Manifest) -> list[Any]:
    if "withItems" in task:
        return task["withItems"]
    if "withSequence" in task:
        return _sequence(task["withSequence"])
    try:
        items = json.loads(task["withParam"])
    except ValueError:
        items = None
    if isinstance(items, list):
        return items
    if not _ruled_out(task):
        raise TemplateError(f"withParam value could not be parsed as a JSON list: {task['withParam'][:80]}")
    return []


def _ruled_out(task: Manifest) -> bool:
    try:
        return not should_execute(task.get("when", ""))
    except ExpressionError:
        return False


def _sequence(sequence: Manifest) -> list[str]:
    if "format" in sequence:
        raise Unsupported("withSequence", "format")
    try:
        start = int(sequence.get("start", 0))
        if "end" in sequence:
            end = int(sequence["end"])
        else:
            count = int(sequence["count"])
            if count == 0:
                return []
            end = start + count - 1
    except (KeyError, ValueError) as error:
        raise TemplateError(f"withSequence: {error}") from None
    step = 1 if start <= end else -1
    return [str(number) for number in range(start, end + step, step)]


def _one(task: Manifest, index: int, item: Any, scope: Scope) -> Manifest:
    known = {**scope, **_named(item)}
    described = known["item"] if not isinstance(item, dict) else _described(known)
    name = f"{task['name']}({index}:{described.replace('(', '').replace(')', '')})"
    return {**substitute(task, known), "name": name}


def _named(item: Any) -> dict[str, str]:
    if isinstance(item, dict):
        named = {f"item.{key}": _plain(value) for key, value in item.items()}
        return {"item": json.dumps(item, separators=(",", ":"), sort_keys=True), **named}
    if isinstance(item, list):
        raise Unsupported(f"item {item!r}", "lists as items of a loop")
    return {"item": _plain(item)}


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return json.dumps(value)
    raise Unsupported(f"item {value!r}", "items of a loop other than strings, integers, true and false")


def _described(known: Scope) -> str:
    return ",".join(sorted(f"{name[5:]}:{value}" for name, value in known.items() if name.startswith("item.")))
