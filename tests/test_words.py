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
ALLOWED = {"errors.py": {"found"}}  # SpecError says what was found
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
CODE = [*sorted(path for path in (HERE / "katib_flow").iterdir() if path.name != "__pycache__"), HERE / "steps"]
MOST_UNDOCUMENTED = 0.05  # of the public functions, methods and classes; testing/ aside
PAGES = [*sorted((HERE / "docs").rglob("*.md")), *map(HERE.joinpath, ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]


def modules(part: Path) -> list[Path]:
    return sorted(part.rglob("*.py")) if part.is_dir() else [part]


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
            case _:
                pass


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
    banned = NAMES - ALLOWED.get(path.name, set())
    bound = bound_names(ast.parse(source))
    names = [f"{line}: the name {name!r} says nothing" for line, name in bound if name in banned]
    return names + [mistake for line, text in texts(source) for mistake in phrases(line, text)]


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """The public functions and classes of a module, and their public methods and properties, by their names."""
    waiting = [("", node) for node in tree.body]
    for prefix, node in waiting:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                waiting += [(f"{prefix}{node.name}.", inner) for inner in node.body]


def undocumented(path: Path) -> Iterator[str]:
    """What is public in a module and has no docstring."""
    for name, node in public(ast.parse(path.read_text(encoding="utf-8"))):
        if ast.get_docstring(node) is None:
            yield f"{node.lineno}: {name} has no docstring"


@pytest.mark.parametrize("part", CODE, ids=lambda part: part.name)
def test_the_words_of_the_code_are_plain(part: Path) -> None:
    assert [f"{path.relative_to(HERE)}:{mistake}" for path in modules(part) for mistake in mistakes(path)] == []


def test_nearly_everything_public_has_a_docstring() -> None:
    paths = [path for part in CODE if part.name != "testing" for path in modules(part)]
    bare = [f"{path.relative_to(HERE)}:{line}" for path in paths for line in undocumented(path)]
    assert len(bare) <= MOST_UNDOCUMENTED * sum(len(list(public(ast.parse(path.read_text())))) for path in paths), bare


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
