"""A real cluster, where there is one: KUBECONFIG, KATIB_FLOW_NAMESPACE (with workflow_templates/ applied),
KATIB_FLOW_IMAGE and KATIB_FLOW_NAS_IMAGE (on the node), MLFLOW_TRACKING_URI (reached from here and from pods). What is
stopped in the midst of runs needs commands: KATIB_FLOW_STOP_MLFLOW and _START_MLFLOW, _STOP_CONTROLLER and so on."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster_kit import Bench, Hook, Row

NEEDED = ("KUBECONFIG", "KATIB_FLOW_NAMESPACE", "KATIB_FLOW_IMAGE", "MLFLOW_TRACKING_URI")
ROWS: list[Row] = []


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        pytest.skip(f"no cluster: {', '.join(missing)} not set; see docs/argo.md")
    made = Bench.open(*(os.environ[name] for name in NEEDED[1:]), rows=ROWS)
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def nas_image() -> str:
    image = os.environ.get("KATIB_FLOW_NAS_IMAGE", "")
    if not image:
        pytest.skip("no image for architectures: KATIB_FLOW_NAS_IMAGE not set")
    return image


def hook(what: str) -> Hook:
    found = Hook.of_environment(what)
    if found is None:
        pytest.skip(f"no way to stop it: KATIB_FLOW_STOP_{what} and KATIB_FLOW_START_{what} not set")
    return found


@pytest.fixture
def mlflow_hook() -> Hook:
    return hook("MLFLOW")


@pytest.fixture
def controller_hook() -> Hook:
    return hook("CONTROLLER")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    terminalreporter.section("seconds on the cluster")
    terminalreporter.write_line(f"{'what':<28}{'trials':>7}{'in all':>9}{'an iteration or turn':>22}{'a trial':>9}")
    for row in ROWS:
        terminalreporter.write_line(
            f"{row.what:<28}{row.trials:>7}{row.seconds:>9.1f}{row.each:>22.1f}{row.seconds / max(1, row.trials):>9.1f}"
        )
