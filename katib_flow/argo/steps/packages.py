"""What pip installs into a pod before a function's code is imported."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from katib_flow.errors import KatibFlowError, SpecError

_USERS_FAULT = ("No matching distribution found", "No module named pip", "Invalid requirement", "ResolutionImpossible")


def install(packages: Sequence[str]) -> None:
    """Install packages for this process and those it starts; what the image has already goes before them.

    Raises:
        SpecError: there are no such packages, or the image has no pip.
        KatibFlowError: pip failed for another reason, the index is away say; trying again may help.
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
