"""The Python of the pages: each block runs unchanged, in a process of its own and an empty directory."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from page_blocks import ROOT, Block, all_blocks
from page_programs import ELSEWHERE, PROGRAMS, Program, elsewhere

BLOCKS = [block for block in all_blocks() if block.language == "python" and elsewhere(block) is None]


def program_of(block: Block) -> Program:
    """How a block is run: its row of ``PROGRAMS``, or the default."""
    own = [row for (page, key), row in PROGRAMS.items() if page == block.page and key in block.text]
    return own[0] if own else Program()


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_as_it_is_printed(block: Block, tmp_path: Path) -> None:
    program = program_of(block)
    for name in program.needs:
        if find_spec(name) is None:
            pytest.skip(f"needs {name}, which is not installed here")
    text = block.text
    for original, replacement in program.replaced.items():
        assert original in text
        text = text.replace(original, replacement)
    for name, content in program.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "block.py").write_text(program.before + text + program.after)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KATIB_FLOW_"))}
    clean["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), clean.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "key"), PROGRAMS)
def test_a_row_of_the_table_is_about_one_block(page: str, key: str) -> None:
    assert len([block for block in BLOCKS if block.page == page and key in block.text]) == 1


@pytest.mark.parametrize(("page", "key"), ELSEWHERE)
def test_the_module_that_runs_a_block_reads_its_page(page: str, key: str) -> None:
    assert any(elsewhere(block) == ELSEWHERE[page, key] for block in all_blocks() if block.page == page)
    assert Path(page).name in (ROOT / ELSEWHERE[page, key]).read_text()
