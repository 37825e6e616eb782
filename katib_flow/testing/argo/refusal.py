"""The errors of the simulator: constructs that it does not implement, and those that Argo refuses."""

from katib_flow.errors import KatibFlowError


class Unsupported(KatibFlowError):
    """A construct that the simulator does not implement; it never guesses what Argo would do with it.

    Attributes:
        where: the path in the manifest, or the text that contains the construct.
        construct: a description of it.
    """

    def __init__(self, where: str, construct: str) -> None:
        super().__init__(where, construct)
        self.where, self.construct = where, construct

    def __str__(self) -> str:
        return f"{self.where}: the simulator does not support {self.construct}"


class Rejected(KatibFlowError):
    """Argo refuses the manifest when it is submitted."""


class ExpressionError(KatibFlowError):
    """An expression for which Argo's own evaluator reports an error."""
