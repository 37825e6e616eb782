"""What the simulator says where it cannot follow Argo."""

from katib_flow.errors import KatibFlowError


class Unsupported(KatibFlowError):
    """A construct that the simulator does not know; it never guesses what Argo would do with it.

    Attributes:
        where: path in the manifest, or the text it stands in.
        construct: what it is.
    """

    def __init__(self, where: str, construct: str) -> None:
        super().__init__(where, construct)
        self.where, self.construct = where, construct

    def __str__(self) -> str:
        return f"{self.where}: the simulator does not know {self.construct}"


class Rejected(KatibFlowError):
    """Argo refuses the manifest when it is submitted."""


class ExpressionError(KatibFlowError):
    """An expression that Argo's own evaluator ends with an error."""
