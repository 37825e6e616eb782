"""The mistakes in the template of a space: every value of every slot is checked wherever it may be used.

Names and parameters can be checked edge by edge: for each edge, the few combinations of its own slots are checked,
never the whole space, which is their product. Whether shapes agree is checked by building architectures: see ``Space``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, Literal

from pydantic import Field, ValidationError

from katib_flow.errors import SpecError
from katib_flow.models.merges import merges
from katib_flow.models.operations import layers_of, operations
from katib_flow.models.template import is_slot, listed, slot_paths
from katib_flow.models.topology import SCHEMA, Input, Output
from katib_flow.spec.model import Model, PlainData, Text
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.problems import NOTHING, spec_errors
from katib_flow.spec.space import Assignment, SearchSpace
from katib_flow.wording import did_you_mean

_MOST = 4096  # combinations of an edge's slots that are checked


class _Edge(Model):
    id: Text
    src: Any
    dst: Any
    op: Any
    params: PlainData = {}
    weights: Any = None
    when: PlainData = {}


class _Graph(Model):
    inputs: tuple[Text, ...] = ("x",)
    output: Text = "y"
    vertices: PlainData
    edges: tuple[_Edge, ...]
    loose: tuple[Text, ...] = ()


class _Named(Model):
    op: Text
    params: PlainData = {}


class _Template(Model):
    schema_: Literal["topology/1"] = Field(SCHEMA, alias="schema")
    name: str = ""
    input: Input
    output: Output
    root: Text = "net"
    graphs: dict[str, _Graph]
    slots: PlainData = {}
    operations: dict[str, _Named] = {}
    weights: Literal["inherit", "shape", "fresh"] = "inherit"
    edits: tuple[PlainData, ...] = ()
    meta: PlainData = {}


def shape_mistakes(template: Mapping[str, Any]) -> list[SpecError]:
    """Unknown keys and wrong types in a template."""
    try:
        _Template.model_validate(template)
    except ValidationError as error:
        return spec_errors(error, _Template, template)
    return []


def slot_path(slots: Mapping[str, Any], name: str, position: int) -> str:
    """The path of a slot's value as the user wrote it."""
    written = slots.get(name, {})
    for key in ("among", "values"):
        if isinstance(written, Mapping) and key in written:
            return f"slots.{name}.{key}[{position}]"
    return f"slots.{name}"


def condition_mistakes(parameters: Mapping[str, Parameter]) -> Iterator[SpecError]:
    """Slots whose values are not countable, and conditions on unknown slots or on values that a slot cannot have."""
    for name, parameter in parameters.items():
        if parameter.size is None:
            yield SpecError(f"slots.{name}", "a float without a step", "a slot with countable values")
        yield from _conditions(f"slots.{name}.when", parameter.when, parameters)


