"""Search spaces by name: a preset's settings -> a template (see ``Space``). A file of one's own is as good.

The operations that a space chooses from, its sizes and its depth are settings; names and sizes in the defaults are
small, for two cores.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field, ValidationError

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.models.space import Space
from katib_flow.spec.model import Count, Model, Text
from katib_flow.spec.problems import did_you_mean, spec_errors
from katib_flow.spec.sections import Architecture

Template = dict[str, Any]
Make = Callable[[Any], Template]
Operations = Annotated[tuple[Text, ...], Field(min_length=1)]


class SpaceSettings(Model):
    """What every preset has."""

    shape: tuple[Count, Count, Count] = (1, 8, 8)
    """Of an image: channels, height, width."""
    classes: Count = 10
    channels: Count = 8
    """That the stem gives; doubled at each reduction."""


@dataclass(frozen=True)
class Preset:
    name: str
    make: Make
    settings: type[SpaceSettings]
    summary: str


_presets: dict[str, Preset] = {}


def preset(name: str, settings: type[SpaceSettings]) -> Callable[[Make], Make]:
    """Register a function of settings that gives a template as a search space."""

    def register(make: Make) -> Make:
        _presets[name] = Preset(name, make, settings, (make.__doc__ or "").strip().split("\n")[0])
        return make

    return register


def presets() -> Mapping[str, Preset]:
    """Every search space that has a name."""
    for name in ("katib_space", "envelope"):
        importlib.import_module(f"katib_flow.models.{name}")  # registers itself

    return dict(sorted(_presets.items()))


def space_of(architecture: Architecture) -> Space:
    """The search space of a spec's ``architecture``.

    Raises:
        InvalidSpec: an unknown preset, settings it does not take, a template with mistakes; by the path in the spec.
    """
    return _space(architecture.model_dump_json())


@lru_cache(maxsize=16)
def _space(text: str) -> Space:
    architecture = Architecture.model_validate_json(text)
    named = architecture.space
    try:
        if not isinstance(named, str):
            return Space(named)
        template = _template(named, architecture.settings)
        return Space(template)
    except InvalidSpec as invalid:
        prefix = "architecture" if isinstance(named, str) else "architecture.space"
        found = [SpecError(_below(prefix, each.where), each.found, each.need) for each in invalid.problems]
        raise InvalidSpec("", found) from None


def _below(prefix: str, where: str) -> str:
    return where if where.startswith(prefix) else f"{prefix}.{where}"


def _template(name: str, settings: Mapping[str, Any]) -> Template:
    known = presets()
    if name not in known:
        need = f"a template, or one of {', '.join(known)}{did_you_mean(name, known)}"
        raise InvalidSpec("", [SpecError("architecture.space", name, need)])
    found = known[name]
    try:
        return {"name": name, **found.make(found.settings.model_validate(settings))}
    except ValidationError as error:
        found = spec_errors(error, found.settings, settings, at=("architecture", "settings"))
        raise InvalidSpec("", found) from None


def network(settings: SpaceSettings, graphs: Template, slots: Template, **more: Any) -> Template:
    """A template of some graphs and slots."""
    return {
        "schema": "topology/1",
        "input": {"shape": list(settings.shape)},
        "output": {"classes": settings.classes},
        "graphs": graphs,
        "slots": slots,
        **more,
    }


def edge(src: Any, dst: Any, op: Any, name: str = "", /, **params: Any) -> Template:
    """An edge; its id is made of its ends where it is not given."""
    made = {"id": name or f"{src}>{dst}", "src": src, "dst": dst, "op": op}
    return {**made, "params": params} if params else made


def slot(name: str) -> Template:
    return {"slot": name}


class Cell(SpaceSettings):
    nodes: Annotated[int, Field(ge=2, le=8)] = 4
    """Vertices of the cell, its input among them; each has an edge from all before it."""
    operations: Operations = ("none", "skip", "conv3", "avg3")
    cells: Count = 1
    """In each stage."""
    stages: Annotated[int, Field(ge=1, le=5)] = 2
    """Maps are halved, and channels doubled, between two of them."""


@preset("cell", Cell)
def cell(settings: Cell) -> Template:
    """A cell that is repeated: every vertex an edge from all before it, an operation on each (NAS-Bench-201)."""
    nodes = range(1, settings.nodes)
    pairs = [(before, node) for node in nodes for before in range(node)]
    edges = [edge(str(before), str(node), slot(f"{before}>{node}")) for before, node in pairs]
    inner = {
        "inputs": ["0"],
        "output": str(nodes[-1]),
        "vertices": {str(node): "add" for node in nodes},
        "edges": edges,
    }
    slots = {f"{before}>{node}": {"among": list(settings.operations)} for before, node in pairs}
    return network(settings, {"net": _stages(settings, settings.stages, settings.cells, "@cell"), "cell": inner}, slots)


def _stages(settings: SpaceSettings, stages: int, cells: int, op: str) -> Template:
    """Stem, then cells of one input, a reduction between stages, and the head."""
    channels = settings.channels
    edges = [edge("x", "stem", "conv", "stem", c=channels, order="conv-bn")]
    here = "stem"
    for stage in range(stages):
        if stage:
            channels *= 2
            edges.append(edge(here, f"r{stage}", "reduce", f"reduce{stage}", c=channels))
            here = f"r{stage}"
        for number in range(cells):
            there = f"c{stage}.{number}"
            edges.append(edge(here, there, op, f"cell{stage}.{number}"))
            here = there
    edges.append(edge(here, "y", "head", "head", classes=settings.classes))
    return {"vertices": {each["dst"]: "add" for each in edges}, "edges": edges}


class Pairs(SpaceSettings):
    nodes: Annotated[int, Field(ge=1, le=8)] = 4
    """Of a cell; each adds two operations on two earlier ones. Zoph et al. (2018) and Real et al. (2019) have 5."""
    operations: Operations = ("skip", "sep3", "sep5", "dil3", "avg3", "max3")
    cells: Count = 1
    """Normal cells in each stage."""
    stages: Annotated[int, Field(ge=1, le=4)] = 2


@preset("pairs", Pairs)
def pairs(settings: Pairs) -> Template:
    """A normal and a reduction cell of the two cells before; a node adds two chosen operations on two chosen nodes.

    Zoph et al., CVPR 2018; slots ``normal.2.in0``, ``normal.2.op0`` ... A node's two sources may be one.
    """
    graphs: Template = {"net": _two_inputs(settings, settings.stages, settings.cells)}
    slots: Template = {}
    for name in ("normal", "reduce"):
        edges = _fitted()
        for node in range(2, settings.nodes + 2):
            earlier = [str(each) for each in range(node)]
            for side in (0, 1):
                at = f"{name}.{node}"
                slots[f"{at}.in{side}"] = {"among": earlier}
                slots[f"{at}.op{side}"] = {"among": list(settings.operations)}
                made = edge(slot(f"{at}.in{side}"), str(node), slot(f"{at}.op{side}"), f"{node}.{side}")
                outer, inner = earlier[:2], earlier[2:]  # a reduction halves what comes from outside
                halved = {"params": {"s": 2}} if name == "reduce" else {}
                edges.append({**made, **halved, "when": {f"{at}.in{side}": outer}})
                edges.append({**made, "when": {f"{at}.in{side}": inner}})
        graphs[name] = _two_input_cell(settings.nodes, edges, loose=True)
    return network(settings, graphs, slots)


class Dense(Pairs):
    operations: Operations = ("none", "skip", "sep3", "dil3", "avg3", "max3")


@preset("dense", Dense)
def dense(settings: Dense) -> Template:
    """As ``pairs``, but every node has an edge from all before it: the space that Liu et al. (2019) relax."""
    graphs: Template = {"net": _two_inputs(settings, settings.stages, settings.cells)}
    slots: Template = {}
    for name in ("normal", "reduce"):
        edges = _fitted()
        for node in range(2, settings.nodes + 2):
            for before in range(node):
                slots[f"{name}.{before}>{node}"] = {"among": list(settings.operations)}
                stride = {"s": 2} if name == "reduce" and before < 2 else {}
                edges.append(
                    edge(str(before), str(node), slot(f"{name}.{before}>{node}"), f"{before}>{node}", **stride)
                )
        graphs[name] = _two_input_cell(settings.nodes, edges, loose=False)
    return network(settings, graphs, slots)


def _fitted() -> list[Template]:
    """Both inputs of a cell brought to its channels and size; vertices 0 and 1 are the cells before."""
    return [
        edge("p", "0", "fit", "fit0", c="$c", s="$s"),
        edge("q", "1", "fit", "fit1", c="$c", s=1),
    ]


def _two_input_cell(nodes: int, edges: list[Template], *, loose: bool) -> Template:
    """A cell whose output stacks its nodes: all of them, or the loose ends only."""
    names = [str(node) for node in range(2, nodes + 2)]
    vertices = dict.fromkeys(["0", "1", *names], "add") | {"y": "concat"}
    joins = [] if loose else [edge(name, "y", "identity") for name in names]
    made = {"inputs": ["p", "q"], "output": "y", "vertices": vertices, "edges": [*edges, *joins]}
    return {**made, "loose": names} if loose else made


def _two_inputs(settings: SpaceSettings, stages: int, cells: int) -> Template:
    """Stem, then cells of the two cells before, a reduction cell between stages, and the head."""
    channels = settings.channels
    edges = [edge("x", "stem", "conv", "stem", c=channels, order="conv-bn")]
    before, here, halved = "stem", "stem", 1
    for stage in range(stages):
        kinds = (["@reduce"] if stage else []) + ["@normal"] * cells
        for number, op in enumerate(kinds):
            channels *= 2 if op == "@reduce" else 1
            there = f"c{stage}.{number}"
            edges.append(edge([before, here], there, op, there, c=channels, s=halved))
            before, here, halved = here, there, 2 if op == "@reduce" else 1
    edges.append(edge(here, "y", "head", "head", classes=settings.classes))
    return {"vertices": {each["dst"]: "add" for each in edges}, "edges": edges}


class Macro(SpaceSettings):
    layers: Annotated[int, Field(ge=1, le=24)] = 4
    operations: Operations = ("conv3", "conv5", "sep3", "sep5", "avg3", "max3")
    skips: bool = True
    """Whether each layer may also read any earlier one."""
    reductions: tuple[Count, ...] = (2,)
    """Layers after which maps are halved and channels doubled."""


@preset("macro", Macro)
def macro(settings: Macro) -> Template:
    """A whole network, layer by layer: an operation each, and which earlier layers it reads besides the last.

    Inputs are stacked along the channels, then brought to their number by a 1 x 1 convolution; slots ``2.op``,
    ``2.skip0``. Pham et al., ICML 2018; Zoph and Le, ICLR 2017.
    """
    channels, slots = settings.channels, dict[str, Any]()
    edges = [edge("x", "0", "conv", "stem", c=channels, order="conv-bn")]
    vertices, level = {"0": "add"}, {0: 0}
    for layer in range(1, settings.layers + 1):
        level[layer] = sum(layer - 1 >= after for after in settings.reductions)
        c = channels * 2 ** level[layer]
        vertices |= {f"{layer}.in": "concat", f"{layer}.fit": "add", f"{layer}": "add"}
        for before in range(layer):
            stride = 2 ** (level[layer] - level[before])
            skip_edge = edge(f"{before}", f"{layer}.in", "fit", f"{before}>{layer}", c=c, s=stride)
            if before < layer - 1:
                if not settings.skips:
                    continue
                slots[f"{layer}.skip{before}"] = {"among": [False, True]}
                skip_edge["when"] = {f"{layer}.skip{before}": [True]}
            edges.append(skip_edge)
        slots[f"{layer}.op"] = {"among": list(settings.operations)}
        edges.append(edge(f"{layer}.in", f"{layer}.fit", "conv1", f"{layer}.fit", c=c))
        edges.append(edge(f"{layer}.fit", f"{layer}", slot(f"{layer}.op"), f"{layer}.op"))
    edges.append(edge(f"{settings.layers}", "y", "head", "head", classes=settings.classes))
    return network(settings, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, slots)


class Hierarchical(SpaceSettings):
    motifs: Annotated[int, Field(ge=1, le=12)] = 3
    """Of level 2. Liu et al. have 6."""
    motif_nodes: Annotated[int, Field(ge=2, le=6)] = 3
    nodes: Annotated[int, Field(ge=2, le=6)] = 3
    """Of the cell, the motif of level 3."""
    operations: Operations = ("none", "skip", "conv1", "dw3", "sep3", "max3", "avg3")
    stages: Annotated[int, Field(ge=1, le=4)] = 2
    cells: Count = 1


@preset("hierarchical", Hierarchical)
def hierarchical(settings: Hierarchical) -> Template:
    """Motifs made of operations, a cell made of motifs (Liu et al., ICLR 2018); slots ``m0.0>1`` and ``cell.0>1``."""
    names = [f"m{number}" for number in range(settings.motifs)]
    slots: Template = {}
    graphs: Template = {"net": _stages(settings, settings.stages, settings.cells, "@cell")}
    for name in names:
        graphs[name] = _triangle(name, settings.motif_nodes, slots, list(settings.operations))
    graphs["none"] = {"inputs": ["0"], "output": "1", "vertices": {"1": "add"}, "edges": [edge("0", "1", "none")]}
    graphs["cell"] = _triangle("cell", settings.nodes, slots, ["@none", *(f"@{name}" for name in names)])
    return network(settings, graphs, slots)


def _triangle(name: str, nodes: int, slots: Template, among: list[str]) -> Template:
    """Every node an edge from all before it."""
    pairs = [(before, node) for node in range(1, nodes) for before in range(node)]
    slots |= {f"{name}.{before}>{node}": {"among": among} for before, node in pairs}
    edges = [edge(str(before), str(node), slot(f"{name}.{before}>{node}")) for before, node in pairs]
    vertices = {str(node): "add" for node in range(1, nodes)}
    return {"inputs": ["0"], "output": str(nodes - 1), "vertices": vertices, "edges": edges}


class Mobile(SpaceSettings):
    blocks: Annotated[int, Field(ge=1, le=7)] = 3
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    """The most layers of a block; how many it has is searched."""
    reductions: tuple[Count, ...] = (2,)
    """Blocks, from 1, that halve the map."""
    widths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.75, 1.0, 1.25)
    """Factors of a block's channels."""


