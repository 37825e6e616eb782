"""The blocks of code in the pages for users, each with its language and line.

Reads: README.md, CONTRIBUTING.md and the Markdown files in docs/, with the parser that Rich depends on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("katib-flow", "make", "pip", "python", "kubectl", "argo", "kind", "minikube", "docker", "export")
"""The first words of indented blocks that are for a shell."""

SHELLS = ("sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: the line of the page, from 1.
        info: everything after the backticks.
        text: the code as the page shows it.
    """

    page: str
    line: int
    language: str
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@lru_cache(maxsize=1)
def all_blocks() -> tuple[Block, ...]:
    """The blocks of all pages."""
    return tuple(block for path in PAGES for block in blocks_of(name(path), path.read_text(encoding="utf-8")))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Fenced and indented blocks, also within lists; the language of a block without one is "shell" or "text"."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type not in ("fence", "code_block") or token.map is None:
            continue
        first = token.content.split(maxsplit=1)[:1]
        guess = "shell" if first and first[0] in PROGRAMS else "text"
        language = token.info.split(maxsplit=1)[0] if token.info else guess
        language = "shell" if language in SHELLS else language
        yield Block(page, token.map[0] + 1, language, token.info, token.content)


def spans() -> Iterator[tuple[str, str]]:
    """Every piece of code within a sentence or a table, with its page and line."""
    for path in PAGES:
        for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
            if token.type == "inline" and token.map is not None:
                for child in token.children or ():
                    if child.type == "code_inline":
                        yield f"{name(path)}:{token.map[0] + 1}", child.content


def name(path: Path) -> str:
    """The path of a page from the root of the project."""
    return path.relative_to(ROOT).as_posix()


def page_files(page: str) -> dict[str, str]:
    """The files that a page shows: blocks whose first line is a comment with a name, such as `# svm.yaml`."""
    files = {}
    for block in all_blocks():
        first = block.text.partition("\n")[0].removeprefix("# ")
        if block.page == page and first.endswith((".yaml", ".py")) and " " not in first:
            files[first] = block.text
    return files
