"""``nasConfig`` of a Katib manifest -> an ``architecture`` for katib-flow's own NAS systems and trainer.

Katib's images search (DARTS) or train (ENAS) by themselves; here the systems of the same names replace them. ENAS
searches a chain of layers with skip connections, the space ``macro``; DARTS searches two cells, the space ``dense``.
A note says what these spaces cannot express.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.algorithms import typed
from katib_flow.spec.load import Note, Parsed
from katib_flow.spec.problems import NOTHING
from katib_flow.wording import counted, did_you_mean

AT = "spec.nasConfig"
DIGITS = (8, 8, 1)  # height, width, channels of the trainer's default images
MOST_LAYERS, MOST_NODES = 24, 8
_KINDS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "convolution": ("conv", (1, 3, 5, 7)),
    "separable_convolution": ("sep", (3, 5, 7)),
    "depthwise_convolution": ("dw", (3, 5, 7)),
    "dilated_convolution": ("dil", (3, 5)),
    "avg_pooling": ("avg", (3, 5)),
    "max_pooling": ("max", (3, 5)),
}
"""Native operations by Katib's names, with the kernel sizes that have a native name."""
_KNOWN = ("filter_size", "pool_size", "pooling_size", "num_filter", "stride", "reduction_type")
_SIZES = ("filter_size", "pool_size", "pooling_size")
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "enas": {
        "controller_hidden_size": "units",
        "controller_entropy_weight": "entropy",
        "controller_learning_rate": "controller_lr",
        "random_state": "seed",
    },
    "darts": {
        "num_epochs": "epochs",
        "w_lr": "lr",
        "w_lr_min": "lr_end",
        "w_momentum": "momentum",
        "w_weight_decay": "weight_decay",
        "w_grad_clip": "clip",
        "alpha_lr": "alpha_lr",
        "alpha_weight_decay": "alpha_weight_decay",
        "batch_size": "batch",
        "random_state": "seed",
    },
}
_OF_SPACE = ("init_channels", "num_nodes")


def own_search(parsed: Parsed, source: str = "") -> Parsed:
    """Translate the architecture search of a manifest; the caller must build and check the experiment of the result.

    Raises:
        InvalidSpec: the manifest searches no architecture, or none of its operations has a counterpart.
    """
    whole = manifest.Manifest.model_validate(parsed.manifest).spec
    if whole.get("nasConfig") is None:
        need = "an architecture to search, because of --own-nas; omit the option to search parameters only"
        raise InvalidSpec(source, [SpecError(AT, NOTHING, need)])
    config = manifest.NasConfig.model_validate(whole["nasConfig"])
    algorithm = manifest.Algorithm.model_validate(whole["algorithm"])
    own = _Own(config, algorithm, parsed, source)
    return own.parsed()


