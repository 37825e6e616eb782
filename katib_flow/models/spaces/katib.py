"""Katib's ``nasConfig`` as a search space: a chain of layers, each with one of the operations, and skips between them.

Reads: graphConfig (numLayers, inputSizes as height x width x channels, outputSizes) and operations, whose parameters
have feasible spaces. As in Katib, every combination of an operation's parameters is an operation to choose from.
"""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from katib_flow.models.presets import SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import Count, Model, Scalar
from katib_flow.spec.problems import problem
from katib_flow.wording import did_you_mean

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
_POOLS = ("max_pooling", "avg_pooling")
_MOST = 1000  # the most values of a parameter


class FeasibleSpace(Model):
    """The values of a parameter: ``list``, or the numbers from ``min`` to ``max``."""

    list: tuple[Scalar, ...] = ()
    min: int = 1
    max: int = 1
    step: Count = 1

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not self.min <= self.max < self.min + _MOST * self.step:
            raise problem("max", self.max, f"a number from min, {self.min}, to less than {_MOST:,} steps above it")
        return self

    @property
    def values(self) -> Iterator[Any]:
        """All values, in order; whole numbers written as text are numbers."""
        if not self.list:
            yield from range(self.min, self.max + 1, self.step)
        for value in self.list:
            text = str(value)
            yield int(text) if text.lstrip("-").isdigit() else value  # Katib writes numbers as text


class Parameter(Model):
    """A parameter of an operation."""

    name: Literal[
        "filter_size", "num_filter", "stride", "pool_size", "pooling_size", "reduction_type", "depth_multiplier"
    ]
    parameterType: Literal["int", "double", "discrete", "categorical"] = "categorical"  # noqa: N815 - Katib's own names
    feasibleSpace: FeasibleSpace = FeasibleSpace()  # noqa: N815


class KatibOperation(Model):
    """An operation with its parameters; a reduction is the pooling that its ``reduction_type`` names."""

    operationType: Literal[  # noqa: N815
        "convolution",
        "separable_convolution",
        "depthwise_convolution",
        "dilated_convolution",
        "max_pooling",
        "avg_pooling",
        "skip_connection",
        "reduction",
    ]
    parameters: tuple[Parameter, ...] = ()

    @model_validator(mode="after")
    def _reduced(self) -> Self:
        for position, parameter in enumerate(self.parameters):
            for number, value in enumerate(parameter.feasibleSpace.list if parameter.name == "reduction_type" else ()):
                if value not in _POOLS:
                    where = f"parameters[{position}].feasibleSpace.list[{number}]"
                    raise problem(where, value, f"max_pooling or avg_pooling{did_you_mean(value, _POOLS)}")
        return self


class GraphConfig(Model):
    """The frame of the network: its layers, the size of an image, and the number of classes, which comes last."""

    numLayers: Count = 1  # noqa: N815
    inputSizes: tuple[Count, ...] = ()  # noqa: N815
    outputSizes: tuple[Count, ...] = ()  # noqa: N815


class NasConfig(SpaceSettings):
    """Settings of the space ``katib``: Katib's ``nasConfig``."""

    graphConfig: GraphConfig = GraphConfig()  # noqa: N815
    operations: Annotated[tuple[KatibOperation, ...], Field(min_length=1)]


@preset("katib", NasConfig)
def katib(settings: NasConfig) -> Template:
    """Katib's ``nasConfig``: a chain of layers, each with an operation and skips; slots ``1.op``, ``2.skip0``."""
    graph = settings.graphConfig
    layers, sizes = graph.numLayers, graph.inputSizes
    shape = (sizes[2], sizes[0], sizes[1]) if len(sizes) == 3 else settings.shape
    classes = (graph.outputSizes or (settings.classes,))[-1]
    operations = {name: op for operation in settings.operations for name, op in _choices(operation)}
    slots: Template = {}
    edges: list[Template] = [edge("x", "0", "conv", "stem", c=settings.channels, order="conv-bn-relu")]
    vertices = {"0": "add"}
    for layer in range(1, layers + 1):
        slots[f"{layer}.op"] = {"among": list(operations)}
        vertices |= {f"{layer}.in": "pad-concat", f"{layer}": "add"}
        for before in range(layer):
            link = edge(f"{before}", f"{layer}.in", "identity", f"{before}>{layer}")
            if before < layer - 1:
                slots[f"{layer}.skip{before}"] = {"among": [False, True]}
                link["when"] = {f"{layer}.skip{before}": [True]}
            edges.append(link)
        edges.append(edge(f"{layer}.in", f"{layer}", slot(f"{layer}.op"), f"{layer}.op"))
    edges.append(edge(f"{layers}", "y", "head", "head", classes=classes))
    sized = settings.model_copy(update={"shape": shape, "classes": classes})
    return network(sized, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, slots, operations=operations)


def _choices(operation: KatibOperation) -> Iterator[tuple[str, Template]]:
    """Every combination of an operation's parameters, as an operation of its own."""
    kind = operation.operationType
    parameters = {parameter.name: list(parameter.feasibleSpace.values) for parameter in operation.parameters}
    kinds = parameters.pop("reduction_type", ["max_pooling"]) if kind == "reduction" else [kind]
    parameters.pop("depth_multiplier", None)  # always 1 in our separable convolutions
    for name in kinds:
        for values in itertools.product(*parameters.values()):
            params = {_PARAMS[key]: value for key, value in zip(parameters, values, strict=True)}
            if kind == "reduction":
                params.setdefault("s", 2)
            written = ",".join(f"{key}={value}" for key, value in params.items())
            yield f"{name}({written})", {"op": _KINDS[name], "params": params}
