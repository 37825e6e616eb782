"""YAML text -> plain data with the line of each part, and back.

The scalars are those of YAML 1.2's core schema, so that ``1e-3`` is a number and ``on`` is text. Only plain data is
ever built, repeated keys are refused, and the expansion of aliases is bounded.
"""

import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from katib_flow.errors import KatibFlowError

MAX_VALUES = 200_000  # with aliases, a short file can describe a huge tree
MAX_DEPTH = 100
MAX_BITS = 1024  # of an integer: a larger one exceeds the range of a float, and Python's limit for int to str
_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
)


class _Loader(yaml.SafeLoader):
    """Builds the types of the core schema, and nothing else.

    Attributes:
        octal: read 0755 as 493, as Kubernetes does; in the core schema it is 755, so it is an error otherwise.
        twice: keys that occur again in a mapping, each with the line of its first occurrence; None makes them errors.
    """

    octal = False
    twice: "list[tuple[yaml.Node, int]] | None" = None

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        tag and _TAG + tag: yaml.SafeLoader.yaml_constructors[tag and _TAG + tag]
        for tag in ("bool", "null", "float", "seq", None)
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            TypeError,
        ) as error:  # a tag that does not fit, or a million digits
            value = str(node.value)[:40] if isinstance(node, yaml.ScalarNode) else "a collection"
            text = f"{value!r} is not of the type {node.tag.removeprefix(_TAG)!r}"
            raise yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark) from error


class _Dumper(yaml.SafeDumper):
    """Quotes text that any version of YAML would read as another type."""


for _name, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))  # pyright: ignore[reportArgumentType]


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if re.fullmatch(r"[-+]?0[0-7]+", text) and (octal := int(text, 8)) != int(text):
        if loader.octal:
            return octal
        need = f"write 0o{text.lstrip('+-').lstrip('0')} for {abs(octal)}, drop the leading 0, or quote it"
        text = f"{text} is {octal} in YAML 1.1 and {int(text)} in YAML 1.2; {need}"
        raise yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
    value = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if value.bit_length() > MAX_BITS:
        text = f"{text[:20]}... is beyond the range of a 64-bit float (1.8e308)"
        raise yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
    return value


def _construct_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """Text, with surrogate pairs that JSON has escaped joined into characters; a lone surrogate is an error."""
    return str(loader.construct_scalar(node)).encode("utf-16", "surrogatepass").decode("utf-16")


def _construct_mapping(loader: _Loader, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise TypeError(node.tag)
    data: dict[str, Any] = {}
    lines: dict[Hashable, int] = {}
    for key_node, value_node in _merged(node):
        key, mark = loader.construct_object(key_node, deep=True), key_node.start_mark
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"a key must be text; quote {key!r}", problem_mark=mark)
        if key in data:
            if loader.twice is None:
                text = f"duplicate key {key!r}, first on line {lines[key]}"
                raise yaml.MarkedYAMLError(problem=text, problem_mark=mark)
            loader.twice.append((key_node, lines[key]))
            continue
        lines[key] = mark.line + 1
        data[key] = loader.construct_object(value_node, deep=True)
    return data


