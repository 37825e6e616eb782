"""Inputs that nobody meant, of every kind that comes from outside: ``make fuzz INPUTS=100000`` for as many.

Each is read, or refused with an error of the project's that says something, in two seconds and little memory. Input
``n`` of a kind is the same on every machine; KATIB_FLOW_FUZZ_SEED gives others.
"""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_programs
import fuzz_reports
import fuzz_specs
import pytest
from fuzz_harness import Target, fuzz

INPUTS = int(os.environ.get("KATIB_FLOW_FUZZ", "500"))
SEED = os.environ.get("KATIB_FLOW_FUZZ_SEED", "0")
KINDS: dict[str, tuple[float, Callable[[Path], Target]]] = {
    "spec texts": (0.15, lambda folder: fuzz_specs.SpecTexts()),
    "spec data": (0.20, lambda folder: fuzz_specs.SpecData()),
    "Katib manifests": (0.10, lambda folder: fuzz_specs.Manifests()),
    "Workflows": (0.05, lambda folder: fuzz_specs.Workflows()),
    "topologies": (0.15, lambda folder: fuzz_specs.Topologies()),
    "metric lines": (0.12, lambda folder: fuzz_reports.Lines()),
    "report files": (0.10, lambda folder: fuzz_reports.Reports()),
    "suggestions": (0.08, lambda folder: fuzz_reports.Suggestions()),
    "settled histories": (0.02, lambda folder: fuzz_reports.Settleds()),
    "stores": (0.02, fuzz_reports.Stores),
    "steps": (0.01, fuzz_programs.Steps),
}
"""Kind of input -> its part of all inputs, and what reads it."""

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_read_or_refused_in_words(kind: str, tmp_path: Path, capsys: Any) -> None:
    share, make = KINDS[kind]
    with contextlib.redirect_stdout(io.StringIO()):  # what the command line shows
        tally = fuzz(kind, make(tmp_path), range(max(1, round(INPUTS * share))), SEED)
    with capsys.disabled():
        if "KATIB_FLOW_FUZZ" in os.environ:
            print(f"\n{kind}: {tally}")
    assert not tally.faults, str(tally)
    assert tally.taken or tally.refused