@preset("mobile", Mobile)
def mobile(settings: Mobile) -> Template:
    """Blocks of equal layers: convolution, kernel, squeeze-excite, skip, width and depth of each (MnasNet)."""
    edges = [edge("x", "0.0", "conv", "stem", c=settings.channels, order="conv-bn-relu")]
    slots: dict[str, Any] = {}
    channels, ends = settings.channels, ["0.0"]
    for block in range(1, settings.blocks + 1):
        halved = block in settings.reductions
        channels *= 2 if halved else 1
        slots |= {
            f"{block}.op": {"among": ["conv", "sep", "mbconv3", "mbconv6"]},
            f"{block}.k": {"among": [3, 5]},
            f"{block}.se": {"among": [0.0, 0.25], "when": {f"{block}.op": ["mbconv3", "mbconv6"]}},
            f"{block}.c": {"among": sorted({max(1, round(channels * width)) for width in settings.widths})},
            f"{block}.skip": {"among": ["none", "identity"]},
            f"{block}.layers": {"type": "int", "min": 1, "max": settings.layers},
        }
        _block(edges, block, settings.layers, halved=halved)
        ends.append(f"{block}")
    operations = {f"mbconv{e}": {"op": "mbconv", "params": {"e": e}} for e in (3, 6)}
    edges.append(edge(ends[-1], "y", "head", "head", classes=settings.classes))
    vertices = {each["dst"]: "add" for each in edges}
    return network(settings, {"net": {"vertices": vertices, "edges": edges}}, slots, operations=operations)


