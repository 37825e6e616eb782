"""The command lines of the pages: commands and options exist, and those that need no cluster run unchanged."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from page_blocks import ROOT, Block, all_blocks, page_files, spans
from page_shell import BEFORE, NOT_RUN, RUN, lines, reason

from katib_flow.cli.app import app

SHELL = [block for block in all_blocks() if block.language == "shell"]
COMMANDS: Any = typer.main.get_command(app)


def parsed(name: str, *words: str) -> None:
    """Parse the arguments of a command of katib-flow, without running it.

    Raises:
        KeyError: the command does not exist.
        UsageError: an option does not exist, or a required one is missing.
    """
    COMMANDS.commands[name].make_context(name, [*words]).close()


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_command_has_the_options_that_a_block_gives_it(block: Block) -> None:
    for words in lines(block):
        check(words)


def check(words: list[str]) -> None:
    """Check that the program, target, package, option or file of a command exists."""
    match words:
        case ["katib-flow", *rest]:
            parsed(*rest)
        case ["make", target, *_]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text()
        case ["pip", "install", package]:
            extras = package.removeprefix("katib-flow").strip("[]")
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert package.startswith("katib-flow")
            assert not extras or set(extras.split(",")) <= project["optional-dependencies"].keys()
        case ["python", "-m", module, *options] if module.startswith("benchmarks."):
            source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
            assert all(f'"{option}"' in source for option in options if option.startswith("--"))
        case [".venv/peers/bin/python" | ".venv/budgets/bin/python", path, *options]:
            source = (ROOT / path).read_text()
            assert all(f'"{option}"' in source for option in options if option.startswith("--"))
        case ["python", path, *_] if path.endswith(".py"):
            assert (ROOT / path).is_file() or reason(words)
        case ["kubectl", "apply", "-k", path]:
            assert (ROOT / path / "kustomization.yaml").is_file()
        case _:
            assert reason(words), f"{words[0]}: this module has no check for it"
    for word in words:
        if word.startswith(("examples/", "benchmarks/")):
            assert (ROOT / word).is_file()


IN_SENTENCES = [pytest.param(code.split(), id=f"{at} {code}") for at, code in spans() if code.startswith("katib-flow ")]


@pytest.mark.parametrize("words", IN_SENTENCES)
def test_a_command_in_a_sentence_exists_with_its_options(words: list[str]) -> None:
    name = words[1]
    if name == "COMMAND":
        return
    command = COMMANDS if name.startswith("-") else COMMANDS.commands[name]
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_command_is_run_or_there_is_a_reason(block: Block) -> None:
    idle = [words for words in lines(block) if reason(words) is None and block.page not in RUN]
    assert not idle, "add the page to RUN of page_shell.py, or the command to NOT_RUN"


def test_every_reason_is_needed() -> None:
    commands = [" ".join(words) for block in SHELL for words in lines(block)]
    assert not [beginning for beginning in NOT_RUN if not any(line.startswith(beginning) for line in commands)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_one_after_another(page: str, tmp_path: Path) -> None:
    for name, text in {**page_files(page), **RUN[page]}.items():
        (tmp_path / name).write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KATIB_FLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    commands = [words for block in SHELL if block.page == page for words in lines(block) if reason(words) is None]
    assert commands
    for words in BEFORE.get(page, []) + commands:
        done = subprocess.run(words, cwd=tmp_path, env={**clean, "PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
