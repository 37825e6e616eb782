"""Install packages with pip before a function's code is imported."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from katib_flow.errors import KatibFlowError, SpecError

_USERS_FAULT = ("No matching distribution found", "No module named pip", "Invalid requirement", "ResolutionImpossible")


def install(packages: Sequence[str]) -> None:
    """Install packages for this process and its children. Packages of the image take precedence.

    Raises:
        SpecError: the packages do not exist, or the image has no pip.
        KatibFlowError: pip failed for a reason that may pass, such as an unreachable index.
    """
    if not packages:
        return
    target = tempfile.mkdtemp(prefix="katib-flow-packages-")
    options = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--target", target]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--", *packages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        if any(sign in done.stderr for sign in _USERS_FAULT):
            raise SpecError("trial.packages", list(packages), f"packages that pip can install here ({last})")
        raise KatibFlowError(f"trial.packages: pip failed: {last}")
    sys.path.append(target)
