"""A space of architectures: a topology with slots, and the values that may fill each slot.

A slot is a parameter as in a spec (categorical, int, conditional), so every algorithm that searches parameters can also
search architectures, and both together. Anywhere in a template, ``{"slot": "e01"}`` stands for the slot's value.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Value
from katib_flow.models.mistakes import Checker, condition_mistakes, shape_mistakes, slot_path
from katib_flow.models.optional import check_optional
from katib_flow.models.template import (
    ABSENT,
    edges_in,
    ends_of,
    filled_in,
    listed,
    parameters_of,
    slots_in,
    source_of,
    touched,
    with_unread,
)
from katib_flow.models.topology import Input, Topology
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.space import Assignment, SearchSpace

_CONTEXTS = 16  # architectures tried before a value is said to fit in none
_VALUES = 64  # values of a slot that are checked; if it has more, evenly spaced ones


class Space:
    """A space of architectures, each given by its decisions: the value of every active slot.

    Args:
        template: a topology as plain data, with ``slots``: a parameter for each name (``{"among": [...]}`` is short for
            a categorical one). An edge with ``when: {slot: [values]}`` exists only for these values. A parameter of an
            operation, or an edge, is left out if its slot is inactive. ``operations`` defines operations with
            parameters, ``{"conv8": {"op": "conv", "params": {"c": 8}}}``, for slots to choose from.

    Raises:
        InvalidSpec: the template has mistakes; all that were found are listed.
    """

    def __init__(self, template: Mapping[str, Any]) -> None:
        if wrong := shape_mistakes(template):
            raise InvalidSpec("", wrong)
        data = dict(template)
        slots = data.pop("slots", {})
        self.operations: Mapping[str, Mapping[str, Any]] = data.pop("operations", {})
        self.template = data
        self.input = Input.model_validate(data["input"])
        self.parameters = parameters_of(slots)
        conditions = list(condition_mistakes(self.parameters))
        if any(parent not in self.parameters for parameter in self.parameters.values() for parent in parameter.when):
            raise InvalidSpec("", conditions)
        if any(parameter.size is None for parameter in self.parameters.values()):
            raise InvalidSpec("", conditions)
        try:
            self.decisions = SearchSpace(self.parameters)
        except ValueError as error:
            raise InvalidSpec(
                "", [SpecError("slots", list(slots), f"conditions on slots of this space ({error})")]
            ) from error
        self._identities: dict[Hashable, str | None] = {}  # a hash takes milliseconds, and is needed often
        self._slots: Mapping[str, Any] = slots
        if wrong := [*conditions, *Checker(template, slots, self.parameters).mistakes()]:
            raise InvalidSpec("", wrong)
        self._check_values()

    def topology(self, decisions: Assignment) -> Topology:
        """The architecture for some decisions; other parameters in the assignment are ignored.

        Raises:
            InvalidSpec: the network of these decisions is not sound.
        """
        chosen = {name: value for name, value in decisions.items() if name in self.parameters}
        return Topology.parse(self._filled(chosen, mixed=False))

    def supernet(self, fixed: Assignment | None = None) -> Topology:
        """All architectures in one network: an edge whose operation is a slot mixes all of the slot's choices.

        The slot's name is the group of the architecture weights, so edges with the same slot share them. A slot that
        only says whether edges exist, a skip, is a group of two choices, ``out`` and ``in``. A slot for the source of
        edges is a group of its vertices.

        Args:
            fixed: values of the other slots, which cannot be mixed.

        Raises:
            InvalidSpec: the value of such a slot is missing, or an optional edge is where zeros are not the same as no
                edge.
        """
        edges = [edge for _, edge in edges_in(self.template)]
        operations = {name for edge in edges for name in slots_in(edge.get("op"))}
        conditions = {name for edge in edges for name in edge.get("when", {})}
        mixable = (operations - conditions) | self._skips | self.sources
        merges = {name for graph in self.template["graphs"].values() for name in slots_in(graph["vertices"])}
        for name in self.parameters:
            if name not in mixable and name not in (fixed or {}):
                reason = (
                    "it is the merge function of a vertex, whose shape must be fixed"
                    if name in merges
                    else "it is neither the operation nor the source of an edge, nor does it only keep or drop edges"
                )
                need = f"a fixed value, because it cannot be mixed: {reason}"
                raise InvalidSpec("", [SpecError(f"slots.{name}", NOTHING, need)])
        topology = Topology.parse(self._filled(dict(fixed or {}), mixed=True))
        try:
            check_optional(topology.flat)
        except SpecError as problem:
            raise InvalidSpec("", [problem]) from None
        return topology

    @cached_property
    def _skips(self) -> set[str]:
        """The slots of two values that only say whether some edges exist."""
        edges = [edge for _, edge in edges_in(self.template)]
        used = set(slots_in([{**edge, "when": {}} for edge in edges]))
        used |= set(slots_in([graph.get("vertices", {}) for graph in self.template["graphs"].values()]))
        used |= {parent for parameter in self.parameters.values() for parent in parameter.when}
        for when, op in ((edge.get("when", {}), edge.get("op")) for edge in edges):
            plain = isinstance(op, str) and not op.startswith("@")
            if not plain or len(when) != 1 or any(len(listed(values)) != 1 for values in when.values()):
                used |= when.keys()
        conditions = {slot for edge in edges for slot in edge.get("when", {})}
        return {name for name in conditions - used if self.choices(name) == 2 and not self.parameters[name].when}

    @cached_property
    def sources(self) -> set[str]:
        """The slots that only say which vertex an edge reads, or occur in the conditions of such edges."""
        edges = [edge for _, edge in edges_in(self.template)]
        sources = {name for edge in edges if (name := source_of(edge)) is not None}
        graphs = {key: value for key, value in self.template.items() if key != "graphs"}
        vertices = [graph.get("vertices", {}) for graph in self.template["graphs"].values()]
        others = set(slots_in([graphs, vertices, [{**edge, "src": "", "when": {}} for edge in edges]]))
        others |= {name for edge in edges for name in edge.get("when", {}) if name != source_of(edge)}
        others |= {parent for parameter in self.parameters.values() for parent in parameter.when}
        return {name for name in sources - others if not self.parameters[name].when}

    def draw(self, rng: np.random.Generator) -> dict[str, Value]:
        """Random decisions, with the value of each slot drawn uniformly."""
        return self.decisions.draw(rng)

    def mutate(self, decisions: Assignment, rng: np.random.Generator) -> dict[str, Value]:
        """Decisions with one slot changed; see ``SearchSpace.mutate``."""
        return self.decisions.mutate(decisions, rng)

    def identity(self, assignment: Assignment) -> str | None:
        """The hash of the architecture for some decisions; None if the network is not sound."""
        decisions = {name: value for name, value in assignment.items() if name in self.parameters}
        key = self.decisions.key(decisions)
        if key not in self._identities:
            try:
                self._identities[key] = self.topology(decisions).hash
            except InvalidSpec:
                self._identities[key] = None
        return self._identities[key]

    def completed(self, decisions: Assignment, rng: np.random.Generator) -> dict[str, Value]:
        """Decisions with inactive slots removed and missing ones drawn uniformly."""
        decided: dict[str, Value] = {}
        for name, parameter in self.decisions.parameters.items():
            if self.decisions.is_active(name, decided):
                unit = float(rng.random()) if name not in decisions else 0.0
                decided[name] = decisions[name] if name in decisions else parameter.at(unit)
        return decided

    def choices(self, slot: str) -> int:
        """Number of values of a slot."""
        return self.parameters[slot].size or 0

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots in the order of tokens: a conditional slot after its parents."""
        return tuple(self.decisions.parameters)

    def encode(self, decisions: Assignment) -> tuple[int, ...]:
        """Decisions as tokens: the position of each slot's value, or -1 for an inactive slot."""
        return tuple(
            self.parameters[name].position(decisions[name]) if name in decisions else -1 for name in self.slots
        )

    def decode(self, tokens: Sequence[int]) -> dict[str, Value]:
        """The decisions for tokens; the tokens of inactive slots are ignored.

        Raises:
            ValueError: there are too many or too few tokens, or one is not the position of a value.
        """
        decided: dict[str, Value] = {}
        for name, token in zip(self.slots, tokens, strict=True):
            if self.decisions.is_active(name, decided):
                if not 0 <= token < self.choices(name):
                    raise ValueError(f"slot {name}: found token {token}, need 0 to {self.choices(name) - 1}")
                decided[name] = self.parameters[name].nth(int(token))
        return decided

    @property
    def initial(self) -> Topology:
        """The architecture with the first value of every slot, from which systems that modify networks start."""
        return self.topology(self.decode([0] * len(self.slots)))

    # the template

    def _check_values(self) -> None:
        """Check that every value of every slot occurs in a sound architecture.

        One architecture checks a value of every slot, so the number of architectures to build is that of the values of
        the largest slot, and a few more for values that only fit together with certain others.

        Raises:
            InvalidSpec: no architecture is sound, or a value fits in none, with a mistake of the last one tried.
        """
        waiting = {(name, position) for name in self.slots for position in self._shown(name)}
        sound: list[dict[str, Value]] = []
        first: InvalidSpec | None = None
        rng = np.random.default_rng(0)

        def tried(decisions: dict[str, Value]) -> InvalidSpec | None:
            try:
                self.topology(decisions)
            except InvalidSpec as invalid:
                return invalid
            sound.append(decisions)
            waiting.difference_update(
                (name, self.parameters[name].position(value)) for name, value in decisions.items()
            )
            return None

        widest = max((len(self._shown(name)) for name in self.slots), default=1)
        for turn in range(widest):
            shown = {name: self._shown(name) for name in self.slots}
            first = tried(self.decode([shown[name][turn % len(shown[name])] for name in self.slots])) or first
        for _ in range(0 if sound or not self.slots else _CONTEXTS):
            first = tried(self.draw(rng)) or first
        if first is not None and not sound:
            raise first
        wrong: dict[Value, SpecError] = {}  # the same value in many slots is reported once
        for name, position in sorted(waiting):
            value = self.parameters[name].nth(position)
            if value not in wrong and (problem := self._unfit(name, position, sound, rng, tried)) is not None:
                wrong[value] = problem
        if wrong:
            raise InvalidSpec("", list(wrong.values()))

    def _shown(self, name: str) -> Sequence[int]:
        """The positions of the values of a slot that are checked."""
        size = self.choices(name)
        return range(size) if size <= _VALUES else [number * (size - 1) // (_VALUES - 1) for number in range(_VALUES)]

    def _unfit(
        self,
        name: str,
        position: int,
        sound: Sequence[Assignment],
        rng: np.random.Generator,
        tried: Callable[[dict[str, Value]], InvalidSpec | None],
    ) -> SpecError | None:
        """What is wrong with a value; None if a sound architecture has it, or no architecture at all."""
        value, last = self.parameters[name].nth(position), None
        for turn in range(_CONTEXTS):
            base = sound[-1 - turn % len(sound)] if turn < _CONTEXTS // 2 else {}
            decisions = self.completed({**base, **self._with_parents(name, value)}, rng)
            if decisions.get(name, ABSENT) != value:
                continue
            last = tried(decisions)
            if last is None:
                return None
        if last is None:
            return None
        (problem, *_) = last.problems
        need = f"a value that fits in an architecture; it fits in none of {_CONTEXTS} that were tried ({problem})"
        return SpecError(slot_path(self._slots, name, position), value, need)

    def _with_parents(self, name: str, value: Value) -> dict[str, Value]:
        """Decisions that make a slot active and give it a value."""
        decisions: dict[str, Value] = {name: value}
        for parent, values in self.parameters[name].when.items():
            decisions |= self._with_parents(parent, next(iter(values)))
        return decisions

    def _filled(self, decisions: Mapping[str, Value], *, mixed: bool) -> dict[str, Any]:
        data = {name: value for name, value in self.template.items() if name != "graphs"}
        graphs: dict[str, Any] = {}
        for name, graph in dict(self.template.get("graphs", {})).items():
            vertices = filled_in(graph.get("vertices", {}), decisions)  # without those whose merge slot is inactive
            edges: list[dict[str, Any] | None] = []
            for edge in graph.get("edges", ()):
                several = mixed and source_of(edge) in self.sources - decisions.keys()
                edges += self._by_source(edge, decisions) if several else [self._edge(edge, decisions, mixed=mixed)]
            if mixed and graph.get("loose"):
                graph, more = with_unread(graph, [edge for edge in edges if edge is not None])
                edges += more
            gone = graph.get("vertices", {}).keys() - vertices.keys()
            there = [edge for edge in edges if edge is not None and not gone & ends_of(edge)]
            graphs[name] = {**graph, **touched({**graph, "vertices": vertices}, there)}
        return {**data, "graphs": graphs}

    def _edge(self, edge: Mapping[str, Any], decisions: Mapping[str, Value], *, mixed: bool) -> dict[str, Any] | None:
        if mixed and (skips := self._skips.intersection(edge.get("when", {})) - decisions.keys()):
            return self._skip(edge, decisions, *skips)
        for slot, values in edge.get("when", {}).items():
            if decisions.get(slot, ABSENT) not in listed(values):
                return None
        filled = {key: filled_in(value, decisions) for key, value in edge.items() if key not in ("when", "op")}
        if filled.get("src") is ABSENT or filled.get("dst") is ABSENT:
            return None
        op = edge.get("op")
        if not isinstance(op, Mapping):
            return (
                {**filled, "op": op}
                if op not in self.operations
                else {**filled, **self._named(op, filled.get("params", {}))}
            )
        if mixed and op.get("slot") not in decisions:
            slot = str(op["slot"])
            if graphs := [value for value in self.parameters[slot].values() if str(value).startswith("@")]:
                need = "an operation, because graphs cannot be mixed"
                raise InvalidSpec("", [SpecError(f"slots.{slot}", graphs[0], need)])
            choices = [self._named(value, filled.get("params", {})) for value in self.parameters[slot].values()]
            return {**filled, "op": "mixed", "params": {"among": choices, "group": slot}}
        op = filled_in(op, decisions)
        return None if op is ABSENT else {**filled, **self._named(op, filled.get("params", {}))}

    def _by_source(self, edge: Mapping[str, Any], decisions: Mapping[str, Value]) -> list[dict[str, Any] | None]:
        """The optional edges of a supernet for an edge whose source is a slot, one per vertex that it may read."""
        slot = str(source_of(edge))
        edges: list[dict[str, Any] | None] = []
        names = [str(value) for value in self.parameters[slot].values()]
        for position, value in enumerate(self.parameters[slot].values()):
            one = self._edge(edge, {**decisions, slot: value}, mixed=True)
            if one is not None:
                inner = {"op": one.pop("op"), "params": one.pop("params", {})}
                params = {"of": inner, "group": slot, "position": position, "names": names}
                edges.append({**one, "id": f"{one['id']}<{value}", "op": "optional", "params": params})
        return edges

    def _skip(self, edge: Mapping[str, Any], decisions: Mapping[str, Value], slot: str) -> dict[str, Any] | None:
        """An optional edge of a supernet, for an edge that a slot keeps or drops."""
        filled = self._edge({**edge, "when": {}}, decisions, mixed=False)
        if filled is None:
            return None
        (wanted,) = listed(edge["when"][slot])
        inner = {"op": filled.pop("op"), "params": filled.pop("params", {})}
        position = self.parameters[slot].position(wanted)
        return {**filled, "op": "optional", "params": {"of": inner, "group": slot, "position": position}}

    def _named(self, op: Any, params: Mapping[str, Any]) -> dict[str, Any]:
        """An operation of the template or the library, with those parameters of its edge that it accepts."""
        from katib_flow.models.operations import operations

        own = self.operations.get(op)
        name = str(op if own is None else own.get("op", op))
        known = operations.find(name)
        taken = {key: value for key, value in params.items() if known is None or key in known.parameters}
        given = {**taken, **(own or {}).get("params", {})}
        return {"op": name, "params": given}
