"""A space of architectures: a topology with slots, and what may fill each.

A slot is a parameter of the spec (categorical, int, conditional), so every algorithm that searches parameters searches
architectures too, and both together. In a template ``{"slot": "e01"}`` stands for the slot's value, anywhere.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Value
from katib_flow.models.optional import check_optional
from katib_flow.models.topology import Topology
from katib_flow.spec.parameters import AnyParameter, Parameter
from katib_flow.spec.problems import NOTHING, did_you_mean, spec_errors
from katib_flow.spec.space import Assignment, SearchSpace

_SLOTS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, AnyParameter])
_ABSENT = object()
_PROBES = 8  # architectures looked at before a search begins: a template's mistakes show in the first


class Space:
    """Architectures, by their decisions: the value of each active slot.

    Args:
        template: a topology as plain data with ``slots``: name -> a parameter (``{"among": [...]}`` is short for a
            categorical one). An edge may have ``when: {slot: [values]}``; it is there only then. A parameter of an
            operation is left out, and so is an edge, where its slot is inactive. ``operations`` names operations with
            parameters, ``{"conv8": {"op": "conv", "params": {"c": 8}}}``, for slots to choose from.

    Raises:
        InvalidSpec: with the mistakes of the template.
    """

    def __init__(self, template: Mapping[str, Any]) -> None:
        data = dict(template)
        slots = data.pop("slots", {})
        self.operations: Mapping[str, Mapping[str, Any]] = data.pop("operations", {})
        self.template = data
        self.parameters = _parameters(slots)
        try:
            self.decisions = SearchSpace(self.parameters)
        except ValueError as error:
            raise InvalidSpec(
                "", [SpecError("slots", list(slots), f"conditions on slots that are there ({error})")]
            ) from error
        self._identities: dict[Hashable, str | None] = {}  # a hash takes milliseconds, and is asked for often
        self._check_slots()
        rng = np.random.default_rng(0)
        for _ in range(_PROBES if self.parameters else 1):
            self.topology(self.decisions.draw(rng))

    def topology(self, decisions: Assignment) -> Topology:
        """The architecture of some decisions; what else the assignment holds is left aside.

        Raises:
            InvalidSpec: these decisions give no sound network.
        """
        chosen = {name: value for name, value in decisions.items() if name in self.parameters}
        return Topology.parse(self._filled(chosen, mixed=False))

    def supernet(self, fixed: Assignment | None = None) -> Topology:
        """All architectures at once: an edge whose operation is a slot holds all its choices, mixed.

        The group of its architecture weights is the slot's name, so edges that share a slot share these. A slot that
        only says whether edges are there, a skip, is a group of two choices, ``out`` and ``in``.

        Args:
            fixed: values of the slots that are neither.

        Raises:
            InvalidSpec: such a slot is not given, or an edge that may be out stands where its zeros would be felt.
        """
        edges = [edge for _, edge in _edges_in(self.template)]
        operations = {name for edge in edges for name in _slots_in(edge.get("op"))}
        conditions = {name for edge in edges for name in edge.get("when", {})}
        mixable = (operations - conditions) | self._skips
        for name in self.parameters:
            if name not in mixable and name not in (fixed or {}):
                need = "a value: it is neither the operation of an edge nor whether one is there, so it cannot be mixed"
                raise InvalidSpec("", [SpecError(f"slots.{name}", NOTHING, need)])
        topology = Topology.parse(self._filled(dict(fixed or {}), mixed=True))
        try:
            check_optional(topology.flat)
        except SpecError as problem:
            raise InvalidSpec("", [problem]) from None
        return topology

    @cached_property
    def _skips(self) -> set[str]:
        """The slots of two values that say whether some edges are there, and nothing else."""
        edges = [edge for _, edge in _edges_in(self.template)]
        used = set(_slots_in([{**edge, "when": {}} for edge in edges]))
        used |= {parent for parameter in self.parameters.values() for parent in parameter.when}
        for when, op in ((edge.get("when", {}), edge.get("op")) for edge in edges):
            plain = isinstance(op, str) and not op.startswith("@")
            if not plain or len(when) != 1 or any(len(_listed(values)) != 1 for values in when.values()):
                used |= when.keys()
        conditions = {slot for edge in edges for slot in edge.get("when", {})}
        return {each for each in conditions - used if self.choices(each) == 2 and not self.parameters[each].when}

    def draw(self, rng: np.random.Generator) -> dict[str, Value]:
        """Decisions, each slot drawn evenly."""
        return self.decisions.draw(rng)

    def mutate(self, decisions: Assignment, rng: np.random.Generator) -> dict[str, Value]:
        """Decisions that differ in one slot; see ``SearchSpace.mutate``."""
        return self.decisions.mutate(decisions, rng)

    def identity(self, assignment: Assignment) -> str | None:
        """The canonical hash of the architecture of some decisions; None where they give no sound network."""
        decisions = {name: value for name, value in assignment.items() if name in self.parameters}
        key = self.decisions.key(decisions)
        if key not in self._identities:
            try:
                self._identities[key] = self.topology(decisions).hash
            except InvalidSpec:
                self._identities[key] = None
        return self._identities[key]

    def completed(self, decisions: Assignment, rng: np.random.Generator) -> dict[str, Value]:
        """Decisions without slots that are inactive, and with those that are missing drawn."""
        made: dict[str, Value] = {}
        for name, parameter in self.decisions.parameters.items():
            if self.decisions.is_active(name, made):
                unit = float(rng.random()) if name not in decisions else 0.0
                made[name] = decisions[name] if name in decisions else parameter.at(unit)
        return made

    def choices(self, slot: str) -> int:
        """How many values a slot may have."""
        return self.parameters[slot].size or 0

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The slots in the order of tokens: a conditional one after its parents."""
        return tuple(self.decisions.parameters)

    def encode(self, decisions: Assignment) -> tuple[int, ...]:
        """Decisions as tokens: the position of each slot's value, -1 where the slot is inactive."""
        return tuple(
            self.parameters[name].position(decisions[name]) if name in decisions else -1 for name in self.slots
        )

    def decode(self, tokens: Sequence[int]) -> dict[str, Value]:
        """The decisions of tokens; the token of an inactive slot is not looked at.

        Raises:
            ValueError: too many or too few tokens, or one that is no position of its slot's values.
        """
        made: dict[str, Value] = {}
        for name, token in zip(self.slots, tokens, strict=True):
            if self.decisions.is_active(name, made):
                if not 0 <= token < self.choices(name):
                    raise ValueError(f"slot {name}: found token {token}, need one from 0 to {self.choices(name) - 1}")
                made[name] = self.parameters[name].nth(int(token))
        return made

    @property
    def initial(self) -> Topology:
        """The first architecture, from which systems that modify one start: the first value of every slot."""
        return self.topology(self.decode([0] * len(self.slots)))

    # the template

    def _check_slots(self) -> None:
        used = set(_slots_in(self.template))
        used |= {name for _, edge in _edges_in(self.template) for name in edge.get("when", {})}
        unknown = sorted(used - self.parameters.keys())
        if unknown:
            need = f"a slot: {', '.join(self.parameters)}{did_you_mean(unknown[0], self.parameters)}"
            raise InvalidSpec("", [SpecError("graphs", {"slot": unknown[0]}, need)])
        for name, parameter in self.parameters.items():
            if parameter.size is None:
                raise InvalidSpec("", [SpecError(f"slots.{name}", "a float without a step", "countable values")])

    def _filled(self, decisions: Mapping[str, Value], *, mixed: bool) -> dict[str, Any]:
        data = {name: value for name, value in self.template.items() if name != "graphs"}
        graphs: dict[str, Any] = {}
        for name, graph in dict(self.template.get("graphs", {})).items():
            edges = [self._edge(edge, decisions, mixed=mixed) for edge in graph.get("edges", ())]
            graphs[name] = {**graph, **_touched(graph, [edge for edge in edges if edge is not None])}
        return {**data, "graphs": graphs}

    def _edge(self, edge: Mapping[str, Any], decisions: Mapping[str, Value], *, mixed: bool) -> dict[str, Any] | None:
        if mixed and (skips := self._skips.intersection(edge.get("when", {})) - decisions.keys()):
            return self._skip(edge, decisions, *skips)
        for slot, values in edge.get("when", {}).items():
            if decisions.get(slot, _ABSENT) not in _listed(values):
                return None
        made = {key: _put(value, decisions) for key, value in edge.items() if key not in ("when", "op")}
        if made.get("src") is _ABSENT or made.get("dst") is _ABSENT:
            return None
        op = edge.get("op")
        if not isinstance(op, Mapping):
            return (
                {**made, "op": op} if op not in self.operations else {**made, **self._named(op, made.get("params", {}))}
            )
        if mixed and op.get("slot") not in decisions:
            slot = str(op["slot"])
            if graphs := [value for value in self.parameters[slot].values() if str(value).startswith("@")]:
                raise InvalidSpec("", [SpecError(f"slots.{slot}", graphs[0], "operations: graphs cannot be mixed")])
            choices = [self._named(value, made.get("params", {})) for value in self.parameters[slot].values()]
            return {**made, "op": "mixed", "params": {"among": choices, "group": slot}}
        op = _put(op, decisions)
        return None if op is _ABSENT else {**made, **self._named(op, made.get("params", {}))}

    def _skip(self, edge: Mapping[str, Any], decisions: Mapping[str, Value], slot: str) -> dict[str, Any] | None:
        """An edge of a supernet that is there or not, as a slot says."""
        made = self._edge({**edge, "when": {}}, decisions, mixed=False)
        if made is None:
            return None
        (wanted,) = _listed(edge["when"][slot])
        of = {"op": made.pop("op"), "params": made.pop("params", {})}
        position = self.parameters[slot].position(wanted)
        return {**made, "op": "optional", "params": {"of": of, "group": slot, "position": position}}

    def _named(self, op: Any, params: Mapping[str, Any]) -> dict[str, Any]:
        """An operation of the template, or of the library, with the parameters of its edge that it takes."""
        from katib_flow.models.operations import operations

        own = self.operations.get(op)
        name = str(op if own is None else own.get("op", op))
        known = operations.find(name)
        taken = {key: each for key, each in params.items() if known is None or key in known.parameters}
        given = {**taken, **(own or {}).get("params", {})}
        return {"op": name, "params": given}


