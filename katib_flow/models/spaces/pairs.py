"""Two cells of the two cells before: nodes that add two chosen operations (Zoph et al., CVPR 2018)."""

from typing import Annotated

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


@preset("pairs", Pairs)
def pairs(settings: Pairs) -> Template:
    """A normal and a reduction cell of the two cells before; a node adds two chosen operations on two chosen nodes.

    Zoph et al., CVPR 2018; slots ``normal.2.in0``, ``normal.2.op0`` ... A node's two sources may be one.
    """
    graphs: Template = {"net": two_inputs(settings, settings.stages, settings.cells)}
    slots: Template = {}
    for name in ("normal", "reduce"):
        edges = fitted()
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
        graphs[name] = two_input_cell(settings.nodes, edges, loose=True)
    return network(settings, graphs, slots)


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
