"""Errors a user can cause or must see: each says where, what was found and what would be right."""

from collections.abc import Sequence


class KatibFlowError(Exception):
    """Base of every error that reaches a user as one clear message and never as a traceback."""


def written_out(value: object) -> str:
    """A value as Python writes it; one that cannot be written, by its kind."""
    try:
        return repr(value)
    except RecursionError:
        return f"a {type(value).__name__} without end of nesting"
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__} of too many digits"


class SpecError(KatibFlowError, ValueError):
    """A field of the spec breaks a rule; ``where`` is its path as the user wrote it, ``line`` its line where known."""

    def __init__(self, where: str, found: object, need: str, line: int | None = None) -> None:
        super().__init__(where, found, need, line)  # plain args, so it survives pickling to a worker and back
        self.where, self.found, self.need, self.line = where, found, need, line

    def __str__(self) -> str:
        return f"{self.where}: found {written_out(self.found)}, need {self.need}"


class InvalidSpec(KatibFlowError, ValueError):
    """A spec with one or more mistakes: a spec with three mistakes reports three."""

    def __init__(self, source: str, problems: Sequence[SpecError]) -> None:
        super().__init__(source, tuple(problems))
        self.source, self.problems = source, tuple(problems)

    def __str__(self) -> str:
        return "\n".join(f"{self._place(problem)}{problem}" for problem in self.problems)

    def _place(self, problem: SpecError) -> str:
        if not self.source:
            return ""
        return f"{self.source}: " if problem.line is None else f"{self.source}:{problem.line}: "


class TrackingError(KatibFlowError):
    """The MLflow store cannot be reached, or answers what it should not."""


class NoStore(TrackingError):
    """There is no MLflow store yet, and what was asked for makes none."""


class TrackingUnavailable(TrackingError):
    """The MLflow store did not answer, for as long as it was tried; it may answer later."""


class NotFound(KatibFlowError, LookupError):
    """A name that the user gave is not in the store."""