class _Own:
    """The translation of one manifest."""

    def __init__(self, config: manifest.NasConfig, algorithm: manifest.Algorithm, parsed: Parsed, source: str) -> None:
        self.config, self.algorithm, self.before, self.source = config, algorithm, parsed, source
        self.settings = {setting.name: setting.value for setting in algorithm.algorithm_settings}
        self.darts = algorithm.algorithm_name == "darts"
        kept = ("name", "parameters", "algorithm", "limits", "argo")
        self.data: dict[str, Any] = {key: parsed.data[key] for key in kept if key in parsed.data}
        self.notes: list[Note] = []

    def parsed(self) -> Parsed:
        self._objective()
        self._architecture()
        self._algorithm()
        self._rest()
        order = (
            "name",
            "objective",
            "additional_metrics",
            "parameters",
            "architecture",
            "algorithm",
            "limits",
            "trial",
        )
        spec = {key: self.data[key] for key in (*order, "argo") if self.data.get(key)}
        return Parsed(self.before.experiment, spec, tuple(self.notes), katib=True, manifest=self.before.manifest)

    def _note(self, where: str, text: str) -> None:
        self.notes.append(Note(where, text))

    def _objective(self) -> None:
        """A metric that the trainer reports: accuracy to maximize, or loss to minimize."""
        before = self.before.experiment.objective[0]
        metric, other = ("accuracy", "loss") if before.direction == "maximize" else ("loss", "accuracy")
        goal = {} if before.goal is None else {"goal": before.goal}
        self.data["objective"] = {"metric": metric, "direction": before.direction, **goal}
        self.data["additional_metrics"] = [other]
        if before.metric != metric:
            self._note("objective", f"{before.metric} in Katib; the trainer here reports accuracy and loss")

    def _architecture(self) -> None:
        graph = self.config.graph_config
        self._images(graph)
        settings = self._cells(graph) if self.darts else self._layers(graph)
        operations = list(dict.fromkeys(self._operations()))
        if not operations:
            names = [operation.operation_type for operation in self.config.operations]
            need = f"one of {', '.join(_KINDS)}, reduction or skip_connection{did_you_mean(names[0], _KINDS)}"
            raise InvalidSpec(self.source, [SpecError(f"{AT}.operations[0].operationType", names[0], need)])
        if self.darts:
            operations = ["none", *operations]  # Katib adds it too
        space = "dense" if self.darts else "macro"
        self.data["architecture"] = {"space": space, "settings": {**settings, "operations": operations}}

    def _images(self, graph: manifest.GraphConfig) -> None:
        """Add a note if the images are not the trainer's default ones."""
        sizes, classes = graph.input_sizes or DIGITS, (graph.output_sizes or (10,))[-1]
        if (tuple(sizes), classes) == (DIGITS, 10):
            return
        shape = f"[{', '.join(map(str, [*sizes[2:], *sizes[:2]]))}]"
        text = (
            f"Katib's trials read images of size {'x'.join(map(str, sizes))} in {classes} classes from the container "
            "image; this trial reads scikit-learn's digits. For other images, name a function that returns them, "
            f'trial: {{arguments: {{data: "module:function"}}}}, '
            f"and add the settings shape: {shape} and classes: {classes}"
        )
        self._note("architecture", text)

    def _layers(self, graph: manifest.GraphConfig) -> dict[str, Any]:
        """The settings of the space ``macro``."""
        layers = min(graph.num_layers, MOST_LAYERS)
        if layers < graph.num_layers:
            self._note("architecture", f"{graph.num_layers} layers in Katib; the maximum here is {layers}")
        thirds = {round(layers / 3), round(2 * layers / 3)} if layers > 2 else set[int]()
        if any(parameter.name == "stride" for parameter in self._parameters()) or self._reduces():
            where = f"after layers {' and '.join(map(str, sorted(thirds)))}" if thirds else "nowhere"
            self._note("architecture", f"strides are not searched here; feature maps are halved {where}")
        return {"layers": layers, **self._channels("num_filter"), "reductions": sorted(thirds)}

    def _channels(self, name: str) -> dict[str, Any]:
        """The channels of the first layers: the smallest number in the manifest."""
        counts = [
            int(value)
            for parameter in self._parameters()
            if parameter.name == name
            for value in parameter.feasible_space.values
            if re.fullmatch("[1-9][0-9]{0,3}", value)
        ]
        if len(set(counts)) > 1:
            listed = ", ".join(map(str, sorted(set(counts))))
            self._note("architecture", f"{name} is one of {listed} in Katib; it is not searched here")
        return {"channels": min(counts)} if counts else {}

    def _cells(self, graph: manifest.GraphConfig) -> dict[str, Any]:
        """The settings of the space ``dense``: stages of normal cells, with a reduction cell between stages."""
        layers = graph.num_layers
        stages = 1 if layers < 3 else 2 if layers < 5 else 3
        cells = max(1, (layers - stages + 1) // stages)
        if (count := stages * cells + stages - 1) != layers:
            text = f"{counted(layers, 'cell')} in Katib, {count} here: {cells} per stage, and reductions between stages"
            self._note("architecture", text)
        nodes = min(_count(self.settings, "num_nodes", 4), MOST_NODES)
        return {
            "nodes": nodes,
            "stages": stages,
            "cells": cells,
            "channels": _count(self.settings, "init_channels", 16),
        }

    def _parameters(self) -> Iterator[manifest.Parameter]:
        for operation in self.config.operations:
            yield from operation.parameters

    def _reduces(self) -> bool:
        return any(operation.operation_type == "reduction" for operation in self.config.operations)

    def _operations(self) -> Iterator[str]:
        """The native names of the operations, one for each kernel size."""
        for name in dict.fromkeys(parameter.name for parameter in self._parameters() if parameter.name not in _KNOWN):
            self._note(
                "architecture", f"left out the parameter {name} of operations, because it has no counterpart here"
            )
        for operation in self.config.operations:
            kind = operation.operation_type
            values = {parameter.name: _values(parameter) for parameter in operation.parameters}
            kinds = values.get("reduction_type", ["max_pooling"]) if kind == "reduction" else [kind]
            sizes = next((values[name] for name in _SIZES if name in values), ["3"])
            for name in kinds:
                if name == "skip_connection":
                    yield "skip"
                elif name in _KINDS:
                    yield from (self._sized(name, size) for size in sizes)
                else:
                    text = f"left out the operation {name!r}, because it is unknown here{did_you_mean(name, _KINDS)}"
                    self._note("architecture", text)

    def _sized(self, name: str, size: str) -> str:
        ours, sizes = _KINDS[name]
        wanted = int(size) if size.isdecimal() and len(size) < 5 else 3
        nearest = min(sizes, key=lambda known: (abs(known - wanted), known))
        if str(nearest) != size:
            text = f"{name} of size {size} x {size} becomes {ours}{nearest}, the nearest size available here"
            self._note("architecture", text)
        return f"{ours}{nearest}"

    def _algorithm(self) -> None:
        name = self.algorithm.algorithm_name
        if name not in _SETTINGS:
            return
        section: dict[str, Any] = {"name": name}
        settings: dict[str, Any] = {}
        for key, text in self.settings.items():
            ours = _SETTINGS[name].get(key)
            if ours == "seed":
                section["seed"] = typed(text)
            elif ours is not None and text != "None":
                settings[ours] = typed(text)
            elif not (self.darts and key in _OF_SPACE):
                self._note("algorithm", f"left out the setting {key}: {text!r}, because it has no counterpart here")
        if settings:
            section["settings"] = settings
        self.data["algorithm"] = section if len(section) > 1 else name

    def _rest(self) -> None:
        """The limits, the trial, and what remains of ``argo``."""
        self.data.pop("parameters", None)
        limits = dict(self.data.get("limits", {}))
        if self.algorithm.algorithm_name in _SETTINGS and (most := limits.pop("max_trials", None)) is not None:
            text = "the search is one trial, and each of the best networks (retrain) another"
            self._note("limits", f"left out maxTrialCount {most}: {text}")
        self.data["limits"] = limits
        argo = {key: value for key, value in self.data.get("argo", {}).items() if key in ("namespace", "labels")}
        self.data["argo"] = argo
        self.data["trial"] = {"arguments": {"epochs": 10}}
        text = "the built-in trainer builds and trains the networks, not the image of Katib's trial"
        self._note("trial", text)


def _values(parameter: manifest.Parameter) -> Sequence[str]:
    space = parameter.feasible_space
    if space.values:
        return space.values
    bounds = [int(text) if re.fullmatch("[0-9]{1,4}", text) else 1 for text in (space.min, space.max, space.step)]
    return [str(number) for number in range(bounds[0], bounds[1] + 1, max(1, bounds[2]))][:100]


def _count(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name, "")
    return int(text) if re.fullmatch("[1-9][0-9]{0,3}", text) else default
