"""Katib's ``nasConfig`` as a search space: a chain of layers, each one of the operations, and skips between them.

Reads: graphConfig (numLayers, inputSizes height x width x channels, outputSizes) and operations, each with parameters
of a feasible space. As in Katib, every combination of an operation's parameters is an operation to choose.
"""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.models.presets import SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import PlainData
from katib_flow.spec.problems import did_you_mean

_KINDS = {
    "convolution": "conv",
    "separable_convolution": "sep",
    "depthwise_convolution": "dw",
    "dilated_convolution": "dil",
    "max_pooling": "max",
    "avg_pooling": "avg",
    "skip_connection": "skip",
}
_PARAMS = {"filter_size": "k", "num_filter": "c", "stride": "s", "pool_size": "k", "pooling_size": "k"}


class NasConfig(SpaceSettings):
    graphConfig: PlainData = {}  # noqa: N815 - Katib's own names
    operations: Annotated[tuple[PlainData, ...], Field(min_length=1)]


@preset("katib", NasConfig)
def katib(settings: NasConfig) -> Template:
    """Katib's ``nasConfig``: a chain of layers, an operation and skips each; slots ``1.op``, ``2.skip0``."""
    graph = settings.graphConfig
    layers = int(graph.get("numLayers", 1))
    sizes = [int(each) for each in graph.get("inputSizes") or ()]
    shape = (sizes[2], sizes[0], sizes[1]) if len(sizes) == 3 else settings.shape
    classes = int((graph.get("outputSizes") or [settings.classes])[-1])
    operations = {name: op for number, each in enumerate(settings.operations) for name, op in _choices(number, each)}
    slots: Template = {}
    edges: list[Template] = [edge("x", "0", "conv", "stem", c=settings.channels, order="conv-bn-relu")]
    vertices = {"0": "add"}
    for layer in range(1, layers + 1):
        slots[f"{layer}.op"] = {"among": list(operations)}
        vertices |= {f"{layer}.in": "pad-concat", f"{layer}": "add"}
        for before in range(layer):
            made = edge(f"{before}", f"{layer}.in", "identity", f"{before}>{layer}")
            if before < layer - 1:
                slots[f"{layer}.skip{before}"] = {"among": [False, True]}
                made["when"] = {f"{layer}.skip{before}": [True]}
            edges.append(made)
        edges.append(edge(f"{layer}.in", f"{layer}", slot(f"{layer}.op"), f"{layer}.op"))
    edges.append(edge(f"{layers}", "y", "head", "head", classes=classes))
    sized = settings.model_copy(update={"shape": shape, "classes": classes})
    return network(sized, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, slots, operations=operations)


def _choices(number: int, data: PlainData) -> Iterator[tuple[str, Template]]:
    """Every combination of an operation's parameters, as an operation of its own."""
    kind = str(data.get("operationType", ""))
    where = f"architecture.settings.operations[{number}]"
    parameters = {str(each.get("name")): list(_feasible(each)) for each in data.get("parameters", ())}
    kinds = parameters.pop("reduction_type", ["max_pooling"]) if kind == "reduction" else [kind]
    parameters.pop("depth_multiplier", None)  # our separable convolutions have one
    for name in kinds:
        if name not in _KINDS:
            need = f"one of {', '.join(_KINDS)}, reduction{did_you_mean(name, _KINDS)}"
            raise InvalidSpec("", [SpecError(f"{where}.operationType", name, need)])
        for values in itertools.product(*parameters.values()):
            params = {_PARAMS[key]: value for key, value in zip(parameters, values, strict=True) if key in _PARAMS}
            if kind == "reduction":
                params.setdefault("s", 2)
            written = ",".join(f"{key}={value}" for key, value in params.items())
            yield f"{name}({written})", {"op": _KINDS[name], "params": params}


def _feasible(parameter: Any) -> Iterator[Any]:
    space = parameter.get("feasibleSpace", {})
    if "list" in space:
        for value in space["list"]:
            yield int(value) if str(value).lstrip("-").isdigit() else value
        return
    low, high, step = int(space.get("min", 1)), int(space.get("max", 1)), int(space.get("step", 1))
    yield from range(low, high + 1, step)
