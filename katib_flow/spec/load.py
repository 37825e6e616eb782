"""A spec file -> Experiment, every mistake with its line."""

from collections.abc import Iterable
from pathlib import Path

from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import shown
from katib_flow.spec.rules import Rule
from katib_flow.spec.yaml12 import load_yaml


def parse_spec(text: str, source: str = "<text>", further: Iterable[Rule] = ()) -> Experiment:
    """The experiment that a YAML text describes.

    Args:
        further: rules that it must keep beside those of the spec.

    Raises:
        InvalidSpec: with every mistake found, each with the line in the text.
        KatibFlowError: the text is not YAML.
    """
    document = load_yaml(text, source)
    if not isinstance(document.data, dict):
        need = "a mapping with the keys of a spec: name, objective, parameters, trial ..."
        raise KatibFlowError(f"{source}:{document.line('')}: found {shown(document.data)!r}, need {need}")
    try:
        return Experiment.parse(document.data, source, further)
    except InvalidSpec as invalid:
        found = invalid.problems
    lines = [SpecError(each.where, each.found, each.need, document.line(each.where)) for each in found]
    raise InvalidSpec(source, lines)


def load_spec(path: str | Path, further: Iterable[Rule] = ()) -> Experiment:
    """The experiment in a file; errors as in ``parse_spec``, and where the file cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a path that no file can have
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise KatibFlowError(f"{path}: cannot be read: {reason}") from None
    return parse_spec(text, str(path), further)
