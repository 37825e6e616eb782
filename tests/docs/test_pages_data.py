"""Every block of code in the pages is run, read or excused; this module reads specs, JSON and lines of output."""

import importlib
import re
from pathlib import Path

import pytest
import yaml
from page_blocks import ROOT, Block, all_blocks, blocks_of
from page_data import EXCUSED, READERS, excuse_of, reader_of
from page_programs import elsewhere
from page_shell import NOT_RUN, cited

from katib_flow.cli import main
from katib_flow.spec import Experiment

OTHERS = [block for block in all_blocks() if block.language not in ("python", "shell") and elsewhere(block) is None]
READ = [block for block in OTHERS if excuse_of(block) is None]
WHOLE = [
    block
    for block in all_blocks()
    if block.language == "yaml"
    and isinstance(data := yaml.safe_load(block.text), dict)
    and {"name", "trial"} <= {*data}
]


def test_blocks_of_every_shape_are_seen() -> None:
    text = "```python\npass\n```\n\n    make test\n\n- a list\n\n  ~~~yaml\n  a: 1\n  ~~~\n\n```{toctree} x\na\n```\n"
    blocks = list(blocks_of("page.md", text))
    assert [(block.line, block.language, block.text) for block in blocks] == [
        (1, "python", "pass\n"),
        (5, "shell", "make test\n"),
        (9, "yaml", "a: 1\n"),
        (13, "{toctree}", "a\n"),
    ]


@pytest.mark.parametrize("block", READ, ids=str)
def test_a_block_that_is_not_a_program_is_correct(block: Block) -> None:
    reader = reader_of(block)
    assert reader is not None, "add a reader to READERS in page_data.py, or the reason for having none to EXCUSED"
    reader(block)


@pytest.mark.parametrize("block", WHOLE, ids=str)
def test_a_whole_spec_is_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.yaml").write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["katib-flow", "validate", "spec.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@pytest.mark.parametrize(("page", "key"), [*READERS, *EXCUSED])
def test_a_row_of_the_tables_is_about_one_block(page: str, key: str) -> None:
    assert len([block for block in OTHERS if block.page == page and key in block.text]) == 1


def test_the_tests_that_an_excuse_cites_exist() -> None:
    cites = [path for text in (*EXCUSED.values(), *NOT_RUN.values()) for path in cited(text)]
    assert len(cites) > 5
    assert [path.relative_to(ROOT) for path in cites if not path.is_file()] == []


def test_the_page_of_all_keys_has_those_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(ROOT / "docs")
    printed = re.findall(r"^\| `(\w+)` \| .", "\n".join(importlib.import_module("spec_keys").lines()), re.MULTILINE)
    schema = Experiment.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    assert sorted(printed) == sorted(key for model in models for key in model.get("properties", ()))
