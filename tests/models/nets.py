"""Topologies to test with: by hand, and drawn at random."""

from typing import Any

from hypothesis import strategies as st

from katib_flow.models import Topology

OPERATIONS = ("none", "skip", "conv1", "conv3", "avg3")
PAIRS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def net(vertices: dict[str, str], edges: list[tuple[Any, ...]], **more: Any) -> dict[str, Any]:
    """Plain data of a network of (id, src, dst, op, params) edges; 4 channels come in, 4 logits go out."""
    made = [dict(zip(("id", "src", "dst", "op", "params"), each, strict=False)) for each in edges]
    inner = {"vertices": {**vertices, "y": "add"}, "edges": made}
    return {
        "schema": "topology/1",
        "input": {"shape": [4, 8, 8]},
        "output": {"classes": 4},
        "graphs": {"net": inner},
        **more,
    }


def mean(src: str) -> tuple[Any, ...]:
    """The last edge: what gives logits without parameters."""
    return ("out", src, "y", "global-mean")


def cell(code: tuple[int, ...], operations: tuple[str, ...] = OPERATIONS) -> Topology:
    """The cell of NAS-Bench-201 alone: 4 vertices, 6 edges."""
    edges = [(f"{a}{b}", f"{a or 'x'}", f"{b}", operations[op]) for (a, b), op in zip(PAIRS, code, strict=True)]
    return Topology.model_validate(net({"1": "add", "2": "add", "3": "add"}, [*edges, mean("3")]))


ADDED = ("skip", "conv3", "conv1", "avg3", "max3", "sep3", "dw3", "act", "bn")


@st.composite
def dags(draw: st.DrawFn, most: int = 5) -> dict[str, Any]:
    """Any small network whose vertices merge what fits: sums of equal shapes, or stacks fitted afterwards."""
    count, width = draw(st.integers(1, most)), draw(st.integers(3, 5))
    vertices: dict[str, str] = {"s": "add", "end": "add"}
    edges: list[tuple[Any, ...]] = [("stem", "x", "s", "conv3", {"c": width})]
    names = ["s"]
    for number in range(count):
        name, stacked = f"v{number}", draw(st.booleans())
        sources = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        target = f"{name}.in" if stacked else name
        vertices[target] = "concat" if stacked else draw(st.sampled_from(["add", "mean", "wsum"]))
        for place, source in enumerate(sources):
            edges.append((f"{name}.{place}", source, target, draw(st.sampled_from(ADDED))))
        if stacked:
            vertices[name] = "add"
            edges.append((f"{name}.fit", target, name, "conv1", {"c": width}))
        names.append(name)
    return net(vertices, [*edges, ("classes", names[-1], "end", "conv1", {"c": 4}), mean("end")])
