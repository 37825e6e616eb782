"""The words of the code and the pages: no local name that says nothing, and no phrase that a reader reads twice.

A pattern stands here because it stood in the project. It is a small net: what passes it is not yet good English.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
NAMES = frozenset({"each", "found", "made", "marks", "place", "put", "told"})
"""Names that tell nothing of what is named: a noun of the domain takes their place."""
PHRASES = {
    r"as (?:long|far|many|much) as (?:it|they) may": 'say the limit: "reached limits.timeout (60 s)"',
    r"not to be had": '"could not be read"',
    r"\bbe (?:the|it|they) \w+": 'no inversion: "even in an infinite space"',
    r"\b(?:is|are|has|have|gives|makes|holds) none\b": 'say what there is not: "has no parameters"',
    r"\b(?:of|by|for|to|from) (?:who|whoever) \w+": 'a noun: "the caller"',
    r"\bwho (?:asks|calls|compiles|guesses|reads|runs|trains|waits|writes)\b": 'a noun: "the caller"',
    r"\b\d+ \w+(?:, \d+|,? and \d+)? may\b[.;]": "name the limit and what it allows",
    r"\bnothing yet\b": "what happened, and what to do",
    r"\bis had\b|\bto be had\b|\bcan be had\b": '"is available"',
    r"\bwhat it is (?:told|given|asked)\b": "name it",
}
CLEAN = ("steps", "wording.py")
"""Parts of the code whose words have been gone through."""
PAGES = sorted((HERE / "docs").rglob("*.md"))
PAGES += [HERE / "README.md", HERE / "CONTRIBUTING.md", HERE / "CHANGELOG.md"]


def code(part: str) -> list[Path]:
    root = HERE / part if part == "steps" else HERE / "katib_flow" / part
    return sorted(root.rglob("*.py")) if root.is_dir() else [root]


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the name of each variable, argument, function and attribute that the code names."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of every comment and every string, docstrings and the parts of f-strings included."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING} or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
            yield token.start[0], token.string


def phrases(line: int, text: str) -> Iterator[str]:
    """What the patterns find in a text, line breaks read as spaces."""
    for pattern, better in PHRASES.items():
        for match in re.finditer(pattern, re.sub(r"\s+", " ", text)):
            yield f"{line}: {match[0]!r}; better: {better}"


def mistakes(path: Path) -> list[str]:
    source = path.read_text(encoding="utf-8")
    names = [
        f"{line}: the name {name!r} says nothing" for line, name in bound_names(ast.parse(source)) if name in NAMES
    ]
    return names + [mistake for line, text in texts(source) for mistake in phrases(line, text)]


def undocumented(path: Path) -> Iterator[str]:
    """Public functions, methods and classes of a module that have no docstring; properties and overrides count too."""

    def inside(body: list[ast.stmt], at: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            ):
                if ast.get_docstring(node) is None:
                    yield f"{node.lineno}: {at}{node.name} has no docstring"
                if isinstance(node, ast.ClassDef):
                    yield from inside(node.body, f"{node.name}.")

    yield from inside(ast.parse(path.read_text(encoding="utf-8")).body, "")


@pytest.mark.parametrize("part", CLEAN)
def test_the_words_of_the_code_are_plain(part: str) -> None:
    paths = code(part)
    assert paths, f"no code in {part}"
    assert [f"{path.relative_to(HERE)}:{mistake}" for path in paths for mistake in mistakes(path)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_the_words_of_the_pages_are_plain(path: Path) -> None:
    prose = re.sub(r"^( *)```.*?^\1```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    paragraphs = prose.split("\n\n")
    assert [mistake for number, text in enumerate(paragraphs) for mistake in phrases(number, text)] == []


def test_the_linter_sees_names_and_phrases(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    lines = [
        "def f(made):",
        "    '''Is there none, be the space uncountable?'''",
        "    for each in made:  # who asks",
        "        pass",
        "",
    ]
    path.write_text("\n".join(lines))
    assert [mistake.split(":")[0] for mistake in mistakes(path)] == ["1", "3", "2", "3"]


if __name__ == "__main__":  # python tests/test_words.py PATH...: everything that it sees in these files and folders
    import sys

    for argument in map(Path, sys.argv[1:]):
        for path in sorted(argument.rglob("*.py")) if argument.is_dir() else [argument]:
            for mistake in [*mistakes(path), *undocumented(path)]:
                print(f"{path}:{mistake}")
