"""Two cells that read the two previous cells; their nodes combine two operations each (Zoph et al., CVPR 2018)."""

from typing import Annotated, Literal

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import Count


class Pairs(SpaceSettings):
    """Settings that the spaces ``pairs`` and ``dense`` share."""

    nodes: Annotated[int, Field(ge=1, le=8)] = 4
    """Nodes of a cell, each of which reads earlier ones. Zoph et al. (2018) and Real et al. (2019) have 5."""
    operations: Operations = ("skip", "sep3", "sep5", "dil3", "avg3", "max3")
    cells: Count = 1
    """Normal cells of each stage."""
    stages: Annotated[int, Field(ge=1, le=4)] = 2
    """Number of stages; between two of them, a reduction cell halves maps and doubles channels."""


class ChosenPairs(Pairs):
    """Settings of the space ``pairs``."""

    merge: Literal["add", "concat", "slot"] = "add"
    """How a node combines its two inputs; ``slot`` searches this too, as the fifth decision of Zoph et al. (2018)."""


@preset("pairs", ChosenPairs)
def pairs(settings: ChosenPairs) -> Template:
    """A normal and a reduction cell that read the two previous cells; a node applies two operations to earlier nodes.

    Zoph et al., CVPR 2018; slots ``normal.2.in0``, ``normal.2.op0``, ``normal.2.merge`` ... Both sources of a node may
    coincide. After a concatenation, a 1 x 1 convolution restores the cell's channels.
    """
    graphs: Template = {"net": two_inputs(settings, settings.stages, settings.cells)}
    slots: Template = {}
    for name in ("normal", "reduce"):
        edges = fitted()
        for node in range(2, settings.nodes + 2):
            earlier, at = [str(number) for number in range(node)], f"{name}.{node}"
            inside = str(node) if settings.merge == "add" else f"{node}.in"
            if settings.merge == "slot":
                slots[f"{at}.merge"] = {"among": ["add", "concat"]}
            for side in (0, 1):
                slots[f"{at}.in{side}"] = {"among": earlier}
                slots[f"{at}.op{side}"] = {"among": list(settings.operations)}
                link = edge(slot(f"{at}.in{side}"), inside, slot(f"{at}.op{side}"), f"{node}.{side}")
                outer, inner = earlier[:2], earlier[2:]  # a reduction cell halves the maps of its inputs
                halved = {"params": {"s": 2}} if name == "reduce" else {}
                edges.append({**link, **halved, "when": {f"{at}.in{side}": outer}})
                if inner:
                    edges.append({**link, "when": {f"{at}.in{side}": inner}})
            edges += _combined(settings, at, node)
        graphs[name] = two_input_cell(settings.nodes, edges, loose=True)
        graphs[name]["vertices"] |= _combinations(settings, name)
    return network(settings, graphs, slots)


def _combined(settings: ChosenPairs, at: str, node: int) -> list[Template]:
    """The edges from the combined inputs of a node to the node."""
    if settings.merge == "add":
        return []
    stacked = edge(f"{node}.in", str(node), "conv1", f"{node}.fit", c="$c")
    if settings.merge == "concat":
        return [stacked]
    summed = edge(f"{node}.in", str(node), "identity", f"{node}.sum")
    return [{**stacked, "when": {f"{at}.merge": ["concat"]}}, {**summed, "when": {f"{at}.merge": ["add"]}}]


def _combinations(settings: ChosenPairs, name: str) -> Template:
    nodes = range(2, settings.nodes + 2) if settings.merge != "add" else ()
    merge = {node: slot(f"{name}.{node}.merge") if settings.merge == "slot" else "concat" for node in nodes}
    return {f"{node}.in": merge[node] for node in nodes}


def fitted() -> list[Template]:
    """The edges that fit the two inputs of a cell to its channels and size, as vertices 0 and 1."""
    return [
        edge("p", "0", "fit", "fit0", c="$c", s="$s"),
        edge("q", "1", "fit", "fit1", c="$c", s=1),
    ]


def two_input_cell(nodes: int, edges: list[Template], *, loose: bool) -> Template:
    """A cell whose output concatenates its nodes: all of them or, if ``loose``, those that no other node reads."""
    names = [str(node) for node in range(2, nodes + 2)]
    vertices = dict.fromkeys(["0", "1", *names], "add") | {"y": "concat"}
    joins = [] if loose else [edge(name, "y", "identity") for name in names]
    graph = {"inputs": ["p", "q"], "output": "y", "vertices": vertices, "edges": [*edges, *joins]}
    return {**graph, "loose": names} if loose else graph


def two_inputs(settings: SpaceSettings, stages: int, cells: int) -> Template:
    """The graph of a network: a stem, cells that read the two previous cells, reductions between stages, and a head."""
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
    return {"vertices": {link["dst"]: "add" for link in edges}, "edges": edges}
