"""The source of an experiment is told as MLflow's own ``start_run`` tells it."""

import subprocess
import sys
from pathlib import Path

import pytest

from katib_flow.tracking import source


def by_mlflow() -> dict[str, str]:
    from mlflow.tracking.context import git_context, registry

    for provider in registry._run_context_provider_registry:
        if isinstance(provider, git_context.GitRunContext):
            provider._cache.clear()
    return {name: str(value) for name, value in registry.resolve_tags().items()}


def git(folder: Path, *command: str) -> None:
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "search.py"
    path.write_text("pass\n")
    monkeypatch.setattr(sys, "argv", [str(path)])
    return path


def test_a_program_outside_of_any_repository(program: Path) -> None:
    assert source.tags() == by_mlflow()
    assert source.tags()["mlflow.source.name"] == str(program)


@pytest.mark.parametrize("remote", ["", "https://ada:secret@example.com/x.git", "git@example.com:x.git"])
def test_a_program_in_a_repository(program: Path, remote: str) -> None:
    git(program.parent, "init")
    git(program.parent, "add", ".")
    git(program.parent, "commit", "-m", "all")
    if remote:
        git(program.parent, "remote", "add", "upstream", remote)
    tags = source.tags()
    assert tags == by_mlflow()
    assert "secret" not in str(tags)
    assert ("mlflow.source.git.repoURL" in tags) == bool(remote)


def test_a_program_at_no_branch(program: Path) -> None:
    git(program.parent, "init")
    git(program.parent, "commit", "--allow-empty", "-m", "one")
    git(program.parent, "checkout", "--detach")
    assert source.tags() == by_mlflow()


def test_a_session_without_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [""])
    monkeypatch.chdir(tmp_path)
    assert source.tags() == by_mlflow()


def test_tags_that_the_environment_adds(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"team": "vision"}')
    assert source.tags() == by_mlflow()
    assert source.tags()["team"] == "vision"