def _merged(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """The pairs of a mapping and those that ``<<`` merges into it; own keys, then earlier merges, take precedence."""
    own = [pair for pair in node.value if not _merges(pair[0])]
    names = {str(key.value) for key, _ in own}
    for key, value in node.value:
        if not _merges(key):
            continue
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(source, yaml.MappingNode):
                text = "'<<' needs a mapping or a list of mappings to merge; quote it if it is a key"
                raise yaml.MarkedYAMLError(problem=text, problem_mark=key.start_mark)
            own += (fresh := [pair for pair in _merged(source) if str(pair[0].value) not in names])
            names |= {str(key.value) for key, _ in fresh}
    return own


def _merges(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.style is None


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    escaped = re.search("[\x85\u2028\u2029\ufeff]", text)  # line breaks that PyYAML would fold into spaces
    return dumper.represent_scalar(_TAG + "str", text, style='"' if escaped else None)


_Dumper.add_representer(str, _represent_text)
_Loader.add_constructor(_TAG + "int", _construct_int)
_Loader.add_constructor(_TAG + "str", _construct_text)
_Loader.add_constructor(_TAG + "map", _construct_mapping)


@dataclass(frozen=True)
class Twice:
    """A key that occurs again in a mapping: its path, its line, and the line of its first occurrence."""

    path: str
    key: str
    line: int
    first: int


@dataclass(frozen=True)
class Document:
    """Plain data, and the position of each part in the text.

    Attributes:
        twice: keys that occur again in a mapping; the data has the value of the first.
    """

    data: Any
    root: yaml.Node
    twice: "tuple[Twice, ...]" = ()

    def line(self, path: str) -> int:
        """Line, from 1, of a path such as ``trial.command[2]``, or of the deepest part of it that exists."""
        node, mark = self.root, self.root.start_mark
        while step := _step(node, path):
            node, mark, path = step
        return mark.line + 1


def _step(node: yaml.Node, path: str) -> tuple[yaml.Node, yaml.Mark, str] | None:
    """The child of a node that a path begins with, its mark, and the rest of the path."""
    if isinstance(node, yaml.MappingNode):  # a key may contain dots itself
        fits = [(key, value) for key, value in node.value if _begins(path, str(key.value))]
        if fits:
            key, value = max(fits, key=lambda pair: len(pair[0].value))
            return value, key.start_mark, path[len(key.value) :].removeprefix(".")
    elif isinstance(node, yaml.SequenceNode) and (match := re.match(r"\[(\d+)\]\.?", path)):
        item = node.value[int(match[1])]
        return item, item.start_mark, path[match.end() :]
    return None


def _begins(path: str, key: str) -> bool:
    return path.startswith(key) and path[len(key) : len(key) + 1] in ("", ".", "[")


def load_yaml(text: str, source: str = "<text>", *, twice: bool = False) -> Document:
    """The one document in a text that is not empty; of several, the one that is a Katib experiment.

    The items of a List, as ``kubectl get -o yaml`` prints it, are documents like any other.

    Args:
        source: the name of the text in messages, such as its path.
        twice: collect duplicate keys in ``Document.twice`` instead of raising an error.

    Raises:
        KatibFlowError: the text is not YAML (with the line), too large, or not one document.
    """
    (document,) = _loaded(text, source, lambda nodes: [_the_one(nodes, source)], twice=twice)
    return document


def load_kind(text: str, source: str, kind: str) -> list[Any]:
    """The data of each Kubernetes object of a kind in a text, including the items of Lists.

    Raises:
        KatibFlowError: the text is not YAML (with the line), or too large.
    """
    chosen = _loaded(text, source, lambda nodes: [node for node in nodes if _key(node, "kind") == kind])
    return [document.data for document in chosen]


def _loaded(
    text: str, source: str, choose: Callable[[list[yaml.Node]], list[yaml.Node]], *, twice: bool = False
) -> list[Document]:
    """The documents in a text that ``choose`` selects."""
    try:
        loader = _Loader(text)
        loader.twice = [] if twice else None
        return [_constructed(loader, node, source) for node in choose(_nodes(loader))]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise KatibFlowError(f"{source}:{line}: not readable as YAML: {character} is not allowed in text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        hint = "; use spaces" if "'\\t'" in str(error.problem) else ""
        raise KatibFlowError(f"{where}: not readable as YAML: {error.problem}{hint}") from None
    except RecursionError:
        raise KatibFlowError(f"{source}: found endless nesting, need at most {MAX_DEPTH} levels") from None


def _constructed(loader: _Loader, node: yaml.Node, source: str) -> Document:
    loader.octal = _key(node, "apiVersion") is not None
    values, depth = _measure(node, {})
    if values > MAX_VALUES:
        raise KatibFlowError(f"{source}: found more than {MAX_VALUES:,} values with aliases expanded, need fewer")
    if depth > MAX_DEPTH:
        raise KatibFlowError(f"{source}: found {depth} levels of nesting, need at most {MAX_DEPTH}")
    data = loader.construct_document(node)
    return Document(data, node, tuple(_twice(node, loader.twice)) if loader.twice else ())


def _twice(root: yaml.Node, known: list[tuple[yaml.Node, int]]) -> Iterator[Twice]:
    """The duplicate keys with their paths; a key in a node that several aliases share is listed once."""
    firsts = {id(node): line for node, line in known}
    waiting, seen = [(root, "")], set[int]()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = f"{path}.{key.value}" if path else str(key.value)
                if id(key) in firsts:
                    yield Twice(inner, str(key.value), key.start_mark.line + 1, firsts[id(key)])
                waiting.append((value, inner))
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, f"{path}[{position}]") for position, value in enumerate(node.value)]


def _nodes(loader: _Loader) -> list[yaml.Node]:
    """The documents that are not empty, or else the first."""
    nodes: list[yaml.Node] = []
    while loader.check_node():
        if (node := loader.get_node()) is not None:
            nodes.append(node)
    documents = [node for node in nodes if node.tag != _TAG + "null"] or nodes[:1]
    return [item for document in documents for item in _items(document)]


def _items(node: yaml.Node) -> list[yaml.Node]:
    """The Kubernetes objects in a document: itself, or the items of a List."""
    if isinstance(node, yaml.MappingNode) and _key(node, "kind") == "List" and _key(node, "apiVersion"):
        items = _value(node, "items")
        return items.value if isinstance(items, yaml.SequenceNode) else []
    return [node]


def _the_one(nodes: list[yaml.Node], source: str) -> yaml.Node:
    if not nodes:
        raise KatibFlowError(f"{source}: found nothing, need a spec")
    experiments = [node for node in nodes if _key(node, "kind") == "Experiment"] if len(nodes) > 1 else nodes
    if len(experiments) == 1:
        return experiments[0]
    line = nodes[1].start_mark.line + 1
    what = f"{len(experiments)} of them Katib experiments" if experiments else "none of them a Katib experiment"
    raise KatibFlowError(f"{source}:{line}: found {len(nodes)} documents, {what}; need one spec per file")


def _key(node: yaml.Node, name: str) -> object:
    """The value of a top-level key as text; None if the key is missing."""
    value = _value(node, name)
    return None if value is None else value.value


def _value(node: yaml.Node, name: str) -> yaml.Node | None:
    """The node of a top-level key; None if the key is missing."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Number of values in a tree with its aliases expanded, and its depth."""
    if id(node) not in known:
        known[id(node)] = (MAX_VALUES + 1, 0)  # for an alias inside its own anchor, which is an endless tree
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        measures = [_measure(part, known) for part in parts]
        values, depths = [values for values, _ in measures], [depth for _, depth in measures]
        known[id(node)] = (1 + sum(values), 1 + max(depths, default=0))
    return known[id(node)]


def dump_yaml(data: Any) -> str:
    """Plain data as YAML that reads back the same under YAML 1.1 and 1.2."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def write_yaml(root: yaml.Node) -> str:
    """A tree of nodes as YAML, in the style that each node has."""
    return str(yaml.serialize(root, Dumper=_Dumper, allow_unicode=True, width=120))
