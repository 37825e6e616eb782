"""A topology -> a torch module. Of this package, only this file, ``modules`` and ``latency`` need torch.

A module's tensors are named after the path of their edge (``cell0.0/0>1``), so they can be matched with the edges of
another topology.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.models.channels import escaped
from katib_flow.models.flat import Flat, FlatEdge, spread
from katib_flow.models.layers import Layer, Shape, flow
from katib_flow.models.manager import load_model
from katib_flow.models.merges import merge_of
from katib_flow.models.modules import ChoiceWeights, MixedOperation, module_of
from katib_flow.models.topology import Topology
from katib_flow.models.weights import FILE, Weights, WeightsError, save_weights

State = Mapping[str, Tensor]
"""What each delay carries to the next token, shape (sequence, feature), by the key of its edge."""


class Provider(Protocol):
    """A source of weights that are not parameters of the network itself, such as a hypernetwork."""

    def module(self, edge: FlatEdge, layer: Layer, shape: Shape) -> nn.Module | None:
        """The module that computes a layer of an edge, or None if the layer has weights of its own, as most have.

        Args:
            shape: the shape of the layer's input, without the batch.
        """
        ...

    def chosen(self, weights: Mapping[str, ChoiceWeights | None]) -> None:
        """Provide the weights of this architecture from now on: the choices of the supernet have been set."""
        ...


def build(
    topology: Topology,
    *,
    seed: int | None = None,
    affine: bool = True,
    provider: Callable[[Topology], Provider] | None = None,
) -> "Network":
    """Build the torch module of a topology.

    Args:
        seed: for the initial weights; by default they are drawn from torch's global generator.
        affine: whether normalisation has a trained scale and shift; systems that train a supernet switch it off.
        provider: makes a provider of weights; a provider that is a module becomes part of the network and is trained
            with it.
    """
    kind = RecurrentNetwork if topology.input.tokens else Network
    if seed is None:
        return kind(topology, affine=affine, provider=provider(topology) if provider else None)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the generators of the GPUs
        return kind(topology, affine=affine, provider=provider(topology) if provider else None)


class Network(nn.Module):
    """A network as the flat graph of its topology.

    Attributes:
        topology: the topology that it was built from.
        operations: the module of each edge that computes something, by the name of its weights; edges that share
            weights share a module.
        architecture: the architecture weights of each group of mixed edges, shape (choice,); empty unless the network
            is a supernet.
        drop_path: how paths are dropped during training; None to drop none.
        provider: source of weights that are not the network's own; None for most networks.
        watch: called with the key of an edge and its output; see ``training.statistics``.
    """

    def __init__(self, topology: Topology, *, affine: bool = True, provider: Provider | None = None) -> None:
        super().__init__()
        self.provider = provider
        self.topology = topology
        self.flat: Flat = topology.flat.live
        self.shapes = topology.shapes
        self.operations = nn.ModuleDict()
        self.gates = nn.ParameterDict()
        self.architecture = nn.ParameterDict(
            {escaped(group): nn.Parameter(torch.zeros(len(names))) for group, names in self.flat.groups.items()}
        )
        self._names: dict[str, str] = {}
        self._mixed: dict[str, list[MixedOperation]] | None = None
        self._merges = {name: merge_of(merge) for name, merge in self.flat.vertices.items()}
        for edge in self.flat.edges:
            self._add(edge, affine=affine)
        for vertex, edges in self.flat.incoming.items():
            if self._merges[vertex].weighted and len(edges) > 1:
                self.gates[escaped(vertex)] = nn.Parameter(torch.ones(len(edges)))
        self.watch: Callable[[str, Tensor], None] | None = None
        self.drop_path: DropPath | None = None

    def _add(self, edge: FlatEdge, *, affine: bool) -> None:
        if edge.layers and not edge.dead and not edge.delayed:
            name = escaped(edge.weights)
            if name not in self.operations:
                given = partial(self.provider.module, edge) if self.provider is not None else None
                self.operations[name] = module_of(edge.layers, self.shapes[edge.src], affine=affine, given=given)
            self._names[edge.key] = name

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (batch, class), of images, shape (batch, channel, height, width)."""
        return self._logits(self.values(images), images)

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """The value of each vertex from the input to the output, shape (batch, ...)."""
        values: dict[str, Tensor] = {self.flat.input: images}
        self._compute(self.flat.vertices, values, {})
        return values

    def _compute(self, vertices: Iterable[str], values: dict[str, Tensor], state: State) -> None:
        """Add the values of further vertices, given in topological order, to ``values``."""
        for vertex in vertices:
            if edges := self.flat.incoming[vertex]:
                arriving = [self._through(edge, values, state) for edge in edges]
                values[vertex] = self._merged(vertex, arriving)

    def _logits(self, values: Mapping[str, Tensor], like: Tensor) -> Tensor:
        if self.flat.output not in values:  # nothing leads from input to output
            return like.new_zeros(like.shape[0], self.topology.output.classes)
        return values[self.flat.output]

    def _through(self, edge: FlatEdge, values: Mapping[str, Tensor], state: State) -> Tensor:
        if edge.delayed:
            return state[edge.key]
        if edge.dead:
            shape = flow(edge.layers, self.shapes[edge.src])[-1]
            like = next(iter({**state, **values}.values()))
            return like.new_zeros(like.shape[0], *shape)
        value = values[edge.src]
        if edge.key not in self._names:
            return value
        module = self.operations[self._names[edge.key]]
        if self.watch is None:
            return module(value)
        *before, last = module.children()
        normalises = isinstance(last, nn.BatchNorm2d | nn.BatchNorm1d)
        for layer in before:
            value = layer(value)
        out = last(value)
        self.watch(edge.key, value if normalises and before else out)  # after normalisation all features vary alike
        return out

    def _merged(self, vertex: str, arriving: Sequence[Tensor]) -> Tensor:
        if len(arriving) == 1:
            return arriving[0]
        if self.training and self.drop_path is not None:
            arriving = [self.drop_path(value) for value in arriving]
        merge = self._merges[vertex]
        return merge.apply(arriving, self.gates[escaped(vertex)]) if merge.weighted else merge.apply(arriving)

    def operation(self, edge: FlatEdge) -> nn.Module:
        """The module of an edge; an ``nn.Identity`` if the edge has no module of its own."""
        return self.operations[self._names[edge.key]] if edge.key in self._names else nn.Identity()

    def mixed(self) -> Mapping[str, Sequence[MixedOperation]]:
        """The mixed operations of a supernet, by group; empty for any other network."""
        if self._mixed is None:
            by_group: dict[str, list[MixedOperation]] = {}
            for module in self.modules():
                if isinstance(module, MixedOperation):
                    by_group.setdefault(module.group, []).append(module)
            self._mixed = by_group
        return self._mixed

    def choose(self, weights: Mapping[str, ChoiceWeights | None]) -> None:
        """Set the weights of the choices of each group.

        Gradients flow into the weights that require them: a softmax of ``architecture``, a Gumbel sample, or gates of
        some of the choices. A choice whose weight is exactly 0 and requires no gradient is not computed.
        """
        for group, operations in self.mixed().items():
            for operation in operations:
                operation.weights = weights.get(group)
        if self.provider is not None:
            self.provider.chosen(weights)

    def architecture_weights(self) -> Mapping[str, nn.Parameter]:
        """The architecture weights, by group; ``weights`` are all other parameters."""
        return {group: self.architecture[escaped(group)] for group in self.flat.groups}

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the architecture weights."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("architecture.")]


