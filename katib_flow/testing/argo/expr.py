"""A subset of the language expr, used by ``{{= }}``, ``retryStrategy.expression`` and ``valueFrom.expression``.

Supported: numbers, strings, lists, true, false, nil; ``.``, ``[]``; ``!``, ``not``, ``-``; arithmetic; comparison;
``in``, ``matches``, ``contains``, ``startsWith``, ``endsWith``; ``&&``, ``||``, ``??``, ``?:``; int, float, string,
len, fromJSON, toJson, jsonpath. Everything else is refused. Parameters are strings, which expr refuses to compare with
numbers.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from katib_flow.testing.argo.grammar import Parser, Token, Tree
from katib_flow.testing.argo.refusal import ExpressionError, Unsupported

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<op>\?\?|\*\*|&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]])
    )""",
    re.VERBOSE,
)
_BINARY = {
    **dict.fromkeys(("or", "||"), 10),
    **dict.fromkeys(("and", "&&"), 15),
    **dict.fromkeys(("==", "!=", "<", ">", ">=", "<=", "in", "matches", "contains", "startsWith", "endsWith"), 20),
    **dict.fromkeys(("+", "-"), 30),
    **dict.fromkeys(("*", "/", "%"), 60),
    "**": 100,
    "??": 500,
}
_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_CONSTANTS = {"true": True, "false": False, "nil": None}


def evaluate(source: str, env: Mapping[str, Any]) -> Any:
    """The value of an expression.

    Args:
        env: values by name; maps for names with members.

    Raises:
        ExpressionError: expr would fail, too.
        Unsupported: the expression is outside the subset.
    """
    return _Evaluation(source, env).value(_parsed(source))


def truth(source: str, env: Mapping[str, Any]) -> bool:
    """The value of an expression that must be true or false.

    Raises:
        ExpressionError: expr would fail, or the value is another one.
        Unsupported: the expression is outside the subset.
    """
    value = evaluate(source, env)
    if not isinstance(value, bool):
        raise ExpressionError(f"{source!r}: found {value!r}, need true or false")
    return value


def names(source: str) -> frozenset[str]:
    """The dotted names that an expression reads, such as ``lastRetry.exitCode``."""
    collected: set[str] = set()
    _collect(_parsed(source), collected)
    return frozenset(collected)


@lru_cache(maxsize=4096)
def _parsed(source: str) -> Tree:
    tokens: list[Token] = []
    position = 0
    text = source.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unsupported(repr(source), f"{text[position:].strip()[:1]!r} in an expression")
        position = match.end()
        tokens.append(_token(match))
    return Parser(source, tokens, _BINARY, _UNARY, frozenset({"**"})).parse()


def _token(match: "re.Match[str]") -> Token:
    if number := match["number"]:
        return Token("literal", number, int(number) if number.isdigit() else float(number))
    if text := match["text"]:
        return Token("literal", text, _unquoted(text))
    if name := match["name"]:
        if name in _CONSTANTS:
            return Token("literal", name, _CONSTANTS[name])
        return Token("op" if name in _BINARY or name in _UNARY else "name", name)
    return Token("op", match["op"])


def _unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    if text[0] == "'":
        text = '"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    try:
        return json.loads(text, strict=False)
    except ValueError:
        raise Unsupported(text, "an escape sequence in a string") from None


def _collect(tree: Tree, collected: set[str]) -> None:
    if dotted := _dotted(tree):
        collected.add(dotted)
        return
    for part in tree[2:] if tree[0] == "call" else tree[1:]:
        for branch in part if isinstance(part, list) else [part]:
            if isinstance(branch, tuple):
                _collect(branch, collected)


def _dotted(tree: Tree) -> str:
    if tree[0] == "name":
        return tree[1]
    if tree[0] == "member" and (owner := _dotted(tree[1])):
        return f"{owner}.{tree[2]}"
    if tree[0] == "index" and tree[2][0] == "literal" and isinstance(tree[2][1], str) and (owner := _dotted(tree[1])):
        return f"{owner}.{tree[2][1]}"
    return ""


