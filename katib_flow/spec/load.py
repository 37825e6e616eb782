"""A spec file -> Experiment. YAML 1.2 scalars, so that ``1e-3`` is a number and ``on`` is text; safe, and bounded."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spec.experiment import Experiment

Check = Callable[[Experiment], Iterable[SpecError]]
MAX_NODES = 200_000  # aliases let a short file describe a huge tree


class _Loader(yaml.SafeLoader):
    """Safe loading with the core schema of YAML 1.2 and without duplicate keys."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(_pattern),
        [*_first.replace("\0", ""), *([""] if "\0" in _first else [])],
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, yaml.Mark] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"a key must be text, quote {key!r}", problem_mark=key_node.start_mark)
        if key in seen:
            text = f"the key {key!r} stands twice, first on line {seen[key].line + 1}"
            raise yaml.MarkedYAMLError(problem=text, problem_mark=key_node.start_mark)
        seen[key] = key_node.start_mark
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def load_yaml(text: str, source: str = "<text>") -> tuple[Any, dict[str, int]]:
    """Plain data, and the line (from 1) of each path in it.

    Raises:
        KatibFlowError: the text is not YAML, with the line.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise KatibFlowError(f"{source}: found nothing, need a spec")
        lines = _lines(node)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise KatibFlowError(f"{where}: not readable as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise KatibFlowError(f"{source}: not readable as YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def _lines(root: yaml.Node) -> dict[str, int]:
    lines: dict[str, int] = {}
    waiting: list[tuple[str, yaml.Node, int]] = [("", root, root.start_mark.line + 1)]
    while waiting:
        path, node, line = waiting.pop()
        lines[path] = line
        if len(lines) > MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES} values")
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = f"{path}.{key.value}" if path else str(key.value)
                waiting.append((inner, value, key.start_mark.line + 1))
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                waiting.append((f"{path}[{position}]", value, value.start_mark.line + 1))
    return lines


def parse_spec(text: str, source: str = "<text>", checks: Iterable[Check] = ()) -> Experiment:
    """The experiment that a YAML text describes.

    Raises:
        InvalidSpec: with every mistake found, each with the line in the text.
        KatibFlowError: the text is not YAML.
    """
    data, lines = load_yaml(text, source)
    if not isinstance(data, dict):
        raise KatibFlowError(f"{source}: found {type(data).__name__}, need a mapping with the keys of a spec")
    try:
        experiment = Experiment.parse(data)
    except InvalidSpec as invalid:
        raise InvalidSpec(source, [_with_line(error, lines) for error in invalid.problems]) from None
    if found := [error for check in checks for error in check(experiment)]:
        raise InvalidSpec(source, [_with_line(error, lines) for error in found])
    return experiment


def _with_line(error: SpecError, lines: dict[str, int]) -> SpecError:
    path = error.where
    while path not in lines and path:
        path = re.sub(r"(\.?[^.\[\]]*|\[\d+\])$", "", path, count=1)
    return SpecError(f"{lines.get(path, 1)}: {error.where}", error.found, error.need)


def load_spec(path: str | Path, checks: Iterable[Check] = ()) -> Experiment:
    """The experiment in a file; errors as in ``parse_spec``, and where the file cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise KatibFlowError(f"{path}: cannot be read: {reason}") from None
    return parse_spec(text, str(path), checks)
