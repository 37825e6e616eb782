"""Edits: how one network is changed into another, and which weights it takes over. NumPy only.

There are two kinds of edits. A *morphism* preserves the function that the network computes (up to rounding, with
normalisation in evaluation mode; Chen et al., "Net2Net", ICLR 2016; Elsken et al., 2017): ``widen``, ``deepen``,
``skip``, ``concat``, ``kernel``, ``branch``, ``insert``. The others (``prune``, ``remove``, ``set``, ``append``) only
preserve the weights of the layers that remain. Edits are plain data, and a child's topology lists those that made it
(``edits``), so its weights can be derived from the parent's again, bit for bit: random choices use the edit's own seed.
"""

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.models import layers
from katib_flow.models.channels import Channels, Vector, escaped, prefix, tensors
from katib_flow.models.draft import Draft
from katib_flow.models.edits import HOMOGENEOUS, Fields, edge_of, edit, ends_of, new_key, nonnegative, shape_after
from katib_flow.models.edits import edits as registered
from katib_flow.models.flat import FlatEdge
from katib_flow.models.inheritance import Array, alike, carried, fitted, places, unchanged
from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights
from katib_flow.spec.problems import NOTHING

importlib.import_module("katib_flow.models.stacking")  # registers concat
BN_EPSILON = 1e-5  # torch's


def morphisms() -> tuple[str, ...]:
    """The names of the edits that preserve the function."""
    return tuple(name for name, registered_edit in registered.all().items() if registered_edit.preserves)


def modify(parent: Topology, edits: Sequence[Fields]) -> Topology:
    """Apply edits to a topology, one after another; the result has its cells unrolled, and lists the edits.

    Raises:
        InvalidSpec: an edit is unknown, does not fit, or leads to a network that is not sound; it names the position.
    """
    child = parent
    for number, fields in enumerate(edits):
        child = _applied(child, fields, f"edits[{number}]")
    return child.model_copy(update={"edits": tuple(dict(fields) for fields in edits)})


def morph(parent: Topology, weights: Weights, edits: Sequence[Fields]) -> tuple[Topology, Weights]:
    """Apply edits to a topology and its weights, one after another.

    Raises:
        InvalidSpec: as in ``modify``.
    """
    current = parent
    for number, fields in enumerate(edits):
        child = _applied(current, fields, f"edits[{number}]")
        weights = registered.get(fields["edit"], "edit").transfer(current, weights, child, fields)
        current = child
    return current.model_copy(update={"edits": tuple(dict(fields) for fields in edits)}), weights