def _touched(graph: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Edges that are there, and the vertices they touch: of a layer that is not there, none is left."""
    ends = {graph.get("output", "y")}
    for edge in edges:
        sources = edge.get("src", ())
        ends |= {edge.get("dst"), *([sources] if isinstance(sources, str) else sources)}
    vertices = {name: merge for name, merge in graph.get("vertices", {}).items() if name in ends}
    return {"vertices": vertices, "edges": list(edges)}


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else [values]


def _parameters(slots: Mapping[str, Any]) -> dict[str, Parameter]:
    written = {name: _spelled(slot) for name, slot in slots.items()}
    try:
        return _SLOTS.validate_python(written)
    except ValidationError as error:
        raise InvalidSpec("", spec_errors(error, Topology, written, at=("slots",))) from None


def _spelled(slot: Any) -> Any:
    if isinstance(slot, Mapping) and "among" in slot:
        rest = {key: value for key, value in slot.items() if key != "among"}
        return {"type": "categorical", "values": list(slot["among"]), **rest}
    return slot


def _put(value: Any, decisions: Mapping[str, Value]) -> Any:
    """A part of the template with its slots filled; what hangs on an inactive slot is left out."""
    if isinstance(value, Mapping):
        if set(value) == {"slot"}:
            return decisions.get(value["slot"], _ABSENT)
        put = {key: _put(inner, decisions) for key, inner in value.items()}
        return {key: inner for key, inner in put.items() if inner is not _ABSENT}
    if isinstance(value, list | tuple):
        return [each for each in (_put(inner, decisions) for inner in value) if each is not _ABSENT]
    return value


def _slots_in(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if set(value) == {"slot"}:
            return [str(value["slot"])]
        return [name for inner in value.values() for name in _slots_in(inner)]
    if isinstance(value, list | tuple):
        return [name for inner in value for name in _slots_in(inner)]
    return []


def _edges_in(template: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, edge) for name, graph in template.get("graphs", {}).items() for edge in graph.get("edges", ())]
