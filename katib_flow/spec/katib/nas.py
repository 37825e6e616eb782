"""``nasConfig`` of a Katib manifest: trials get the same texts as in Katib, under the same names.

Katib's ENAS chooses an operation and skip connections for each layer, and writes them as ``[[3], [0, 1]]``: these
choices are parameters here. Its DARTS service chooses nothing: the trial's image receives the search space, and
searches by itself.
"""

import itertools
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.katib.sections import plain

AT = "spec.nasConfig"
MOST = 1000  # values of a parameter of an operation, and combinations of all operations
_DARTS: dict[str, Any] = {
    **{
        "num_epochs": 50,
        "w_lr": 0.025,
        "w_lr_min": 0.001,
        "w_momentum": 0.9,
        "w_weight_decay": 3e-4,
        "w_grad_clip": 5.0,
    },
    **{"alpha_lr": 3e-4, "alpha_weight_decay": 1e-3, "batch_size": 128, "num_workers": 4, "init_channels": 16},
    **{"print_step": 50, "num_nodes": 4, "stem_multiplier": 3},
}
"""Katib's default settings, which it passes to the trial together with those in the manifest."""


def architecture(draft: Draft, data: Any, algorithm: manifest.Algorithm | None) -> Mapping[str, str]:
    """Fill in the parameters that a ``nasConfig`` implies.

    Returns:
        The replacements of its references in ``trialParameters``, as text of the spec; empty without a ``nasConfig``.
    """
    draft.came("architecture", AT)
    if data is None:
        return {}
    config = draft.read(manifest.NasConfig, data, AT, unsound=["parameters", "architecture"])
    if config is None or algorithm is None:
        draft.unsound |= {"parameters", "algorithm", "architecture"}
        return {}
    draft.came("parameters", AT)
    return (_constants if algorithm.algorithm_name == "darts" else _decided)(draft, config, algorithm)


def _decided(draft: Draft, config: manifest.NasConfig, algorithm: manifest.Algorithm) -> Mapping[str, str]:
    """Parameters ``layer2.op``, the number of an operation, and ``layer2.skip0``, 1 for a skip from the input."""
    operations = _operations(draft, config)
    graph, parameters = config.graph_config, draft.data.setdefault("parameters", {})
    layers: list[str] = []
    for layer in range(1, graph.num_layers + 1):
        skips = [f"layer{layer}.skip{before}" for before in range(layer - 1)]
        parameters[f"layer{layer}.op"] = {"type": "categorical", "values": list(range(len(operations)))}
        parameters |= {skip: {"type": "categorical", "values": [0, 1]} for skip in skips}
        layers.append(", ".join(f"${{{name}}}" for name in (f"layer{layer}.op", *skips)))
    sizes = {"input_sizes": list(graph.input_sizes), "output_sizes": list(graph.output_sizes)}
    embedding = {str(operation["opt_id"]): operation for operation in operations}
    network = {"num_layers": graph.num_layers, **sizes, "embedding": embedding}
    return {"architecture": f"[[{'], ['.join(layers)}]]", "nn_config": _quoted(network)}


def _operations(draft: Draft, config: manifest.NasConfig) -> list[dict[str, Any]]:
    """Every combination of the parameters of each operation, numbered and described as in Katib."""
    combinations: list[dict[str, Any]] = []
    for number, operation in enumerate(config.operations):
        at = f"{AT}.operations[{number}].parameters"
        names = [parameter.name for parameter in operation.parameters]
        values = [
            _values(draft, parameter, f"{at}[{position}]") for position, parameter in enumerate(operation.parameters)
        ]
        if (count := len(combinations) + math.prod(map(len, values))) > MOST:
            need = f"at most {MOST} combinations in all operations together"
            draft.wrong(at, f"{count} combinations", need, unsound=["parameters"])
            continue
        for chosen in itertools.product(*values):
            params = dict(zip(names, chosen, strict=True))
            new = {"opt_id": len(combinations), "opt_type": operation.operation_type, "opt_params": params}
            combinations.append(new)
    return combinations


def _values(draft: Draft, parameter: manifest.Parameter, at: str) -> list[Any]:
    space = parameter.feasible_space
    if parameter.parameter_type in ("categorical", "discrete"):
        if not space.values:
            draft.wrong(f"{at}.feasibleSpace.list", list(space.values), "a list of values", unsound=["parameters"])
        return list(space.values)
    low, high, step = (_decimal(text) for text in (space.min, space.max, space.step or "1"))
    if low is None or high is None or step is None or step <= 0 or not 0 <= (high - low) / step < MOST:
        bounds = f"min {space.min!r}, max {space.max!r}, step {space.step!r}"
        need = f"numbers as text, with at most {MOST} steps from min to max"
        draft.wrong(f"{at}.feasibleSpace", bounds, need, unsound=["parameters"])
        return []
    number = int if parameter.parameter_type == "int" else float
    return [number(low + position * step) for position in range(int((high - low) / step) + 1)]


def _decimal(text: str) -> Decimal | None:
    return Decimal(text.strip()) if plain(text) is not None else None


def _constants(draft: Draft, config: manifest.NasConfig, algorithm: manifest.Algorithm) -> Mapping[str, str]:
    """Parameters with one value each: the texts that Katib passes to the image, which searches by itself."""
    settings = _DARTS | {
        setting.name: None if setting.value == "None" else setting.value for setting in algorithm.algorithm_settings
    }
    primitives = [name for operation in config.operations for name in _primitives(draft, config, operation)]
    texts = {
        "algorithm-settings": _quoted(settings),
        "search-space": _quoted(primitives),
        "num-layers": str(config.graph_config.num_layers),
    }
    draft.data.setdefault("parameters", {}).update(
        {name: {"type": "categorical", "values": [text]} for name, text in texts.items()}
    )
    draft.data["algorithm"] = "random"
    text = "darts searches inside the trial's image, which gets these texts from Katib; there is one trial to run"
    draft.note("algorithm", text)
    draft.note("objective", "a trial must print this metric as a number to succeed; Katib's own image prints a text")
    return {name: f"${{{name}}}" for name in texts}


def _primitives(draft: Draft, config: manifest.NasConfig, operation: manifest.Operation) -> list[str]:
    kind = operation.operation_type
    if kind == "skip_connection":
        return [kind]
    if not operation.parameters:
        at = f"{AT}.operations[{config.operations.index(operation)}].parameters"
        draft.wrong(at, [], "filter_size, a categorical parameter", unsound=["parameters"])
        return []
    return [f"{kind}_{size}x{size}" for size in operation.parameters[0].feasible_space.values]


def _quoted(data: Any) -> str:
    """JSON with single quotes, as Katib passes it to a trial."""
    return json.dumps(data).replace('"', "'")