def _conditions(where: str, when: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> Iterator[SpecError]:
    for name, written in when.items():
        parent = parameters.get(name)
        if parent is None:
            yield SpecError(f"{where}.{name}", name, f"a slot: {', '.join(parameters)}{did_you_mean(name, parameters)}")
            continue
        listed = isinstance(written, list | tuple)
        for position, value in enumerate(written if listed else [written]):
            if parent.size is not None and not parent.contains(value):
                known = [str(known_value) for known_value in islice(parent.values(), 20)]
                at = f"{where}.{name}[{position}]" if listed else f"{where}.{name}"
                yield SpecError(at, value, f"a value of slot {name}: {', '.join(known)}{did_you_mean(value, known)}")


class Checker:
    """Finds the mistakes in a template whose keys and slots are sound.

    Args:
        slots: the slots as the user wrote them.
        parameters: the slots as parameters.
    """

    def __init__(
        self, template: Mapping[str, Any], slots: Mapping[str, Any], parameters: Mapping[str, Parameter]
    ) -> None:
        self.graphs: Mapping[str, Any] = template["graphs"]
        self.root = template.get("root", "net")
        self.own: Mapping[str, Any] = template.get("operations", {})
        self.slots, self.parameters = slots, parameters
        self.unknown: set[str] = set()

    def mistakes(self) -> Iterator[SpecError]:
        """All mistakes, one per path."""
        seen: set[str] = set()
        for problem in self._all():
            if problem.where not in seen:
                seen.add(problem.where)
                yield problem

    def _all(self) -> Iterator[SpecError]:
        yield from self._references({"graphs": self.graphs}, "")
        if self.unknown:
            return  # nothing can be said about the parts that use them
        if self.root not in self.graphs:
            yield _unknown("root", self.root, "a graph", self.graphs)
        for name, own_operation in self.own.items():
            yield from self._operation(name, own_operation)
        for name, graph in self.graphs.items():
            yield from self._graph(f"graphs.{name}", name, graph)
        used = {name for _, name in slot_paths(self.graphs)} | self._conditioning()
        for name in self.parameters:
            if name not in used:
                yield SpecError(
                    f"slots.{name}", name, f"the name of a slot that the template uses{did_you_mean(name, used)}"
                )

    def _conditioning(self) -> set[str]:
        edges = [edge for graph in self.graphs.values() for edge in graph["edges"]]
        names = {slot for edge in edges for slot in edge.get("when", {})}
        return names | {parent for parameter in self.parameters.values() for parent in parameter.when}

    def _references(self, data: Any, path: str) -> Iterator[SpecError]:
        for where, name in slot_paths(data, path):
            if name not in self.parameters:
                self.unknown.add(name)
                yield _unknown(where, name, "a slot", self.parameters)

    def _operation(self, name: str, written: Mapping[str, Any]) -> Iterator[SpecError]:
        where = f"operations.{name}"
        try:
            known = operations.get(written["op"], f"{where}.op")
        except SpecError as problem:
            yield problem
            return
        for key in written.get("params", {}):
            if key not in known.parameters:
                yield _unknown(f"{where}.params.{key}", key, f"a parameter of {known.name}", known.parameters)

    def _graph(self, where: str, name: str, graph: Mapping[str, Any]) -> Iterator[SpecError]:
        vertices, inputs = graph["vertices"], tuple(graph.get("inputs", ("x",)))
        edges = list(graph["edges"])
        for vertex, merge in vertices.items():
            for at, value in self._values(f"{where}.vertices.{vertex}", merge):
                try:
                    merges.get(value, at)
                except SpecError as problem:
                    yield problem
        output = graph.get("output", "y")
        if output not in vertices:
            yield _unknown(f"{where}.output", output, "a vertex", vertices)
        for position, vertex in enumerate(graph.get("loose", ())):
            if vertex not in vertices:
                yield _unknown(f"{where}.loose[{position}]", vertex, "a vertex", vertices)
        read = {str(value) for edge in edges for one in listed(edge["src"]) for _, value in self._values("", one)}
        for position, vertex in enumerate(inputs):
            if vertex not in read:
                need = f"an input that an edge reads{did_you_mean(vertex, read - vertices.keys())}"
                yield SpecError(f"{where}.inputs[{position}]", vertex, need)
        wrong = False
        for position, edge in enumerate(edges):
            for problem in self._edge(f"{where}.edges[{position}]", name, edge, (*inputs, *vertices), tuple(vertices)):
                wrong = True
                yield problem
        reached = {str(value) for edge in edges for _, value in self._values("", edge["dst"])}
        loose = {output} if graph.get("loose") else set[str]()
        for vertex in vertices if not wrong else ():
            if vertex not in reached | loose:
                yield SpecError(
                    f"{where}.vertices.{vertex}",
                    vertex,
                    f"a vertex that an edge leads to{did_you_mean(vertex, reached)}",
                )

    def _edge(
        self, where: str, graph: str, edge: Mapping[str, Any], sources: Sequence[str], targets: Sequence[str]
    ) -> Iterator[SpecError]:
        for key, known in (("src", sources), ("dst", targets)):
            written = edge[key]
            many = isinstance(written, list | tuple)
            for position, one in enumerate(written if many else [written]):
                for at, value in self._values(f"{where}.{key}[{position}]" if many else f"{where}.{key}", one):
                    if value not in known:
                        yield _unknown(at, value, "a vertex", known)
        unmet = list(_conditions(f"{where}.when", edge.get("when", {}), self.parameters))
        yield from unmet
        taken: set[str] = set()
        sound = not unmet
        for at, value in self._values(f"{where}.op", edge["op"]):
            names = self._parameters_of(value)
            if names is None:
                sound = False
                known = [*self.own, *operations.all(), *(f"@{name}" for name in self.graphs)]
                yield _unknown(at, value, "an operation or a graph", known)
            taken |= set(names or ())
        if sound:
            for key in edge.get("params", {}):
                if key not in taken:
                    yield _unknown(f"{where}.params.{key}", key, "a parameter that its operation takes", sorted(taken))
            yield from self._tried(where, graph, edge)

    def _parameters_of(self, op: object) -> Sequence[str] | None:
        """The parameters of an operation or a graph; None if no such operation or graph exists."""
        if isinstance(op, str) and op.startswith("@"):
            inner = self.graphs.get(op[1:])
            return None if inner is None else sorted(_given_names(inner))
        name = self.own[op]["op"] if isinstance(op, str) and op in self.own else op
        known = operations.find(name) if isinstance(name, str) else None
        return None if known is None else known.parameters

    def _values(self, where: str, written: Any) -> Iterator[tuple[str, Any]]:
        """All values that a written value may stand for, each with its path."""
        if isinstance(written, Mapping) and set(written) == {"slot"}:  # pyright: ignore[reportUnknownArgumentType]
            name = str(written["slot"])
            for position, value in enumerate(islice(self.parameters[name].values(), _MOST)):
                yield slot_path(self.slots, name, position), value
        else:
            yield where, written

    # an edge, with every combination of its own slots

    def _tried(self, where: str, graph: str, edge: Mapping[str, Any]) -> Iterator[SpecError]:
        space = self._near([name for _, name in slot_paths([edge["op"], edge.get("params", {})])], edge.get("when", {}))
        given = {
            key: self._bound(graph, str(value)[1:]) for key, value in edge.get("params", {}).items() if _is_given(value)
        }
        for key, values in given.items():
            if not values and graph != self.root and self._used(graph):
                yield SpecError(
                    f"{where}.params.{key}", edge["params"][key], "a parameter that an edge with this graph sets"
                )
                return
        for decided in islice(space.enumerate() if space.parameters else iter([{}]), _MOST):
            if any(
                decided.get(name) not in listed(values)
                for name, values in edge.get("when", {}).items()
                if name in space.parameters
            ):
                continue
            for choice in product(*given.values()):
                yield from self._once(where, edge, decided, dict(zip(given, choice, strict=True)))

    def _once(
        self, where: str, edge: Mapping[str, Any], decided: Assignment, given: Mapping[str, Any]
    ) -> Iterator[SpecError]:
        op = _filled(edge["op"], decided)
        if op is None or str(op).startswith("@"):
            return
        known = self._parameters_of(op) or ()
        own: Mapping[str, Any] = self.own.get(op, {})
        params = {key: given.get(key, _filled(value, decided)) for key, value in edge.get("params", {}).items()}
        inactive = [
            key for key, value in edge.get("params", {}).items() if is_slot(value) and value["slot"] not in decided
        ]
        params = {key: value for key, value in params.items() if key in known and key not in inactive}
        try:
            layers_of(own.get("op", op), {**params, **own.get("params", {})})
        except SpecError as problem:
            yield self._blamed(where, edge, decided, op, problem)

    def _blamed(
        self, where: str, edge: Mapping[str, Any], decided: Assignment, op: Any, problem: SpecError
    ) -> SpecError:
        """The mistake at the path where the user wrote the value that an operation does not accept."""
        key = problem.where.removeprefix("params.").split(".")[0].split("[")[0]
        written = edge.get("params", {}).get(key)
        if key in self.own.get(op, {}).get("params", {}):
            return SpecError(f"operations.{op}.params.{key}", problem.found, problem.need)
        if is_slot(written):
            return self._at_slot(written["slot"], decided, problem.need)
        if problem.found is NOTHING or problem.where == "params":
            if is_slot(edge["op"]):
                return self._at_slot(
                    edge["op"]["slot"], decided, f"an operation that fits: {problem.where}: {problem.need}"
                )
            return SpecError(f"{where}.{problem.where}", problem.found, problem.need)
        return SpecError(f"{where}.params.{key}", problem.found, problem.need)

    def _at_slot(self, name: str, decided: Assignment, need: str) -> SpecError:
        value = decided[name]
        return SpecError(slot_path(self.slots, name, self.parameters[name].position(value)), value, need)

    def _near(self, wanted: Sequence[str], conditions: Iterable[str]) -> SearchSpace:
        """A space of some slots, the slots in the conditions of their edge, and their parents, without grandparents.

        In a chain of slots that each depend on the one before, all slots together have too many assignments.
        """
        if not wanted:  # then the conditions make no difference
            return SearchSpace({})
        names = {*wanted, *conditions, *(parent for name in wanted for parent in self.parameters[name].when)}
        return SearchSpace(
            {
                name: parameter if parameter.when.keys() <= names else parameter.model_copy(update={"when": {}})
                for name, parameter in self.parameters.items()
                if name in names
            }
        )

    def _used(self, graph: str) -> bool:
        return any(True for _ in self._users(graph))

    def _users(self, graph: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, other in self.graphs.items():
            for edge in other["edges"]:
                if any(value == f"@{graph}" for _, value in self._values("", edge["op"])):
                    yield name, edge

    def _bound(self, graph: str, name: str, depth: int = 0) -> list[Any]:
        """All values that the edges with a graph give for ``$name``."""
        values: list[Any] = []
        for user, edge in self._users(graph) if depth < len(self.graphs) else ():
            written = edge.get("params", {}).get(name)
            if _is_given(written):
                more = self._bound(user, str(written)[1:], depth + 1)
            else:
                more = [value for _, value in self._values("", written)] if written is not None else []
            values += [value for value in more if value not in values]
        return values


def _unknown(where: str, value: object, what: str, known: Any) -> SpecError:
    names = [str(known_name) for known_name in known]
    listed = f": {', '.join(names)}" if names else " (none exist)"
    return SpecError(where, value, f"{what}{listed}{did_you_mean(value, names)}")


def _is_given(value: object) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _given_names(graph: Mapping[str, Any]) -> set[str]:
    """The names of the ``$name`` parameters that the edges of a graph use."""
    params = [value for edge in graph["edges"] for value in edge.get("params", {}).values()]
    return {str(value)[1:] for value in params if _is_given(value)}


def _filled(value: Any, decided: Assignment) -> Any:
    return decided.get(value["slot"]) if is_slot(value) else value
