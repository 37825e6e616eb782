"""The user, program and commit behind an experiment: the tags that MLflow's ``start_run`` would set."""

import getpass
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from katib_flow.foreign import from_json
from katib_flow.tracking.server import credentials

_PLUGINS = "mlflow.run_context_provider"


def default_tags() -> dict[str, str]:
    """The tags of the user and the program."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # the user id of a pod may have no name
        user = "unknown"
    name = sys.argv[0] if sys.argv and sys.argv[0] else "<console>"
    return {
        "mlflow.user": credentials()[0] or user,
        "mlflow.source.name": name,
        "mlflow.source.type": "LOCAL",
    }


def tags() -> dict[str, str]:
    """All source tags, including those of git; MLflow itself collects them in notebooks and if it has plugins."""
    if "IPython" in sys.modules or "DATABRICKS_RUNTIME_VERSION" in os.environ or entry_points(group=_PLUGINS):
        from mlflow.tracking.context.registry import resolve_tags

        return {name: str(value) for name, value in resolve_tags().items()}
    return {**default_tags(), **_git_tags(), **_environment_tags()}


def _git_tags() -> dict[str, str]:
    """Commit, branch and origin of the repository that holds the program, if git tracks it."""
    program = Path(sys.argv[0] if sys.argv and sys.argv[0] else ".")
    folder = (program.absolute().parent if program.is_file() else program).as_posix()
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or _git(folder, "check-ignore", folder):
        return {}
    remote = next(iter(_git(folder, "remote").splitlines()), "")
    url = _git(folder, "remote", "get-url", remote) if remote else ""
    known = {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": _git(folder, "symbolic-ref", "--short", "HEAD"),
        "mlflow.source.git.repoURL": _without_user(url),
    }
    return {name: value for name, value in known.items() if value}


def _git(folder: str, *command: str) -> str:
    """The output of git; "" if it fails or is not installed."""
    try:
        arguments = ["git", "-C", folder, *command]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _without_user(url: str) -> str:
    """An address without the name and the password that may be in it."""
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _environment_tags() -> dict[str, str]:
    """The tags in MLFLOW_RUN_CONTEXT, which the parent process may have set."""
    try:
        given = from_json(os.environ.get("MLFLOW_RUN_CONTEXT", "{}"))
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
