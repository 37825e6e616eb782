"""The headings of the page on troubleshooting are messages of the code."""

import ast
import re
from collections.abc import Iterator

import pytest
from page_blocks import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
HEADINGS = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def texts() -> Iterator[str]:
    """Every string in the source, including the fixed parts of f-strings."""
    for path in sorted((ROOT / "katib_flow").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.fixture(scope="module")
def source() -> str:
    return "\n".join(texts())


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_a_message_of_the_code(heading: str, source: str) -> None:
    parts = [part.strip(" :;,.()'?") for part in re.split(r"\.\.\.|[:;] |(?:^found .+?)?, need ", heading)]
    assert any(len(part) > 6 for part in parts)
    assert [part for part in parts if part not in source] == []


def test_every_heading_of_a_message_is_seen() -> None:
    assert len(HEADINGS) == PAGE.read_text(encoding="utf-8").count("\n### ") > 20
