"""The errors that reach users: each says where it is, what was found, and what is needed instead."""

from collections.abc import Sequence


class KatibFlowError(Exception):
    """Base class of all errors that the command line shows as a message, without a traceback."""


def written_out(value: object) -> str:
    """The ``repr`` of a value, or a description of its type if Python cannot write it."""
    try:
        return repr(value)
    except RecursionError:
        return f"a {type(value).__name__} with endless nesting"
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__} with too many digits"


class SpecError(KatibFlowError, ValueError):
    """A mistake in a spec.

    Attributes:
        where: path of the field, as the user wrote it.
        found: its value.
        need: what is needed instead, as a noun phrase.
        line: its line, from 1; None if unknown.
    """

    def __init__(self, where: str, found: object, need: str, line: int | None = None) -> None:
        super().__init__(where, found, need, line)  # plain arguments, so that the error can be pickled
        self.where, self.found, self.need, self.line = where, found, need, line

    def __str__(self) -> str:
        return f"{self.where}: found {written_out(self.found)}, need {self.need}"


class InvalidSpec(KatibFlowError, ValueError):
    """A spec with mistakes; the message lists all of them, one per line.

    Attributes:
        source: name of the spec, such as the path of its file; may be empty.
        problems: the mistakes.
    """

    def __init__(self, source: str, problems: Sequence[SpecError]) -> None:
        super().__init__(source, tuple(problems))
        self.source, self.problems = source, tuple(problems)

    def __str__(self) -> str:
        return "\n".join(f"{self._prefix(problem)}{problem}" for problem in self.problems)

    def _prefix(self, problem: SpecError) -> str:
        if not self.source:
            return ""
        return f"{self.source}: " if problem.line is None else f"{self.source}:{problem.line}: "


class TrackingError(KatibFlowError):
    """The MLflow store is unreachable, or returned an error or an unexpected answer."""


class NoStore(TrackingError):
    """The MLflow store does not exist, and the operation does not create one."""


class TrackingUnavailable(TrackingError):
    """The MLflow store did not answer within the time allowed; it may answer later."""


class NotFound(KatibFlowError, LookupError):
    """A name that the user gave does not exist."""
