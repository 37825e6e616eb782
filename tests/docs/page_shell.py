"""The command lines of the pages: the pages that are run line by line, and the reasons to leave a line out."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from page_blocks import ROOT, Block
from page_programs import SPEC

NOT_RUN = {
    "katib-flow ui": "serves until it is stopped; tests/cli/test_cli_ui.py",
    "katib-flow submit": "needs a cluster; tests/cli/test_cli_submit.py",
    "katib-flow doctor": "needs a cluster; tests/argo/test_doctor.py",
    "katib-flow run examples/": "takes minutes; tests/examples/test_examples.py compiles every example",
    "katib-flow run benchmarks/": "takes half a minute",
    "katib-flow run fashion.yaml": "takes minutes; tests/examples/test_from_search_to_model.py",
    "katib-flow report fashion": "needs the search before it, which takes minutes",
    "katib-flow register fashion": "needs the search before it; tests/tracking/test_tracking_registry.py",
    "katib-flow import --own-nas": "tests/spec/test_katib_own_nas.py",
    "katib-flow import sqlite:": "needs a study; tests/cli/test_cli_import_study.py",
    "katib-flow import journal.log": "needs a study; tests/migration/test_optuna_studies.py",
    "katib-flow import ~/ray_results": "needs results of Ray Tune; tests/migration/test_ray_results.py",
    "katib-flow validate first.yaml": "tests/examples/test_first_cluster_page.py compiles the spec",
    "katib-flow best first": "needs a cluster; tests/examples/test_first_cluster_page.py",
    "katib-flow trials first": "needs a cluster; tests/examples/test_first_cluster_page.py",
    "katib-flow report first": "needs a cluster; tests/examples/test_first_cluster_page.py",
    "argo ": "needs a cluster",
    "kind ": "needs Docker",
    "minikube ": "needs Docker",
    "docker build ": "needs Docker; make image-test builds the image without it",
    "export ARGO_": "is for commands that need a cluster",
    "kubectl ": "needs a cluster",
    "make ": "installs, builds images or runs all tests; the Makefile is checked for the target",
    "pip install ": "needs a network; pyproject.toml is checked for the extra",
    "python -m venv ": "is for commands that need a network",
    ".venv/peers/bin/": "needs the packages that the line before it installs",
    ".venv/budgets/bin/": "needs the packages that the line before it installs",
    "python -m benchmarks.": "takes minutes to hours; the module is checked for the options",
    "katib-flow resume svm --argo": "needs a cluster; tests/cli/test_cli_submit.py",
    "python tune.py": "tests/docs/test_pages_python.py runs the program",
    "python examples/local_search.py": "takes minutes; tests/examples/test_own_system.py runs the module",
    "export KATIB_FLOW_": "is for tests on a cluster",
}
"""Beginnings of lines that are not run, with the reason, a test that runs them in another way, or both."""

TRAIN = """\
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--C", type=float, default=1.0)
parser.add_argument("--gamma", type=float, default=0.1)
parser.add_argument("--kernel", default="rbf")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=1)
print(f"accuracy={1 / (1 + parser.parse_args().C)}")
"""
SVM = """\
name: svm
objective: {metric: accuracy, direction: maximize}
parameters: {C: {type: float, min: 0, max: 1}}
limits: {max_trials: 2}
trial: {command: [python, train.py, "--C=${C}"]}
"""
KATIB = (ROOT / "tests" / "spec" / "pasted" / "hyperband.yaml").read_text(encoding="utf-8")

RUN = {
    "README.md": {"train.py": TRAIN},
    "docs/algorithms.md": {},
    "docs/argo.md": {"spec.yaml": SPEC},
    "docs/katib.md": {"experiment.yaml": KATIB},
    "docs/index.md": {"train.py": TRAIN},
    "docs/resume.md": {"train.py": TRAIN, "svm.yaml": SVM},
    "docs/tutorial.md": {"train.py": TRAIN},
}
"""The pages whose lines are run, in one directory, with files in addition to those that the page shows."""

BEFORE = {"docs/resume.md": [["katib-flow", "run", "svm.yaml"]]}
"""Commands that the reader of a page has run before."""


def lines(block: Block) -> Iterator[list[str]]:
    """The commands of a block as lists of words, without comments; `&&` separates commands."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            if words := shlex.split(part, comments=True):
                yield words


def reason(words: list[str]) -> str | None:
    """Why a command is not run; None if it is."""
    line = " ".join(words)
    return next((reason for beginning, reason in NOT_RUN.items() if line.startswith(beginning)), None)


def cited(text: str) -> list[Path]:
    """The test modules that a reason cites."""
    return [ROOT / word.rstrip(";,") for word in text.split() if word.startswith("tests/")]