def _block(edges: list[Template], block: int, layers: int, *, halved: bool) -> None:
    """The layers of a block, its first brings maps to its channels and size; its end is where its last layer is."""
    here = f"{block - 1}" if block > 1 else "0.0"
    params = {"c": slot(f"{block}.c"), "k": slot(f"{block}.k"), "se": slot(f"{block}.se")}
    for layer in range(1, layers + 1):
        there, deep = f"{block}.{layer}", {f"{block}.layers": list(range(layer, layers + 1))}
        stride = {"s": 2} if halved and layer == 1 else {}
        edges.append({**edge(here, there, slot(f"{block}.op"), there, **(params | stride)), "when": deep})
        if layer > 1:
            skipped = {**deep, f"{block}.skip": ["identity"]}
            edges.append({**edge(here, there, "identity", f"{there}+"), "when": skipped})
        edges.append({**edge(there, f"{block}", "identity", f"{there}="), "when": {f"{block}.layers": [layer]}})
        here = there


class Chain(SpaceSettings):
    layers: Annotated[tuple[Count, ...], Field(min_length=1)] = (8, 8)
    """Channels of each layer of the network to start from."""
    reductions: tuple[Count, ...] = (1,)
    """Layers after which maps are halved."""


@preset("chain", Chain)
def chain(settings: Chain) -> Template:
    """A plain chain of convolutions to start from; for systems that modify a network (morphisms). It has no slots."""
    edges, here = list[Template](), "x"
    for number, channels in enumerate(settings.layers, 1):
        edges.append(edge(here, f"{number}", "conv", f"conv{number}", c=channels, order="conv-bn-relu"))
        here = f"{number}"
        if number in settings.reductions:
            edges.append(edge(here, f"{number}.pool", "max", f"pool{number}", k=2, s=2))
            here = f"{number}.pool"
    edges.append(edge(here, "y", "head", "head", classes=settings.classes, norm=False))
    return network(settings, {"net": {"vertices": {each["dst"]: "add" for each in edges}, "edges": edges}}, {})
