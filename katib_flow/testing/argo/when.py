"""``when``: the language govaluate, parsed after all placeholders are replaced.

A bare word is a string, so ``{{x}} == yes`` needs no quotes; but then the value of the placeholder must be a word or a
number, or the condition does not parse. Strings compare as strings and numbers as numbers; a string never equals a
number.
"""

import re
from functools import lru_cache
from typing import Any

from katib_flow.testing.argo.grammar import Parser, Token, Tree
from katib_flow.testing.argo.refusal import ExpressionError, Unsupported

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d[\d.]*)
    | (?P<text>"[^"]*"|'[^']*')
    | (?P<name>[A-Za-z_]\w*)
    | (?P<op>&&|\|\||==|!=|<=|>=|=~|!~|[-<>!(),])
    )""",
    re.VERBOSE,
)
_BINARY = {
    "||": 10,
    "&&": 20,
    **dict.fromkeys(("==", "!=", "<", ">", "<=", ">=", "=~", "!~", "in"), 30),
}
_UNARY = {"!": 90, "-": 90}
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d|[A-Z][a-z]{2} ")


def should_execute(when: str) -> bool:
    """Whether a step runs; an empty condition is true.

    Raises:
        ExpressionError: govaluate would fail, too, for instance because one side of a comparison is empty.
        Unsupported: the condition is outside the subset implemented here.
    """
    if not when:
        return True
    value = _value(when, _parsed(when))
    if not isinstance(value, bool):
        raise ExpressionError(f"{when!r}: found {value!r}, need true or false")
    return value


@lru_cache(maxsize=4096)
def _parsed(when: str) -> Tree:
    tokens: list[Token] = []
    position, text = 0, when.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"{when!r}: invalid token {text[position:].strip()[:1]!r} (try quotes)")
        position = match.end()
        token = _token(match)
        if tokens and token.kind != "op" and tokens[-1].kind != "op":
            raise ExpressionError(f"{when!r}: cannot go from {tokens[-1].text!r} to {token.text!r}")
        tokens.append(token)
    return Parser(when, tokens, _BINARY, _UNARY).parse()


def _token(match: "re.Match[str]") -> Token:
    if number := match["number"]:
        if number.count(".") > 1 or number.endswith("."):
            raise ExpressionError(f"invalid numeric literal {number}")
        return Token("literal", number, float(number))
    if text := match["text"]:
        if _DATE.match(text[1:-1]):
            raise Unsupported(text, "a quoted string that looks like a time, which govaluate compares as a time")
        return Token("literal", text, text[1:-1])
    if name := match["name"]:
        if name in ("true", "false"):
            return Token("literal", name, name == "true")
        return Token("op", name) if name == "in" else Token("literal", name, name)  # a bare word is a string
    return Token("op", match["op"])


def _value(when: str, tree: Tree) -> Any:
    kind = tree[0]
    if kind == "literal":
        return tree[1]
    if kind == "list":
        return [_value(when, item) for item in tree[1]]
    if kind == "unary":
        return _signed(when, tree[1], _value(when, tree[2]))
    if kind == "binary":
        left = _value(when, tree[2])
        if tree[1] in ("&&", "||"):
            _need(when, bool, left)
            if left == (tree[1] == "||"):
                return left
            right = _value(when, tree[3])
            _need(when, bool, right)
            return right
        return _compared(when, tree[1], left, _value(when, tree[3]))
    raise Unsupported(repr(when), f"a {kind} in a condition")


def _signed(when: str, op: str, value: Any) -> Any:
    _need(when, bool if op == "!" else float, value)
    return not value if op == "!" else -value


def _compared(when: str, op: str, a: Any, b: Any) -> bool:
    if op == "in":
        _need(when, list, b)
        return any(type(a) is type(item) and a == item for item in b)
    if op in ("==", "!="):
        return (type(a) is type(b) and a == b) == (op == "==")
    if op in ("=~", "!~"):
        _need(when, str, a)
        _need(when, str, b)
        return (re.search(b, a) is not None) == (op == "=~")
    if type(a) is not type(b) or isinstance(a, bool | list):
        raise ExpressionError(f"{when!r}: {a!r} {op} {b!r}")
    return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[op]


def _need(when: str, kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise ExpressionError(f"{when!r}: found {value!r}, need a {kind.__name__}")