class RecurrentNetwork(Network):
    """A network that reads sequences of tokens, one token after another.

    Vertices that do not depend on the previous token, such as an embedding, are computed for all tokens at once; so are
    those on which no later token depends, such as the logits. Only the vertices in between are computed token by token.
    """

    def __init__(self, topology: Topology, *, affine: bool = True, provider: Provider | None = None) -> None:
        super().__init__(topology, affine=affine, provider=provider)
        edges, vertices = self.flat.edges, self.flat.vertices
        self._delays = [edge for edge in edges if edge.delayed]
        ends = {vertex for edge in self._delays for vertex in (edge.src, edge.dst)}
        pairs = [(edge.src, edge.dst) for edge in edges if not edge.delayed]
        after = spread({edge.dst for edge in self._delays}, pairs)
        inside = after & spread(ends, [(dst, src) for src, dst in reversed(pairs)])
        self._before = [vertex for vertex in vertices if vertex not in after]
        self._inside = [vertex for vertex in vertices if vertex in inside]
        self._after = [vertex for vertex in vertices if vertex in after - inside]
        read = {edge.src for edge in edges if edge.dst in inside or edge.delayed} - inside
        self._entering = [vertex for vertex in self._before if vertex in read]

    def forward(  # type: ignore[override]  # sequences are read in pieces, so the state is passed on
        self, tokens: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Read a piece of some sequences: the logits of its tokens, and the state for reading the next piece.

        Args:
            tokens: numbered from 0, shape (sequence, token), of type int64.
            state: the state that the call for the previous piece returned; None at the beginning of the sequences.

        Returns:
            The logits, shape (sequence, token, class), and the state, a tensor of shape (sequence, feature) per delay.
        """
        count, length = tokens.shape
        dtype = next((parameter.dtype for parameter in self.parameters()), torch.get_default_dtype())
        inputs = nn.functional.one_hot(tokens.flatten(), self.topology.input.size[0]).to(dtype)
        values: dict[str, Tensor] = {self.flat.input: inputs}
        self._compute(self._before, values, {})
        state = dict(state or {edge.key: inputs.new_zeros(count, *self.shapes[edge.src]) for edge in self._delays})
        entering = {vertex: values[vertex].unflatten(0, (count, length)).unbind(1) for vertex in self._entering}
        steps: list[dict[str, Tensor]] = []
        for token in range(length):
            now = {vertex: by_token[token] for vertex, by_token in entering.items()}
            self._compute(self._inside, now, state)
            state = {edge.key: now[edge.src] for edge in self._delays}
            steps.append(now)
        values |= {vertex: torch.stack([step[vertex] for step in steps], 1).flatten(0, 1) for vertex in self._inside}
        self._compute(self._after, values, {})
        return self._logits(values, inputs).unflatten(0, (count, length)), state


@dataclass(frozen=True)
class DropPath:
    """Drops, independently for each image, the value that an edge brings to a vertex with several incoming edges.

    Source: Larsson et al., "FractalNet", ICLR 2017; Zoph et al., CVPR 2018. The values kept are divided by 1 - rate,
    so that the expectation does not change.

    Attributes:
        rate: the probability of dropping a value, in [0, 1).
        generator: source of the random numbers, on the CPU.
    """

    rate: float
    generator: torch.Generator

    def __call__(self, value: Tensor) -> Tensor:
        """Return the value, shape (batch, ...), with the images dropped set to zero and the others scaled."""
        kept = torch.empty(len(value), *[1] * (value.dim() - 1)).bernoulli_(1 - self.rate, generator=self.generator)
        return value * (kept / (1 - self.rate)).to(value)


def load_network(directory: Path, *, seed: int | None = None) -> Network:
    """Load the network in a model's directory.

    Args:
        seed: for the tensors that the weights file lacks, as in ``build``.

    Raises:
        KatibFlowError: a file is missing or truncated, or the weights do not fit.
    """
    model = load_model(directory)
    network = build(model.topology, seed=seed)
    set_weights(network, model.weights)
    return network


def set_weights(network: Network, weights: Weights) -> None:
    """Load weights for some of a network's tensors.

    Raises:
        WeightsError: the network has no tensor of a name, or one of another shape.
    """
    own = network.state_dict()
    for name, value in weights.items():
        tensor, shape = own.get(name), tuple(value.shape)
        if tensor is None or tuple(tensor.shape) != shape:
            need = f"needs shape {tuple(tensor.shape)}" if tensor is not None else "has no tensor of this name"
            raise WeightsError(f"weights: {name} has shape {shape}, but the network {need}")
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()}, strict=False)


def weights_of(network: Network) -> Weights:
    """All tensors of a network, including buffers, by name, as copies on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def save_network(network: Network, directory: Path) -> None:
    """Write a network's weights into its model's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(directory / FILE, network.topology, weights_of(network))
