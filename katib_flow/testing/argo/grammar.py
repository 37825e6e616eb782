"""Expressions as trees, by precedence climbing: the grammar that Argo's two languages, expr and govaluate, share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from katib_flow.testing.argo.refusal import ExpressionError


class Token(NamedTuple):
    """A token of an expression.

    Attributes:
        kind: ``literal``, ``name``, or ``op`` for operators and brackets.
        value: of a literal.
    """

    kind: str
    text: str
    value: Any = None


Tree = tuple[Any, ...]
"""(literal, value), (name, text), (list, trees), (member, tree, text), (index, tree, tree), (call, tree, trees),
(unary, op, tree), (binary, op, tree, tree) or (ternary, tree, tree, tree)."""


@dataclass
class Parser:
    """A parser of one expression.

    Attributes:
        binary: the precedence of each infix operator; higher ones bind more tightly.
        unary: the precedence of each prefix operator.
        right: the infix operators that associate to the right.
    """

    source: str
    tokens: Sequence[Token]
    binary: Mapping[str, int]
    unary: Mapping[str, int]
    right: frozenset[str] = frozenset()
    position: int = 0

    def parse(self) -> Tree:
        """Parse the whole expression.

        Raises:
            ExpressionError: the tokens are not an expression.
        """
        tree = self._ternary()
        if self.position < len(self.tokens):
            raise self._error(f"unexpected {self.tokens[self.position].text!r}")
        return tree

    def _ternary(self) -> Tree:
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        yes = self._ternary()
        self._expect(":")
        return ("ternary", condition, yes, self._ternary())

    def _binary(self, least: int) -> Tree:
        left = self._unary()
        while (op := self._peek()) in self.binary and self.binary[op] >= least:
            self.position += 1
            precedence = self.binary[op]
            left = ("binary", op, left, self._binary(precedence + (op not in self.right)))
        return left

    def _unary(self) -> Tree:
        op = self._peek()
        if op in self.unary:
            self.position += 1
            return ("unary", op, self._binary(self.unary[op]))
        return self._postfix(self._primary())

    def _primary(self) -> Tree:
        if self.position >= len(self.tokens):
            raise self._error("unexpected end")
        token = self.tokens[self.position]
        self.position += 1
        if token.kind == "literal":
            return ("literal", token.value)
        if token.kind == "name":
            return ("name", token.text)
        if token.text == "(":
            inner = self._ternary()
            if self._peek() == ",":  # a list of govaluate
                items = [inner]
                while self._take(","):
                    items.append(self._ternary())
                self._expect(")")
                return ("list", items)
            self._expect(")")
            return inner
        if token.text == "[":
            return ("list", self._items("]"))
        raise self._error(f"unexpected {token.text!r}")

    def _postfix(self, tree: Tree) -> Tree:
        while True:
            if self._take("."):
                if self.position >= len(self.tokens) or self.tokens[self.position].kind != "name":
                    raise self._error("need a name after '.'")
                tree = ("member", tree, self.tokens[self.position].text)
                self.position += 1
            elif self._take("["):
                tree = ("index", tree, self._ternary())
                self._expect("]")
            elif self._take("("):
                tree = ("call", tree, self._items(")"))
            else:
                return tree

    def _items(self, end: str) -> list[Tree]:
        items: list[Tree] = []
        while not self._take(end):
            if items:
                self._expect(",")
            items.append(self._ternary())
        return items

    def _peek(self) -> str:
        if self.position >= len(self.tokens) or self.tokens[self.position].kind == "literal":
            return ""
        return self.tokens[self.position].text

    def _take(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self.position += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"need {text!r}")

    def _error(self, problem: str) -> ExpressionError:
        return ExpressionError(f"{self.source!r}: {problem}")
