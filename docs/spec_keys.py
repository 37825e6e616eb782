"""A Sphinx directive, ``spec-keys``: all keys of a spec, from the JSON schema of its models and their docstrings."""

from collections.abc import Iterator, Mapping
from typing import Any

from docutils.nodes import Node
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from katib_flow.spec import Experiment

Schema = Mapping[str, Any]
LARGEST = 2**53  # the bound of all whole numbers, because JSON holds no larger ones exactly


class SpecKeys(SphinxDirective):
    """A table for the top level of a spec, and one for each section."""

    def run(self) -> list[Node]:
        """The tables, parsed from Markdown."""
        return self.parse_text_to_nodes(
            StringList(list(lines()), source="katib_flow.spec"), allow_section_headings=True
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("spec-keys", SpecKeys)
    return {"parallel_read_safe": True}


def lines() -> Iterator[str]:
    """The tables as lines of Markdown."""
    schema = Experiment.model_json_schema()
    definitions = schema["$defs"]
    yield from section("The top level", schema, definitions)
    for name, paths in sections(schema).items():
        title = ", ".join(f"`{path}`" for path in paths)
        if kind := definitions[name].get("properties", {}).get("type", {}).get("const"):
            title += f" of type `{kind}`"
        yield from section(title, definitions[name], definitions)


def sections(schema: Schema) -> dict[str, list[str]]:
    """The sections, in the order in which a spec names them, each with the paths at which it stands."""
    paths: dict[str, list[str]] = {}
    waiting = [("", schema)]
    for prefix, model in waiting:
        for key, value in model.get("properties", {}).items():
            for name, suffix in references(value):
                path = f"{prefix}{key}{suffix}"
                if name not in paths:
                    waiting.append((f"{path}.", schema["$defs"][name]))
                paths.setdefault(name, []).append(path)
    return paths


def references(value: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    """The models that a value may be, each with what stands after its key: ``.NAME`` in a mapping, ``[]`` in a list."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], suffix
    for option in [*value.get("anyOf", ()), *value.get("oneOf", ())]:
        yield from references(option, suffix)
    if isinstance(value.get("additionalProperties"), dict):
        yield from references(value["additionalProperties"], f"{suffix}.NAME")
    if "items" in value:
        yield from references(value["items"], f"{suffix}[]")


def section(title: str, model: Schema, definitions: Schema) -> Iterator[str]:
    """A heading, what the model is, and a row for each key."""
    about = model.get("description", "")
    yield from (f"## {title}", "", about.partition("\n\n")[0].replace("``", "`").replace("\n", " "), "")
    meanings = attributes(about)
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for key, value in model.get("properties", {}).items():
        default = "required" if key in model.get("required", ()) else shown(value.get("default"))
        meaning = (value.get("description") or meanings.get(key, "")).rstrip(".").replace("``", "`")
        cells = (f"`{key}`", joined(kinds(value, definitions)), default, meaning)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
    yield ""


def attributes(docstring: str) -> dict[str, str]:
    """The descriptions in the part ``Attributes:`` of a docstring, by name."""
    meanings: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        text = line.strip()
        if line.startswith("        ") and name:
            meanings[name] += f" {text}"
        elif ": " in text:
            names, _, about = text.partition(": ")
            for name in names.split(", "):
                meanings[name] = about
        else:
            break
    return meanings


def kinds(value: Schema, definitions: Schema) -> Iterator[str]:
    """The kinds of value that a schema accepts, in words; null aside, which a default tells."""
    options = [*value.get("anyOf", ()), *value.get("oneOf", ())]
    if options:
        for option in options:
            yield from kinds(option, definitions)
    elif "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if "enum" in definitions[name]:
            yield from kinds(definitions[name], definitions)
        else:
            yield "a section"
    elif "const" in value or "enum" in value:
        yield ", ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
    elif value.get("type") == "array":
        yield f"a list of {joined(kinds(value.get('items', {}), definitions)) or 'any values'}"
    elif value.get("type") == "object":
        values = value.get("additionalProperties")
        inner = joined(kinds(values, definitions)) if isinstance(values, dict) else ""
        yield f"a mapping from names to {inner or 'any values'}"
    elif value.get("type") in NAMES:
        yield NAMES[value["type"]] + bounds(value)


SHORT = {("true or false", "whole number", "number", "text"): "a value", ("number above 0", "text"): "a duration"}
"""What stands for some kinds together."""


def joined(parts: Iterator[str]) -> str:
    """Kinds of value with "or" between them, some of them by one name."""
    listed = list(dict.fromkeys(parts))
    for kinds_together, name in SHORT.items():
        if set(kinds_together) <= set(listed):
            listed = [name, *(part for part in listed if part not in kinds_together)]
    return " or ".join(listed)


NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def bounds(value: Schema) -> str:
    """The range of a number, as " from 1 to 10"."""
    low, high = value.get("minimum"), value.get("maximum", LARGEST)
    parts = [f"from {low:,}"] if low is not None and low > -LARGEST else []
    parts += [f"above {value['exclusiveMinimum']:g}"] if "exclusiveMinimum" in value else []
    parts += [f"to {high:,}"] if high < LARGEST else []
    return "".join(f" {part}" for part in parts)


def shown(default: Any) -> str:
    """A default as YAML has it; nothing for null and for what is empty."""
    if default is None or default == "" or default == [] or default == {}:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if isinstance(default, str | int | float) else "see its section"