class _Evaluation:
    def __init__(self, source: str, env: Mapping[str, Any]) -> None:
        self._source, self._env = source, env

    def value(self, tree: Tree) -> Any:
        return getattr(self, f"_{tree[0]}")(*tree[1:])

    def _error(self, problem: str) -> ExpressionError:
        return ExpressionError(f"{self._source!r}: {problem}")

    def _literal(self, value: Any) -> Any:
        return value

    def _list(self, items: list[Tree]) -> list[Any]:
        return [self.value(item) for item in items]

    def _name(self, name: str) -> Any:
        if name not in self._env:
            raise self._error(f"unknown name {name}")
        return self._env[name]

    def _member(self, tree: Tree, name: str) -> Any:
        owner = self.value(tree)
        if not isinstance(owner, Mapping):
            raise self._error(f"{name} of {owner!r}")
        return owner.get(name)

    def _index(self, tree: Tree, key: Tree) -> Any:
        container, at = self.value(tree), self.value(key)
        if isinstance(container, Mapping):
            return container.get(at)
        if isinstance(container, list) and isinstance(at, int) and -len(container) <= at < len(container):
            return container[at]
        raise self._error(f"no element {at!r}")

    def _ternary(self, condition: Tree, yes: Tree, no: Tree) -> Any:
        return self.value(yes if self._boolean(self.value(condition)) else no)

    def _unary(self, op: str, tree: Tree) -> Any:
        value = self.value(tree)
        if op in ("!", "not"):
            return not self._boolean(value)
        return -self._number(value) if op == "-" else self._number(value)

    def _binary(self, op: str, left: Tree, right: Tree) -> Any:
        if op in ("&&", "and"):
            return self._boolean(self.value(left)) and self._boolean(self.value(right))
        if op in ("||", "or"):
            return self._boolean(self.value(left)) or self._boolean(self.value(right))
        if op == "??":
            try:
                known = self.value(left)
            except ExpressionError:
                known = None
            return self.value(right) if known is None else known
        return self._operated(op, self.value(left), self.value(right))

    def _operated(self, op: str, a: Any, b: Any) -> Any:
        if op in ("==", "!="):
            if a is not None and b is not None and _kind(a) != _kind(b):
                raise self._error(f"mismatched types of {a!r} and {b!r}")
            return (a == b) == (op == "==")
        if op in ("<", ">", "<=", ">="):
            if _kind(a) != _kind(b) or _kind(a) not in ("number", "text"):
                raise self._error(f"{a!r} {op} {b!r}")
            return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[op]
        if op == "in":
            return a in b
        if op in ("matches", "contains", "startsWith", "endsWith"):
            text, other = self._text(a), self._text(b)
            return {
                "matches": lambda: re.search(other, text) is not None,
                "contains": lambda: other in text,
                "startsWith": lambda: text.startswith(other),
                "endsWith": lambda: text.endswith(other),
            }[op]()
        if op == "+" and isinstance(a, str) and isinstance(b, str):
            return a + b
        return self._computed(op, self._number(a), self._number(b))

    def _computed(self, op: str, a: float, b: float) -> float:
        if op == "%" and not (isinstance(a, int) and isinstance(b, int)):
            raise self._error(f"{a!r} % {b!r}")
        if op in ("/", "%") and b == 0:
            raise Unsupported(repr(self._source), "a division by zero")
        if op == "%":
            return a - b * int(a / b)  # with the sign of a, as in Go
        return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0, "**": float(a) ** b}[op]

    def _call(self, function: Tree, arguments: list[Tree]) -> Any:
        name = _dotted(function)
        if name not in _FUNCTIONS:
            raise Unsupported(repr(self._source), f"the function {name}")
        try:
            return _FUNCTIONS[name](*(self.value(argument) for argument in arguments))
        except (ValueError, TypeError) as error:
            raise self._error(f"{name}: {error}") from None

    def _boolean(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._error(f"found {value!r}, need true or false")
        return value

    def _number(self, value: Any) -> Any:
        if _kind(value) != "number":
            raise self._error(f"found {value!r}, need a number")
        return value

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._error(f"found {value!r}, need a string")
        return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def text_of(value: Any) -> str:
    """A value as ``string()`` writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return json.dumps(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        return repr(value)
    raise Unsupported(repr(value), "string() of a list or a map")


def to_json(value: Any) -> str:
    """A value as ``toJson()`` writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _int(value: Any) -> int:
    if isinstance(value, str) and not re.fullmatch(r"[+-]?\d+", value):
        raise ValueError(f"invalid integer {value!r}")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, str) and value.strip() != value:
        raise ValueError(f"invalid number {value!r}")
    return float(value)


def jsonpath(text: str, path: str) -> Any:
    """The value at a path such as ``$.a.b[0]`` in a JSON text.

    Raises:
        ValueError: the text is not JSON, or has no such path.
        Unsupported: the path has other parts than names and positions.
    """
    value = json.loads(text)
    if not re.fullmatch(r"\$(?:\.[A-Za-z_][\w-]*|\[\d+\])*", path):
        raise Unsupported(path, "this path of jsonpath")
    for name, index in re.findall(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]", path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"{path}: not in {text[:80]}") from None
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": _int,
    "float": _float,
    "string": text_of,
    "len": len,
    "fromJSON": json.loads,
    "toJson": to_json,
    "jsonpath": jsonpath,
}
