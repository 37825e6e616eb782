"""A spec file, native or a Katib manifest -> Experiment, with the line of every mistake."""

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
    """A remark for people on a part of a spec, such as what was changed in a Katib manifest or has no counterpart here.

    Attributes:
        where: a path in the native spec.
    """

    where: str
    text: str


@dataclass(frozen=True)
class Parsed:
    """A parsed spec.

    Attributes:
        data: the native spec as plain data.
        notes: remarks on a Katib manifest; empty for a native spec.
        katib: True if the text is a Katib manifest.
        manifest: the Katib manifest as written; empty for a native spec.
    """

    experiment: Experiment
    data: Mapping[str, Any]
    notes: tuple[Note, ...] = ()
    katib: bool = False
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])


def parse(text: str, source: str = "<text>", further: Iterable[Rule] = (), config_maps: ConfigMaps = nobody) -> Parsed:
    """Parse a YAML text: a native spec or a Katib manifest.

    Args:
        source: the name of the text in messages, such as its path.
        further: rules to check in addition to those of the spec.
        config_maps: looks up the ConfigMap with the trial template, if a manifest names one that the text itself does
            not contain.

    Raises:
        InvalidSpec: with every mistake, in the order of their lines in the text.
        KatibFlowError: the text is not YAML.
    """
    document = load_yaml(text, source, twice=True)
    data = document.data
    twice = [
        SpecError(key.path, key.key, f"each key only once; it is already on line {key.first}", key.line)
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
    """Parse the data of a document.

    Raises:
        InvalidSpec: with every mistake, by its path.
    """
    data = document.data
    if "apiVersion" in data:  # a Kubernetes object; no native spec has this key
        from katib_flow.spec.katib import convert

        return convert(data, source, further, document.line, config_maps)
    return Parsed(Experiment.parse(data, source, further), data)


def parse_spec(text: str, source: str = "<text>", further: Iterable[Rule] = ()) -> Experiment:
    """Only the experiment that a YAML text describes; see ``parse``."""
    return parse(text, source, further).experiment


def read_spec(path: str | Path, further: Iterable[Rule] = (), config_maps: ConfigMaps = nobody) -> Parsed:
    """Parse a file; errors as in ``parse`` and ``read_text``."""
    parsed = parse(read_text(path), str(path), further, config_maps)
    return replace(parsed, experiment=parsed.experiment.based_on(Path(path).absolute().parent))


def read_text(path: str | Path) -> str:
    """The text of a YAML file in UTF-8 or UTF-16.

    Raises:
        KatibFlowError: the file cannot be read or decoded.
    """
    try:
        return _decoded(Path(path).read_bytes())
    except (OSError, ValueError) as error:  # not UTF-8, or a path that no file can have
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise KatibFlowError(f"{path}: cannot be read: {reason}") from None


def _decoded(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 if it begins with that byte order mark, as files of PowerShell's ``>`` do.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8")


def load_spec(path: str | Path, further: Iterable[Rule] = ()) -> Experiment:
    """Only the experiment in a file; see ``read_spec``."""
    return read_spec(path, further).experiment
