"""The template of a space, a topology with slots as plain data: its slots and edges, and how slots are filled."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from pydantic import ValidationError

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Value
from katib_flow.spec.model import Model
from katib_flow.spec.parameters import AnyParameter, Parameter
from katib_flow.spec.problems import spec_errors

ABSENT = object()
"""The value of an inactive slot."""


class _Slots(Model):
    slots: dict[str, AnyParameter]


def parameters_of(slots: Mapping[str, Any]) -> Mapping[str, Parameter]:
    """The parameters of slots, by name; ``{"among": [...]}`` is short for a categorical one.

    Raises:
        InvalidSpec: a slot is not a parameter; all mistakes are listed.
    """
    written = {name: _spelled(slot) for name, slot in slots.items()}
    try:
        return _Slots.model_validate({"slots": written}).slots
    except ValidationError as error:
        wrong = spec_errors(error, _Slots, {"slots": written})
        raise InvalidSpec("", [_as_written(problem, slots) for problem in wrong]) from None


def _spelled(slot: Any) -> Any:
    """A slot as the data of a parameter."""
    if isinstance(slot, Mapping) and "among" in slot:
        rest = {key: value for key, value in slot.items() if key != "among"}
        values = slot["among"]
        return {"type": "categorical", "values": list(values) if isinstance(values, list | tuple) else values, **rest}
    return slot


def _as_written(problem: SpecError, slots: Mapping[str, Any]) -> SpecError:
    """A mistake in the values of a slot, at the path of ``among`` if the user wrote that."""
    for name, slot in slots.items():
        values = f"slots.{name}.values"
        if isinstance(slot, Mapping) and "among" in slot and problem.where.startswith(values):
            where = f"slots.{name}.among{problem.where.removeprefix(values)}"
            return SpecError(where, problem.found, problem.need)
    return problem


def edges_in(template: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """All edges of a template, each with the name of its graph."""
    return [(name, edge) for name, graph in template.get("graphs", {}).items() for edge in graph.get("edges", ())]


def slot_paths(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The slots in a part of a template, each with its path."""
    if isinstance(value, Mapping):
        if is_slot(value):
            yield f"{path}.slot", str(value["slot"])
            return
        for key, inner in value.items():
            yield from slot_paths(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from slot_paths(inner, f"{path}[{position}]")


def slots_in(value: Any) -> list[str]:
    """The names of the slots in a part of the template, in order, each as often as it occurs."""
    return [name for _, name in slot_paths(value)]


def is_slot(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a part of the template stands for the value of a slot: ``{"slot": name}``."""
    return isinstance(value, Mapping) and set(value) == {"slot"}


def source_of(edge: Mapping[str, Any]) -> str | None:
    """The slot that says which vertex an edge reads; None if that is not a slot."""
    src = edge.get("src")
    return str(src["slot"]) if is_slot(src) else None


def ends_of(edge: Mapping[str, Any]) -> set[str]:
    """The vertices that an edge joins; it may have several sources."""
    return {edge["dst"], *listed(edge["src"])}


def listed(values: Any) -> Sequence[Any]:
    """Several values as they are, and a single one as a list."""
    return values if isinstance(values, list | tuple) else [values]


def filled_in(value: Any, decisions: Mapping[str, Value]) -> Any:
    """A part of the template with its slots filled; entries whose slot is inactive are left out."""
    if is_slot(value):
        return decisions.get(value["slot"], ABSENT)
    if isinstance(value, Mapping):
        filled = {key: filled_in(inner, decisions) for key, inner in value.items()}
        return {key: inner for key, inner in filled.items() if inner is not ABSENT}
    if isinstance(value, list | tuple):
        return [entry for entry in (filled_in(inner, decisions) for inner in value) if entry is not ABSENT]
    return value


def touched(graph: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The edges that exist and the vertices that they touch, so that nothing is left of a layer without edges."""
    ends = {graph.get("output", "y")}
    for edge in edges:
        ends |= ends_of(edge)
    vertices = {name: merge for name, merge in graph.get("vertices", {}).items() if name in ends}
    loose = {"loose": [name for name in graph["loose"] if name in vertices]} if graph.get("loose") else {}
    return {"vertices": vertices, "edges": list(edges), **loose}


def with_unread(
    graph: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """A supernet's graph without ``loose``, and edges that join its ends to the output unless a choice reads them."""
    joins: list[dict[str, Any]] = []
    for vertex in graph["loose"]:
        reading = [edge for edge in edges if vertex in listed(edge["src"])]
        by = [
            [one["params"][key] for key in ("group", "position", "names")] for one in reading if one["op"] == "optional"
        ]
        if len(by) == len(reading):  # otherwise, an edge that is always there reads it
            join = {"id": f"{vertex}=", "src": vertex, "dst": graph.get("output", "y")}
            joins.append({**join, "op": "unread", "params": {"by": by}} if by else {**join, "op": "identity"})
    return {key: value for key, value in graph.items() if key != "loose"}, joins
