"""A spec file -> Experiment, every mistake with its line. Native specs and Katib's manifests are told apart here."""

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spec.config_maps import ConfigMaps, first_of, in_text, nobody
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import shown
from katib_flow.spec.rules import Rule
from katib_flow.spec.yaml12 import Document, load_yaml


@dataclass(frozen=True)
class Note:
    """What a person should know of a part of a spec: what was changed of a Katib manifest, or has no counterpart here.

    Attributes:
        where: a path in the native spec.
    """

    where: str
    text: str


@dataclass(frozen=True)
class Parsed:
    """What a text says.

    Attributes:
        data: the native spec, plain data.
        notes: about a manifest of Katib's; a native spec needs none.
        manifest: as it was written, where it is one.
    """

    experiment: Experiment
    data: Mapping[str, Any]
    notes: tuple[Note, ...] = ()
    katib: bool = False
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])


def parse(text: str, source: str = "<text>", further: Iterable[Rule] = (), config_maps: ConfigMaps = nobody) -> Parsed:
    """The experiment that a YAML text describes, native or a manifest of Katib's.

    Args:
        further: rules that it must keep beside those of the spec.
        config_maps: who is asked for the ConfigMap that holds the template of a manifest's trials, where one does and
            the text has it not itself.

    Raises:
        InvalidSpec: with every mistake found, each with the line in the text, in the order of the lines.
        KatibFlowError: the text is not YAML.
    """
    document = load_yaml(text, source, twice=True)
    data = document.data
    twice = [
        SpecError(key.path, key.key, f"each key once; it stands on line {key.first} already", key.line)
        for key in document.twice
    ]
    if not isinstance(data, dict):
        need = "a mapping with the keys of a spec: name, objective, parameters, trial ..."
        raise KatibFlowError(f"{source}:{document.line('')}: found {shown(data)!r}, need {need}")

    def asked(namespace: str, name: str) -> Mapping[str, Any]:
        own = [in_text(text, "this file")] if "ConfigMap" in text else []
        return first_of(*own, config_maps)(namespace, name)

    try:
        parsed = _parsed(document, source, further, asked)
    except InvalidSpec as invalid:
        problems = [SpecError(one.where, one.found, one.need, document.line(one.where)) for one in invalid.problems]
    else:
        if not twice:
            return parsed
        problems = []
    raise InvalidSpec(source, sorted([*twice, *problems], key=lambda problem: problem.line or 0))


def _parsed(document: Document, source: str, further: Iterable[Rule], config_maps: ConfigMaps) -> Parsed:
    """What the data of a document say.

    Raises:
        InvalidSpec: with every mistake found, by its path.
    """
    data = document.data
    if "apiVersion" in data:  # a Kubernetes object; no native spec has this key
        from katib_flow.spec.katib import convert

        return convert(data, source, further, document.line, config_maps)
    return Parsed(Experiment.parse(data, source, further), data)


def parse_spec(text: str, source: str = "<text>", further: Iterable[Rule] = ()) -> Experiment:
    """The experiment alone; see ``parse``."""
    return parse(text, source, further).experiment


def read_spec(path: str | Path, further: Iterable[Rule] = (), config_maps: ConfigMaps = nobody) -> Parsed:
    """What a file says; errors as in ``parse``, and where the file cannot be read."""
    parsed = parse(read_text(path), str(path), further, config_maps)
    return replace(parsed, experiment=parsed.experiment.based_on(Path(path).absolute().parent))


def read_text(path: str | Path) -> str:
    """The text of a YAML file.

    Raises:
        KatibFlowError: it cannot be read.
    """
    try:
        return _decoded(Path(path).read_bytes())
    except (OSError, ValueError) as error:  # not UTF-8, or a path that no file can have
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise KatibFlowError(f"{path}: cannot be read: {reason}") from None


def _decoded(content: bytes) -> str:
    """The text of a file: UTF-8, unless its first two bytes say UTF-16, as PowerShell's ``>`` writes it.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8")


def load_spec(path: str | Path, further: Iterable[Rule] = ()) -> Experiment:
    """The experiment in a file, alone; see ``read_spec``."""
    return read_spec(path, further).experiment
