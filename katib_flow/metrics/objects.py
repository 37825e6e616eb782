"""Parses an object at the end of a line: JSON, or a dict as Python prints it. No text is ever evaluated.

The Trainer of Hugging Face's Transformers prints such dicts, often after the rest of a progress bar:

    {'loss': 0.4123, 'grad_norm': 2.71, 'learning_rate': 4.5e-05, 'epoch': 0.25}
"""

import ast
import json
import re
import warnings
from typing import Any

LONGEST = 20_000  # characters of a Python dict: Python's parser is slow and takes much memory
_START = re.compile(r"\{\s*['\"]")
_NAMES = {"nan": float("nan"), "inf": float("inf")}
_WRAPPERS = ("float16", "float32", "float64", "int32", "int64", "bfloat16", "array", "tensor", "Array")


def object_of(line: str) -> tuple[dict[str, Any], str]:
    """The object at the end of a line, and its language, "JSON" or "Python"; an empty dict and "" without one."""
    text = line.strip()
    if not text.endswith("}") or (start := _START.search(text)) is None:
        return {}, ""
    text = text[start.start() :]
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = python_dict(text)
        return (data, "Python") if data else ({}, "")
    return (data, "JSON") if isinstance(data, dict) else ({}, "")


def python_dict(text: str) -> dict[str, Any]:
    """Parse a dict as Python prints it: its text keys, with values that are numbers, texts or lists of these.

    Any other value, such as a function call, becomes text, which can be shown in a message.
    """
    if len(text) > LONGEST:
        return {}
    try:
        with warnings.catch_warnings():  # about escapes in strings
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
        pairs = zip(tree.keys, tree.values, strict=True) if isinstance(tree, ast.Dict) else ()
        return {
            key.value: _value(value)
            for key, value in pairs
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str | None):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Call) and _wraps(node.func) and node.args:  # np.float64(0.5), tensor(0.5, device='cuda:0')
        return _value(node.args[0])
    return ast.unparse(node)


def _wraps(function: ast.expr) -> bool:
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    return name in _WRAPPERS
