"""The latency of a network for one image: measured on this machine, or estimated from a table measured on a device.

A count of operations does not predict latency. A table has the milliseconds of each operation on a map of each shape,
as JSON: ``{"conv(c=8,k=3) on 8x16x16": 0.21, ...}``. The sum of its entries leaves out the time between operations, but
compares networks for a device that is not at hand (Tan et al., CVPR 2019, measure; Cai et al., ICLR 2019, sum).
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import from_json
from katib_flow.models.build import Network
from katib_flow.models.layers import Layer, Mixed, Shape, Zero
from katib_flow.models.modules import module_of
from katib_flow.models.operations import named
from katib_flow.models.topology import Topology

Table = Mapping[str, float]


@torch.no_grad()
def latency_seconds(network: Network, *, runs: int = 50, warm_up: int = 5, batch: int = 1) -> float:
    """Median time, in seconds, of a forward pass of an image or a token, in evaluation mode on one thread.

    Args:
        runs: number of timed passes.
        warm_up: number of passes before them that are not timed.
        batch: number of images or sequences in a pass.
    """
    device = next(network.parameters(), torch.empty(0)).device
    if (shape := network.topology.input.shape) is None:
        return _median(network, torch.zeros(batch, 1, dtype=torch.int64, device=device), runs, warm_up)
    return _median(network, torch.zeros(batch, *shape, device=device), runs, warm_up)


def _median(module: nn.Module, value: Tensor, runs: int, warm_up: int) -> float:
    threads, training = torch.get_num_threads(), module.training
    torch.set_num_threads(1)
    module.eval()
    try:
        for _ in range(warm_up):
            module(value)
        return statistics.median(_timed(module, value) for _ in range(runs))
    finally:
        torch.set_num_threads(threads)
        module.train(training)


def _timed(module: nn.Module, value: Tensor) -> float:
    start = time.perf_counter()
    module(value)
    if value.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def measured_table(topologies: Iterable[Topology], *, runs: int = 50, warm_up: int = 5) -> dict[str, float]:
    """Measure the milliseconds of every operation of some networks on this machine, each on its own.

    Each choice of a supernet's edge counts as an operation, so one supernet gives the table of a whole space.
    """
    table: dict[str, float] = {}
    for operation in (operation for topology in topologies for operation in operations_on_maps(topology)):
        if operation.entry not in table:
            module = module_of(operation.layers, operation.shape)
            table[operation.entry] = 1000 * _median(module, torch.zeros(1, *operation.shape), runs, warm_up)
    return table


def tabulated(topology: Topology, table: Table) -> float:
    """The latency of a network for one image, in milliseconds: the sum of its operations' entries in a table.

    Raises:
        KatibFlowError: the table lacks an operation of the network.
    """
    return sum(milliseconds(operations_on_maps(topology), table))


def milliseconds(operations: Iterable["OperationOnMap"], table: Table) -> list[float]:
    """The entry of each operation in a table.

    Raises:
        KatibFlowError: the table lacks one of the operations.
    """
    entries = [operation.entry for operation in operations]
    if missing := list(dict.fromkeys(entry for entry in entries if entry not in table)):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise KatibFlowError(
            f"latency: the table has no entry for {', '.join(missing[:3])}{more}; measure them with measured_table"
        )
    return [table[entry] for entry in entries]


@dataclass(frozen=True)
class OperationOnMap:
    """An operation on an input of a shape, for which a table has an entry.

    Attributes:
        name: the operation with its parameters, as one word.
        layers: its layers.
        shape: the shape of its input, such as (channel, height, width).
        choice: in a supernet, the group and the position of the choice that it is.
    """

    name: str
    layers: tuple[Layer, ...]
    shape: Shape
    choice: tuple[str, int] | None = None

    @property
    def entry(self) -> str:
        """Its key in a table: ``conv(c=8,k=3) on 8x16x16``."""
        return f"{self.name} on {'x'.join(map(str, self.shape))}"


def operations_on_maps(topology: Topology) -> Iterator[OperationOnMap]:
    """The operations of a network that take time: all but identities and zeros."""
    for edge in topology.flat.live.edges:
        shape = topology.shapes[edge.src]
        if edge.op == "mixed":
            (mixed,) = (layer for layer in edge.layers if isinstance(layer, Mixed))
            for position, (name, path) in enumerate(zip(mixed.names, mixed.paths, strict=True)):
                if path and not any(isinstance(layer, Zero) for layer in path):
                    yield OperationOnMap(name, path, shape, (mixed.group, position))
        elif edge.layers and not edge.dead and not edge.delayed:
            yield OperationOnMap(named({"op": edge.op, "params": edge.params}), edge.layers, shape)


def load_table(path: Path) -> Table:
    """Load a table from a file.

    Raises:
        KatibFlowError: the file cannot be read, or has other values than finite numbers of at least 0.
    """
    need = "need JSON that gives the milliseconds of each operation"
    try:
        table = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KatibFlowError(f"{path}: not a table of latencies ({error}); {need}") from None
    numbers = table.values() if isinstance(table, dict) else [None]
    for value in numbers:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise KatibFlowError(f"{path}: found {value!r}, {need}")
    return table
