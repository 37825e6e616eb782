"""A recurrent cell as a tree (Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017)."""

from typing import Any, Literal

from katib_flow.models.presets import Template, TextSettings, edge, network, preset, slot

MERGES = ("add", "mul")
ACTIVATIONS = ("identity", "tanh", "sigmoid", "relu")


class Tree(TextSettings):
    """Settings of the space ``tree``."""

    leaves: Literal[2, 4, 8, 16] = 2
    """Leaves of the tree. The example of Zoph and Le (2017) has 2, their search 8."""


@preset("tree", Tree)
def tree(settings: Tree) -> Template:
    """A recurrent cell as a binary tree: how each node combines its two inputs, and its activation (NAS-RL).

    Zoph and Le, ICLR 2017, section 3.4. A leaf combines the token and the previous output, each with its own weights;
    any other node combines two earlier nodes, and the last node is the output. The second state is the value of node
    ``state.from`` before its activation; at the next token, it is combined with node ``state.to``. Slots ``0.merge``,
    ``0.act``, ...
    """
    features, nodes = settings.features, 2 * settings.leaves - 1
    vertices: dict[str, Any] = {"h": "add", "c": "add"}
    edges = [edge(str(nodes - 1), "h", "delay", "h", features=features)]
    slots: Template = {}
    for node in range(nodes):
        combined, activated, injected = f"{node}.in", f"{node}.out", f"{node}.state"
        slots |= {f"{node}.merge": {"among": list(MERGES)}, f"{node}.act": {"among": list(ACTIVATIONS)}}
        if node < settings.leaves:
            edges += [edge(src, combined, "linear", features=features, bias=False) for src in ("x", "h")]
        else:
            first = 2 * (node - settings.leaves)
            edges += [edge(str(src), combined, "identity") for src in (first, first + 1)]
        edges.append(edge(combined, activated, "act", f"{node}.act", name=slot(f"{node}.act")))
        here = {"when": {"state.to": [node]}}
        others = {"when": {"state.to": [other for other in range(nodes) if other != node]}}
        edges += [
            {**edge(activated, str(node), "identity"), **others},
            {**edge(activated, injected, "identity"), **here},
            {**edge("c", injected, "identity"), **here},
            {**edge(injected, str(node), "act", f"{node}.state.act", name=slot("state.act")), **here},
        ]
        vertices |= {combined: slot(f"{node}.merge"), activated: "add", injected: slot("state.merge"), str(node): "add"}
    slots |= {"state.merge": {"among": list(MERGES)}, "state.act": {"among": list(ACTIVATIONS)}}
    slots["state.to"] = {"among": list(range(nodes))}
    slots["state.from"] = {"among": [f"{node}.in" for node in range(nodes)]}
    edges += [
        edge(slot("state.from"), "c", "delay", "c", features=features),
        edge(str(nodes - 1), "y", "identity", "out"),
    ]
    cell = {"inputs": ["x"], "output": "y", "vertices": {**vertices, "y": "add"}, "edges": edges}
    outer = [
        edge("x", "e", "embed", "embed", features=features),
        edge("e", "h", "@cell", "cell"),
        edge("h", "y", "linear", "softmax", features=settings.tokens),
    ]
    return network(settings, {"net": {"vertices": dict.fromkeys("ehy", "add"), "edges": outer}, "cell": cell}, slots)
