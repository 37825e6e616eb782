"""A space of architectures: a topology with slots, and what may fill each.

A slot is a parameter of the spec (categorical, int, conditional), so every algorithm that searches parameters searches
architectures too, and both together. In a template ``{"slot": "e01"}`` stands for the slot's value, anywhere.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import ValidationError

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Value
from katib_flow.models.mistakes import Checker, condition_mistakes, shape_mistakes, slot_path
from katib_flow.models.optional import check_optional
from katib_flow.models.topology import Input, Topology
from katib_flow.spec.model import Model
from katib_flow.spec.parameters import AnyParameter, Parameter
from katib_flow.spec.problems import NOTHING, spec_errors
from katib_flow.spec.space import Assignment, SearchSpace

_ABSENT = object()
_CONTEXTS = 16  # architectures looked at before a value is said to fit in none
_VALUES = 64  # of a slot that are looked at; of more, evenly many


class _Slots(Model):
    slots: dict[str, AnyParameter]


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
        if wrong := shape_mistakes(template):
            raise InvalidSpec("", wrong)
        data = dict(template)
        slots = data.pop("slots", {})
        self.operations: Mapping[str, Mapping[str, Any]] = data.pop("operations", {})
        self.template = data
        self.input = Input.model_validate(data["input"])
        self.parameters = _parameters(slots)
        conditions = list(condition_mistakes(self.parameters))
        if any(parent not in self.parameters for each in self.parameters.values() for parent in each.when):
            raise InvalidSpec("", conditions)
        if any(each.size is None for each in self.parameters.values()):
            raise InvalidSpec("", conditions)
        try:
            self.decisions = SearchSpace(self.parameters)
        except ValueError as error:
            raise InvalidSpec(
                "", [SpecError("slots", list(slots), f"conditions on slots that are there ({error})")]
            ) from error
        self._identities: dict[Hashable, str | None] = {}  # a hash takes milliseconds, and is asked for often
        self._slots: Mapping[str, Any] = slots
        if wrong := [*conditions, *Checker(template, slots, self.parameters).mistakes()]:
            raise InvalidSpec("", wrong)
        self._check_values()

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
        mixable = (operations - conditions) | self._skips | self.sources
        merges = {name for graph in self.template["graphs"].values() for name in _slots_in(graph["vertices"])}
        for name in self.parameters:
            if name not in mixable and name not in (fixed or {}):
                what = (
                    "how a vertex merges, which has one shape only"
                    if name in merges
                    else ("neither the operation nor the source of an edge, nor whether one is there")
                )
                raise InvalidSpec(
                    "", [SpecError(f"slots.{name}", NOTHING, f"a value: it is {what}, so it cannot be mixed")]
                )
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
        used |= set(_slots_in([graph.get("vertices", {}) for graph in self.template["graphs"].values()]))
        used |= {parent for parameter in self.parameters.values() for parent in parameter.when}
        for when, op in ((edge.get("when", {}), edge.get("op")) for edge in edges):
            plain = isinstance(op, str) and not op.startswith("@")
            if not plain or len(when) != 1 or any(len(_listed(values)) != 1 for values in when.values()):
                used |= when.keys()
        conditions = {slot for edge in edges for slot in edge.get("when", {})}
        return {each for each in conditions - used if self.choices(each) == 2 and not self.parameters[each].when}

    @cached_property
    def sources(self) -> set[str]:
        """The slots that say which vertex an edge reads, and nothing else but conditions of such edges."""
        edges = [edge for _, edge in _edges_in(self.template)]
        sources = {name for edge in edges if (name := _source(edge)) is not None}
        graphs = {key: value for key, value in self.template.items() if key != "graphs"}
        vertices = [graph.get("vertices", {}) for graph in self.template["graphs"].values()]
        others = set(_slots_in([graphs, vertices, [{**edge, "src": "", "when": {}} for edge in edges]]))
        others |= {name for edge in edges for name in edge.get("when", {}) if name != _source(edge)}
        others |= {parent for parameter in self.parameters.values() for parent in parameter.when}
        return {name for name in sources - others if not self.parameters[name].when}

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

    def _check_values(self) -> None:
        """See that every value of every slot stands in a sound architecture.

        One architecture shows a value of every slot, so there are as many to build as the largest slot has values, and
        a few more for values that need others to go with them.

        Raises:
            InvalidSpec: no architecture is sound, or a value fits in none; with what is wrong in the last.
        """
        waiting = {(name, place) for name in self.slots for place in self._shown(name)}
        sound: list[dict[str, Value]] = []
        first: InvalidSpec | None = None
        rng = np.random.default_rng(0)

        def tried(decisions: dict[str, Value]) -> InvalidSpec | None:
            try:
                self.topology(decisions)
            except InvalidSpec as invalid:
                return invalid
            sound.append(decisions)
            waiting.difference_update((name, self.parameters[name].position(each)) for name, each in decisions.items())
            return None

        widest = max((len(self._shown(name)) for name in self.slots), default=1)
        for turn in range(widest):
            shown = {name: self._shown(name) for name in self.slots}
            first = tried(self.decode([shown[name][turn % len(shown[name])] for name in self.slots])) or first
        for _ in range(0 if sound or not self.slots else _CONTEXTS):
            first = tried(self.draw(rng)) or first
        if first is not None and not sound:
            raise first
        wrong: dict[Value, SpecError] = {}  # the same word in many slots is told once
        for name, place in sorted(waiting):
            value = self.parameters[name].nth(place)
            if value not in wrong and (problem := self._unfit(name, place, sound, rng, tried)) is not None:
                wrong[value] = problem
        if wrong:
            raise InvalidSpec("", list(wrong.values()))

    def _shown(self, name: str) -> Sequence[int]:
        """The positions of the values of a slot that are looked at."""
        size = self.choices(name)
        return range(size) if size <= _VALUES else [place * (size - 1) // (_VALUES - 1) for place in range(_VALUES)]

    def _unfit(
        self,
        name: str,
        place: int,
        sound: Sequence[Assignment],
        rng: np.random.Generator,
        tried: Callable[[dict[str, Value]], InvalidSpec | None],
    ) -> SpecError | None:
        """What is wrong with a value, unless it stands in a sound architecture or in none at all."""
        value, last = self.parameters[name].nth(place), None
        for turn in range(_CONTEXTS):
            base = sound[-1 - turn % len(sound)] if turn < _CONTEXTS // 2 else {}
            decisions = self.completed({**base, **self._with_parents(name, value)}, rng)
            if decisions.get(name, _ABSENT) != value:
                continue
            last = tried(decisions)
            if last is None:
                return None
        if last is None:
            return None
        (problem, *_) = last.problems
        need = f"a value that fits somewhere: in none of {_CONTEXTS} architectures does it ({problem})"
        return SpecError(slot_path(self._slots, name, place), value, need)

    def _with_parents(self, name: str, value: Value) -> dict[str, Value]:
        """Decisions that make a slot active and give it a value."""
        made: dict[str, Value] = {name: value}
        for parent, values in self.parameters[name].when.items():
            made |= self._with_parents(parent, next(iter(values)))
        return made

    def _filled(self, decisions: Mapping[str, Value], *, mixed: bool) -> dict[str, Any]:
        data = {name: value for name, value in self.template.items() if name != "graphs"}
        graphs: dict[str, Any] = {}
        for name, graph in dict(self.template.get("graphs", {})).items():
            vertices = _put(graph.get("vertices", {}), decisions)  # without those whose merge hangs on an inactive slot
            edges: list[dict[str, Any] | None] = []
            for edge in graph.get("edges", ()):
                several = mixed and _source(edge) in self.sources - decisions.keys()
                edges += self._by_source(edge, decisions) if several else [self._edge(edge, decisions, mixed=mixed)]
            if mixed and graph.get("loose"):
                graph, more = _unread(graph, [edge for edge in edges if edge is not None])
                edges += more
            gone = graph.get("vertices", {}).keys() - vertices.keys()
            there = [edge for edge in edges if edge is not None and not gone & _ends(edge)]
            graphs[name] = {**graph, **_touched({**graph, "vertices": vertices}, there)}
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

    def _by_source(self, edge: Mapping[str, Any], decisions: Mapping[str, Value]) -> list[dict[str, Any] | None]:
        """An edge of a supernet for each vertex that it may read, which is there as the slot of its source says."""
        slot = str(_source(edge))
        names, made = [str(value) for value in self.parameters[slot].values()], list[dict[str, Any] | None]()
        for position, value in enumerate(self.parameters[slot].values()):
            one = self._edge(edge, {**decisions, slot: value}, mixed=True)
            if one is not None:
                of = {"op": one.pop("op"), "params": one.pop("params", {})}
                params = {"of": of, "group": slot, "position": position, "names": names}
                made.append({**one, "id": f"{one['id']}<{value}", "op": "optional", "params": params})
        return made

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
        ends |= _ends(edge)
    vertices = {name: merge for name, merge in graph.get("vertices", {}).items() if name in ends}
    loose = {"loose": [name for name in graph["loose"] if name in vertices]} if graph.get("loose") else {}
    return {"vertices": vertices, "edges": list(edges), **loose}


def _source(edge: Mapping[str, Any]) -> str | None:
    """The slot that says which vertex an edge reads; None where it is none."""
    src = edge.get("src")
    return str(src["slot"]) if isinstance(src, Mapping) and set(src) == {"slot"} else None


def _unread(
    graph: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """A graph of a supernet whose ends are loose as its choices say, and the edges that join them to its output."""
    joins: list[dict[str, Any]] = []
    for vertex in graph["loose"]:
        reading = [edge for edge in edges if vertex in _listed(edge["src"])]
        by = [
            [one["params"][key] for key in ("group", "position", "names")] for one in reading if one["op"] == "optional"
        ]
        if len(by) == len(reading):  # else something reads it whatever is chosen
            made = {"id": f"{vertex}=", "src": vertex, "dst": graph.get("output", "y")}
            joins.append({**made, "op": "unread", "params": {"by": by}} if by else {**made, "op": "identity"})
    return {key: value for key, value in graph.items() if key != "loose"}, joins


def _ends(edge: Mapping[str, Any]) -> set[str]:
    return {edge["dst"], *_listed(edge["src"])}


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else [values]


def _parameters(slots: Mapping[str, Any]) -> Mapping[str, Parameter]:
    written = {name: _spelled(slot) for name, slot in slots.items()}
    try:
        return _Slots.model_validate({"slots": written}).slots
    except ValidationError as error:
        wrong = spec_errors(error, _Slots, {"slots": written})
        raise InvalidSpec("", [_as_written(problem, slots) for problem in wrong]) from None


def _as_written(problem: SpecError, slots: Mapping[str, Any]) -> SpecError:
    """A mistake in the values of a slot by ``among``, where that was written."""
    for name, slot in slots.items():
        values = f"slots.{name}.values"
        if isinstance(slot, Mapping) and "among" in slot and problem.where.startswith(values):
            where = f"slots.{name}.among{problem.where.removeprefix(values)}"
            return SpecError(where, problem.found, problem.need)
    return problem


def _spelled(slot: Any) -> Any:
    if isinstance(slot, Mapping) and "among" in slot:
        rest = {key: value for key, value in slot.items() if key != "among"}
        values = slot["among"]
        return {"type": "categorical", "values": list(values) if isinstance(values, list | tuple) else values, **rest}
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