def inherited(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """The weights that a child takes over from its parent, as the child's ``weights`` says.

    ``inherit``: those that its edits transfer or, without edits, those of the layers that both have. ``shape``: every
    tensor of the same name and shape. ``edges``: those of edges with the same operation on the same vertex. ``fresh``:
    no weights.

    Raises:
        InvalidSpec: the child's edits, applied to this parent, lead to another topology.
    """
    if not weights or child.weights == "fresh":
        return {}
    if child.weights == "shape":
        return alike(parent, weights, child)
    if child.weights == "edges":
        return unchanged(parent, weights, child)
    if child.edits:
        derived, weights = morph(parent, weights, child.edits)
        if derived.hash != child.hash:
            raise InvalidSpec(
                "topology", [SpecError("edits", f"topology {derived.hash}", f"edits that give {child.hash}")]
            )
        return weights
    return carried(parent, weights, child)


def _applied(topology: Topology, fields: Fields, where: str) -> Topology:
    name = fields.get("edit", NOTHING)
    try:
        registered_edit = registered.get(name, f"{where}.edit")
    except SpecError as problem:
        raise InvalidSpec("topology", [problem]) from None
    try:
        child = registered_edit.apply(topology, fields)
        return child if isinstance(child, Topology) else child.topology()
    except KeyError as error:
        missing = SpecError(f"{where}.{error.args[0]}", NOTHING, f"a value, for {name}")
        raise InvalidSpec("topology", [missing]) from None
    except SpecError as problem:
        raise InvalidSpec("topology", [SpecError(f"{where}: {problem.where}", problem.found, problem.need)]) from None


# widen


def _widen_transfer(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    channels, times = _widened(parent, fields)
    shapes = {name: shape for name, (shape, _, _) in places(child).items()}
    new = dict(weights)
    for edge in parent.flat.live.edges:
        for step in channels.steps[edge.key]:
            rows, columns = _counts(channels, step.after, times), _counts(channels, step.before, times)
            for tensor in tensors(step):
                name = prefix(edge) + tensor.name
                if name in weights:
                    value = _repeated(weights[name], rows if tensor.rows else None, columns if tensor.columns else None)
                    new[name] = _padded(value, shapes[name])
    return new


def _repeated(tensor: Array, rows: NDArray[np.int_] | None, columns: NDArray[np.int_] | None) -> Array:
    """Repeat rows; repeat columns and divide them by the number of copies, so that their sum does not change."""
    if rows is not None:
        tensor = np.repeat(tensor, rows, axis=0)
    if columns is not None:
        divisor = columns.reshape(1, -1, *[1] * (tensor.ndim - 2))
        tensor = np.repeat((np.asarray(tensor, dtype=float) / divisor).astype(tensor.dtype), columns, axis=1)
    return tensor


def _padded(tensor: Array, shape: Sequence[int]) -> Array:
    """Append zeros for the additional hidden units of a wider squeeze-and-excite layer."""
    if tensor.shape == tuple(shape):
        return tensor
    return np.pad(tensor, [(0, wanted - have) for wanted, have in zip(shape, tensor.shape, strict=True)])


def _counts(channels: Channels, vector: Vector, times: Mapping[int, int]) -> NDArray[np.int_]:
    return np.array([times.get(channel_class, 1) for channel_class in channels.classes(vector)], dtype=int)


def _widened(parent: Topology, fields: Fields) -> tuple[Channels, dict[int, int]]:
    """How often to repeat each class of channels, so that the edge has ``to`` output channels."""
    edge = edge_of(parent, fields["edge"])
    channels = Channels(parent.flat.live, parent.shapes)
    steps = channels.steps.get(edge.key) or []
    if not steps:
        raise SpecError("edge", edge.key, "an operation with channels of its own")
    vector = channels.classes(steps[-1].after)
    target, rng = int(fields["to"]), np.random.default_rng(int(fields.get("seed", 0)))
    if target <= len(vector):
        raise SpecError("to", target, f"a number above {len(vector)}, the output channels of {edge.key}")
    times: dict[int, int] = {}
    missing, size = target - len(vector), Counter(vector)
    free = sorted(set(vector) - channels.fixed_classes)
    while missing:
        fitting = [one for one in free if size[one] <= missing]
        if not fitting:
            raise SpecError("to", target, f"a width that {edge.key} can have, because its channels are tied to others")
        chosen = fitting[int(rng.integers(len(fitting)))]
        times[chosen] = times.get(chosen, 1) + 1
        missing -= size[chosen]
    return channels, times


@edit("widen", _widen_transfer, preserves=True)
def _widen(parent: Topology, fields: Fields) -> Topology:
    """``{edit: widen, edge, to, seed}``: copy random output channels of an edge, and all channels tied to them."""
    channels, times = _widened(parent, fields)
    draft = Draft.of(parent)
    for edge in parent.flat.live.edges:
        steps = channels.steps[edge.key]
        if not steps:
            continue
        width = int(_counts(channels, steps[-1].after, times).sum())
        name = "features" if "features" in edge.params else "c"
        if edge.params.get(name) is not None:
            draft.edge(edge.key)["params"][name] = width
    child = draft.topology()
    _check_widths(child, channels, times)
    return child


def _check_widths(child: Topology, channels: Channels, times: Mapping[int, int]) -> None:
    for vertex, vector in channels.at.items():
        wanted, width = int(_counts(channels, vector, times).sum()), child.shapes[vertex][0]
        if width != wanted:
            raise SpecError(
                "edge", f"{width} channels at vertex {vertex}", f"{wanted}, set by parameters c of its operations"
            )


# deepen, skip, kernel, branch, insert


def _deepen_transfer(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    edge = edge_of(child, new_key(parent, fields["edge"], "deep"))
    new = dict(weights)
    channels = child.shapes[edge.src][0]
    for number, layer in enumerate(edge.layers):
        path = f"{prefix(edge)}{number}."
        if isinstance(layer, layers.Conv):
            kernel = np.zeros((channels, channels, *layer.kernel), dtype=np.float32)
            kernel[range(channels), range(channels), layer.kernel[0] // 2, layer.kernel[1] // 2] = 1
            new[f"{path}weight"] = kernel
        elif isinstance(layer, layers.Linear):
            new[f"{path}weight"] = np.eye(channels, dtype=np.float32)
        if isinstance(layer, layers.Linear) or (isinstance(layer, layers.Conv) and layer.bias):
            new[f"{path}bias"] = np.zeros(channels, dtype=np.float32)
        if isinstance(layer, layers.BatchNorm):
            new |= _identity_norm(path, channels)
    return new


def _identity_norm(path: str, channels: int) -> Weights:
    ones, zeros = np.ones(channels, dtype=np.float32), np.zeros(channels, dtype=np.float32)
    scale = np.full(channels, np.sqrt(1 + BN_EPSILON), dtype=np.float32)
    names: Weights = {"weight": scale, "bias": zeros, "running_mean": zeros.copy(), "running_var": ones}
    return {f"{path}{name}": value for name, value in {**names, "num_batches_tracked": np.array(0)}.items()}


@edit("deepen", _deepen_transfer, preserves=True)
def _deepen(parent: Topology, fields: Fields) -> Draft:
    """``{edit: deepen, edge, k}``: insert an identity layer after an edge; with ReLU if no value there is negative."""
    edge = edge_of(parent, fields["edge"])
    shape = shape_after(parent, edge)
    relu = nonnegative(parent, edge)
    if len(shape) == 1:
        op: dict[str, Any] = {"op": "dense", "params": {"features": shape[0], "act": "relu" if relu else "identity"}}
    else:
        order = "conv-bn-relu" if relu else "conv-bn"
        op = {"op": "conv", "params": {"c": shape[0], "k": int(fields.get("k", 3)), "order": order}}
    draft = Draft.of(parent)
    draft.after(edge.key, new_key(parent, edge.key, "deep"), op)
    return draft


def _skip_transfer(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    edge = edge_of(child, new_key(parent, f"{fields['src']}>{fields['dst']}", "skip"))
    new = dict(weights)
    for step in Channels(child.flat.live, child.shapes).steps[edge.key]:
        new |= {prefix(edge) + tensor.name: np.zeros(tensor.shape, dtype=np.float32) for tensor in tensors(step)}
    if child.flat.vertices[edge.dst] == "wsum":
        new |= _opened_gates(parent, weights, edge)
    return new


def _opened_gates(parent: Topology, weights: Weights, edge: FlatEdge) -> Weights:
    name = f"gates.{escaped(edge.dst)}"
    before = weights.get(name, np.ones(len(parent.flat.live.incoming[edge.dst]), dtype=np.float32))
    return {name: np.append(before, np.float32(1))}


@edit("skip", _skip_transfer, preserves=True)
def _skip(parent: Topology, fields: Fields) -> Draft:
    """``{edit: skip, src, dst}``: add a 1 x 1 convolution of zeros from a vertex to a later one that sums."""
    src, dst = ends_of(parent, fields)
    if parent.flat.vertices[dst] not in ("add", "wsum") or len(parent.shapes[src]) != 3 or len(parent.shapes[dst]) != 3:
        raise SpecError("dst", dst, "a vertex that sums maps, and a src with maps")
    before, after = parent.shapes[src], parent.shapes[dst]
    stride = -(-before[1] // after[1])
    params = {"c": after[0], "k": 1, "s": stride, "order": "conv"}
    draft = Draft.of(parent)
    draft.add(new_key(parent, f"{src}>{dst}", "skip"), src, dst, {"op": "conv", "params": params})
    if parent.flat.vertices[dst] == "wsum" and len(parent.flat.live.incoming[dst]) == 1:
        draft.vertices[dst] = "add"  # one edge alone has no gate
    return draft


def _kernel_transfer(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    new = dict(weights)
    for name, (shape, _, _) in places(child).items():
        if name in new and new[name].shape != shape:
            new[name] = fitted(new[name], shape[2:])
    return new


@edit("kernel", _kernel_transfer, preserves=True)
def _kernel(parent: Topology, fields: Fields) -> Draft:
    """``{edit: kernel, edge, k}``: enlarge the kernel of an edge with zeros around the old one."""
    edge = edge_of(parent, fields["edge"])
    kernels = [max(layer.kernel) for layer in edge.layers if isinstance(layer, layers.Conv)]
    if not kernels or int(fields["k"]) <= max(kernels):
        raise SpecError("k", fields["k"], f"a kernel larger than that of {edge.key} ({max(kernels, default=0)})")
    draft = Draft.of(parent)
    draft.set(edge.key, k=int(fields["k"]))
    return draft


def _branch_transfer(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    edge, twin = edge_of(parent, fields["edge"]), edge_of(child, new_key(parent, fields["edge"], "twin"))
    new = dict(weights)
    channels = Channels(parent.flat.live, parent.shapes)
    steps = channels.steps[edge.key]
    last = next(step for step in reversed(steps) if isinstance(step.layer, _SCALED))
    halved = {f"{last.path}weight", f"{last.path}bias"}
    for step in steps:
        for tensor in tensors(step):
            if (name := prefix(edge) + tensor.name) in weights:
                value: Any = weights[name]
                value = value * np.float32(0.5) if tensor.name in halved else value
                new[name], new[prefix(twin) + tensor.name] = value, value.copy()
    return new


_SCALED = (layers.BatchNorm, layers.Conv, layers.Linear)


@edit("branch", _branch_transfer, preserves=True)
def _branch(parent: Topology, fields: Fields) -> Draft:
    """``{edit: branch, edge}``: add a copy of an edge in parallel to it, and halve the outputs of both."""
    edge = edge_of(parent, fields["edge"])
    tail = list(edge.layers)
    while tail and (isinstance(tail[-1], HOMOGENEOUS) or tail[-1] == layers.Activation("relu")):
        tail.pop()
    if not tail or not isinstance(tail[-1], _SCALED):
        need = "an edge that ends with normalisation, a convolution or a dense layer, whose output can be halved"
        raise SpecError("edge", edge.key, need)
    draft = Draft.of(parent)
    draft.beside(edge.key, new_key(parent, edge.key, "twin"))
    return draft


def _kept(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    return dict(weights)


@edit("insert", _kept, preserves=True)
def _insert(parent: Topology, fields: Fields) -> Draft:
    """``{edit: insert, edge}``: insert an identity after an edge, at which a cell can grow."""
    edge = edge_of(parent, fields["edge"])
    draft = Draft.of(parent)
    draft.after(edge.key, new_key(parent, edge.key, "id"), {"op": "identity"})
    return draft
