"""Edits: how one network becomes another, and what of its weights the other takes over. NumPy only.

An edit keeps one of two promises. A *morphism* keeps the function that the network computes (to rounding, with
normalisation in evaluation mode; Chen et al., "Net2Net", ICLR 2016; Elsken et al., 2017): ``widen``, ``deepen``,
``skip``, ``concat``, ``kernel``, ``branch``, ``insert``. The others (``prune``, ``remove``, ``set``, ``append``) keep
the weights that still have a place. Edits are plain data, and a child's topology lists those that made it (``edits``),
so that its weights can be made again from the parent's, bit for bit: what is random comes from the edit's own seed.
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
    """Names of the edits that keep the function."""
    return tuple(name for name, each in registered.all().items() if each.preserves)


def modify(parent: Topology, edits: Sequence[Fields]) -> Topology:
    """The topology after some edits, its cells unrolled; it lists the edits.

    Raises:
        InvalidSpec: an edit is unknown, does not fit, or gives no sound network; by its position.
    """
    made = parent
    for number, each in enumerate(edits):
        made = _applied(made, each, f"edits[{number}]")
    return made.model_copy(update={"edits": tuple(dict(each) for each in edits)})


def morph(parent: Topology, weights: Weights, edits: Sequence[Fields]) -> tuple[Topology, Weights]:
    """The topology after some edits, with the weights that it takes over.

    Raises:
        InvalidSpec: as ``modify``.
    """
    made = parent
    for number, each in enumerate(edits):
        child = _applied(made, each, f"edits[{number}]")
        weights = registered.get(each["edit"], "edit").transfer(made, weights, child, each)
        made = child
    return made.model_copy(update={"edits": tuple(dict(each) for each in edits)}), weights


def inherited(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """What a child takes over from its parent's weights: by its edits, else the layers that both have.

    With ``weights: shape`` it is every tensor of the same name and shape, whatever leads to its layer; with ``weights:
    edges`` it is those of edges that have the same operation on the same vertex.

    Raises:
        InvalidSpec: its edits do not make it of this parent.
    """
    if not weights or child.weights == "fresh":
        return {}
    if child.weights == "shape":
        return alike(parent, weights, child)
    if child.weights == "edges":
        return unchanged(parent, weights, child)
    if child.edits:
        made, weights = morph(parent, weights, child.edits)
        if made.hash != child.hash:
            raise InvalidSpec(
                "topology", [SpecError("edits", f"topology {made.hash}", f"edits that give {child.hash}")]
            )
        return weights
    return carried(parent, weights, child)


def _applied(topology: Topology, each: Fields, where: str) -> Topology:
    name = each.get("edit", NOTHING)
    try:
        found = registered.get(name, f"{where}.edit")
    except SpecError as problem:
        raise InvalidSpec("topology", [problem]) from None
    try:
        child = found.apply(topology, each)
        return child if isinstance(child, Topology) else child.topology()
    except KeyError as error:
        missing = SpecError(f"{where}.{error.args[0]}", NOTHING, f"a value, for {name}")
        raise InvalidSpec("topology", [missing]) from None
    except SpecError as problem:
        raise InvalidSpec("topology", [SpecError(f"{where}: {problem.where}", problem.found, problem.need)]) from None


# widen


def _widen_transfer(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    made, times = _widened(parent, each)
    shapes = {name: shape for name, (shape, _, _) in places(child).items()}
    new = dict(weights)
    for edge in parent.flat.live.edges:
        for step in made.steps[edge.key]:
            rows, columns = _counts(made, step.after, times), _counts(made, step.before, times)
            for tensor in tensors(step):
                name = prefix(edge) + tensor.name
                if name in weights:
                    value = _repeated(weights[name], rows if tensor.rows else None, columns if tensor.columns else None)
                    new[name] = _padded(value, shapes[name])
    return new


def _repeated(tensor: Array, rows: NDArray[np.int_] | None, columns: NDArray[np.int_] | None) -> Array:
    """Rows copied; columns copied and divided by the number of copies, so that the sum over them is what it was."""
    if rows is not None:
        tensor = np.repeat(tensor, rows, axis=0)
    if columns is not None:
        divisor = columns.reshape(1, -1, *[1] * (tensor.ndim - 2))
        tensor = np.repeat((np.asarray(tensor, dtype=float) / divisor).astype(tensor.dtype), columns, axis=1)
    return tensor


def _padded(tensor: Array, shape: Sequence[int]) -> Array:
    """Zeros for hidden units that a wider squeeze-and-excite has more."""
    if tensor.shape == tuple(shape):
        return tensor
    return np.pad(tensor, [(0, wanted - have) for wanted, have in zip(shape, tensor.shape, strict=True)])


def _counts(made: Channels, vector: Vector, times: Mapping[int, int]) -> NDArray[np.int_]:
    return np.array([times.get(each, 1) for each in made.classes(vector)], dtype=int)


def _widened(parent: Topology, each: Fields) -> tuple[Channels, dict[int, int]]:
    """How often each class of channels is to stand, so that an edge gives ``to`` channels."""
    edge = edge_of(parent, each["edge"])
    made = Channels(parent.flat.live, parent.shapes)
    steps = made.steps.get(edge.key) or []
    if not steps:
        raise SpecError("edge", edge.key, "an operation with channels of its own")
    vector = made.classes(steps[-1].after)
    target, rng = int(each["to"]), np.random.default_rng(int(each.get("seed", 0)))
    if target <= len(vector):
        raise SpecError("to", target, f"more than the {len(vector)} channels that {edge.key} gives")
    times: dict[int, int] = {}
    missing, size = target - len(vector), Counter(vector)
    free = sorted(set(vector) - made.fixed_classes)
    while missing:
        fitting = [one for one in free if size[one] <= missing]
        if not fitting:
            raise SpecError("to", target, f"a width that {edge.key} can have: its channels are bound to others")
        chosen = fitting[int(rng.integers(len(fitting)))]
        times[chosen] = times.get(chosen, 1) + 1
        missing -= size[chosen]
    return made, times


@edit("widen", _widen_transfer, preserves=True)
def _widen(parent: Topology, each: Fields) -> Topology:
    """``{edit: widen, edge, to, seed}``: random channels are copied, and so are those that they are added to."""
    made, times = _widened(parent, each)
    draft = Draft.of(parent)
    for edge in parent.flat.live.edges:
        steps = made.steps[edge.key]
        if not steps:
            continue
        width = int(_counts(made, steps[-1].after, times).sum())
        name = "features" if "features" in edge.params else "c"
        if edge.params.get(name) is not None:
            draft.edge(edge.key)["params"][name] = width
    child = draft.topology()
    _check_widths(child, made, times)
    return child


def _check_widths(child: Topology, made: Channels, times: Mapping[int, int]) -> None:
    for vertex, vector in made.at.items():
        wanted, found = int(_counts(made, vector, times).sum()), child.shapes[vertex][0]
        if found != wanted:
            raise SpecError(
                "edge", f"{found} channels at vertex {vertex}", f"{wanted}, by parameters c of its operations"
            )


# deepen, skip, kernel, branch, insert


def _deepen_transfer(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    edge = edge_of(child, new_key(parent, each["edge"], "deep"))
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
def _deepen(parent: Topology, each: Fields) -> Draft:
    """``{edit: deepen, edge, k}``: a layer that does nothing yet after an edge; with ReLU where nothing is negative."""
    edge = edge_of(parent, each["edge"])
    shape = shape_after(parent, edge)
    relu = nonnegative(parent, edge)
    if len(shape) == 1:
        op: dict[str, Any] = {"op": "dense", "params": {"features": shape[0], "act": "relu" if relu else "identity"}}
    else:
        order = "conv-bn-relu" if relu else "conv-bn"
        op = {"op": "conv", "params": {"c": shape[0], "k": int(each.get("k", 3)), "order": order}}
    draft = Draft.of(parent)
    draft.after(edge.key, new_key(parent, edge.key, "deep"), op)
    return draft


def _skip_transfer(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    edge = edge_of(child, new_key(parent, f"{each['src']}>{each['dst']}", "skip"))
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
def _skip(parent: Topology, each: Fields) -> Draft:
    """``{edit: skip, src, dst}``: a 1 x 1 convolution of zeros from a vertex to a later one that sums."""
    src, dst = ends_of(parent, each)
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


def _kernel_transfer(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    new = dict(weights)
    for name, (shape, _, _) in places(child).items():
        if name in new and new[name].shape != shape:
            new[name] = fitted(new[name], shape[2:])
    return new


@edit("kernel", _kernel_transfer, preserves=True)
def _kernel(parent: Topology, each: Fields) -> Draft:
    """``{edit: kernel, edge, k}``: a larger kernel, zeros around the old one."""
    edge = edge_of(parent, each["edge"])
    kernels = [max(layer.kernel) for layer in edge.layers if isinstance(layer, layers.Conv)]
    if not kernels or int(each["k"]) <= max(kernels):
        raise SpecError("k", each["k"], f"a larger kernel than {edge.key} has ({max(kernels, default=0)})")
    draft = Draft.of(parent)
    draft.set(edge.key, k=int(each["k"]))
    return draft


def _branch_transfer(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    edge, twin = edge_of(parent, each["edge"]), edge_of(child, new_key(parent, each["edge"], "twin"))
    new = dict(weights)
    made = Channels(parent.flat.live, parent.shapes)
    steps = made.steps[edge.key]
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
def _branch(parent: Topology, each: Fields) -> Draft:
    """``{edit: branch, edge}``: a second edge like the first beside it, both halved."""
    edge = edge_of(parent, each["edge"])
    tail = list(edge.layers)
    while tail and (isinstance(tail[-1], HOMOGENEOUS) or tail[-1] == layers.Activation("relu")):
        tail.pop()
    if not tail or not isinstance(tail[-1], _SCALED):
        raise SpecError("edge", edge.key, "an operation whose end can be halved: normalisation, convolution or dense")
    draft = Draft.of(parent)
    draft.beside(edge.key, new_key(parent, edge.key, "twin"))
    return draft


def _kept(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    return dict(weights)


@edit("insert", _kept, preserves=True)
def _insert(parent: Topology, each: Fields) -> Draft:
    """``{edit: insert, edge}``: an identity after an edge, for a cell to grow at."""
    edge = edge_of(parent, each["edge"])
    draft = Draft.of(parent)
    draft.after(edge.key, new_key(parent, edge.key, "id"), {"op": "identity"})
    return draft
