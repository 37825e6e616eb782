"""The placeholder for the trial of an experiment that a program drives with ``kf.ask_and_tell``."""

from typing import Any

from katib_flow.errors import KatibFlowError

HOW = "kf.ask_and_tell(NAME) continues it"


def by_the_asking_program(**parameters: Any) -> None:
    """Refuse to run: only the program that called ``ask`` can evaluate such a trial."""
    raise KatibFlowError(f"the trials of this experiment are evaluated by the program that calls ask(); {HOW}")


BY_HAND = f"{__name__}:{by_the_asking_program.__name__}"
