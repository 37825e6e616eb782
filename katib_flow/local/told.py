"""What stands for the trial of an experiment that a program drives by asking and telling."""

from typing import Any

from katib_flow.errors import KatibFlowError

HOW = "kf.ask_and_tell(NAME) goes on"


def by_the_asking_program(**parameters: Any) -> None:
    """Nothing else than the program that asked can run such a trial."""
    raise KatibFlowError(f"this experiment is evaluated by the program that asks what to try; {HOW}")


BY_HAND = f"{__name__}:{by_the_asking_program.__name__}"
