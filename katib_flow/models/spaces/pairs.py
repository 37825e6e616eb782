"""Two cells of the two cells before: nodes that add two chosen operations (Zoph et al., CVPR 2018)."""

from typing import Annotated, Literal

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import Count


class Pairs(SpaceSettings):
    nodes: Annotated[int, Field(ge=1, le=8)] = 4
    """Of a cell; each adds two operations on two earlier ones. Zoph et al. (2018) and Real et al. (2019) have 5."""
    operations: Operations = ("skip", "sep3", "sep5", "dil3", "avg3", "max3")
    cells: Count = 1
    """Normal cells in each stage."""
    stages: Annotated[int, Field(ge=1, le=4)] = 2


class ChosenPairs(Pairs):
    merge: Literal["add", "concat", "slot"] = "add"
    """How a node combines its two; with ``slot`` that is a decision of each, the fifth that Zoph et al. (2018) have."""


@preset("pairs", ChosenPairs)
def pairs(settings: ChosenPairs) -> Template:
    """A normal and a reduction cell of the two cells before; a node adds two chosen operations on two chosen nodes.

    Zoph et al., CVPR 2018; slots ``normal.2.in0``, ``normal.2.op0``, ``normal.2.merge`` ... A node's two sources may be
    one. What is stacked is brought back to the cell's channels by a 1 x 1 convolution.
    """
    graphs: Template = {"net": two_inputs(settings, settings.stages, settings.cells)}
    slots: Template = {}
    for name in ("normal", "reduce"):
        edges = fitted()
        for node in range(2, settings.nodes + 2):
            earlier, at = [str(each) for each in range(node)], f"{name}.{node}"
            inside = str(node) if settings.merge == "add" else f"{node}.in"
            if settings.merge == "slot":
                slots[f"{at}.merge"] = {"among": ["add", "concat"]}
            for side in (0, 1):
                slots[f"{at}.in{side}"] = {"among": earlier}
                slots[f"{at}.op{side}"] = {"among": list(settings.operations)}
                made = edge(slot(f"{at}.in{side}"), inside, slot(f"{at}.op{side}"), f"{node}.{side}")
                outer, inner = earlier[:2], earlier[2:]  # a reduction halves what comes from outside
                halved = {"params": {"s": 2}} if name == "reduce" else {}
                edges.append({**made, **halved, "when": {f"{at}.in{side}": outer}})
                if inner:
                    edges.append({**made, "when": {f"{at}.in{side}": inner}})
            edges += _combined(settings, at, node)
        graphs[name] = two_input_cell(settings.nodes, edges, loose=True)
        graphs[name]["vertices"] |= _combinations(settings, name)
    return network(settings, graphs, slots)


def _combined(settings: ChosenPairs, at: str, node: int) -> list[Template]:
    """From what a node has combined to the node."""
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
    """Both inputs of a cell brought to its channels and size; vertices 0 and 1 are the cells before."""
    return [
        edge("p", "0", "fit", "fit0", c="$c", s="$s"),
        edge("q", "1", "fit", "fit1", c="$c", s=1),
    ]


def two_input_cell(nodes: int, edges: list[Template], *, loose: bool) -> Template:
    """A cell whose output stacks its nodes: all of them, or the loose ends only."""
    names = [str(node) for node in range(2, nodes + 2)]
    vertices = dict.fromkeys(["0", "1", *names], "add") | {"y": "concat"}
    joins = [] if loose else [edge(name, "y", "identity") for name in names]
    made = {"inputs": ["p", "q"], "output": "y", "vertices": vertices, "edges": [*edges, *joins]}
    return {**made, "loose": names} if loose else made


def two_inputs(settings: SpaceSettings, stages: int, cells: int) -> Template:
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
