"""Specs, Katib's manifests, Workflows, topologies: what a person writes."""

import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fuzz_mutate import as_json, changed, changed_text
from katib_manifests import CONTAINER_OF_MORE, GOOD, POD_OF_MORE, algorithm, good, parameter, with_job, with_spec
from kit import spec
from nets import mean, net

from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.argo.spec_text import decode_spec, encode_spec
from katib_flow.loop import check_algorithm, check_architecture, check_stopping
from katib_flow.models.drawing import svg
from katib_flow.models.presets import space_of
from katib_flow.models.topology import Topology
from katib_flow.spec import Experiment, dump_yaml
from katib_flow.spec.load import parse
from katib_flow.spec.written import write_spec

ROOT = Path(__file__).parents[2]
RULES = (check_architecture, check_algorithm, check_stopping)
FULL = spec(
    objective=[
        {"metric": "accuracy", "direction": "maximize", "goal": 0.9},
        {"metric": "loss", "direction": "minimize"},
    ],
    additional_metrics=["time"],
    parameters={
        "lr": {"type": "float", "min": 0.1, "max": 1.0, "step": 0.1, "scale": "log"},
        "layers": {"type": "int", "min": 1, "max": 3, "step": 1, "when": {"act": ["relu"]}},
        "act": {"type": "categorical", "values": ["relu", 1, None]},
        "size": {"type": "ordinal", "values": [1, 2.5, "x"]},
    },
    algorithm={"name": "nsga2", "seed": 1, "settings": {"population": 4}},
    initial=[{"lr": 0.1, "act": 1, "size": 1}],
    early_stopping={"name": "median", "settings": {"min_trials": 3}},
    limits={"max_trials": 5, "timeout": "1h", "trial_timeout": 3, "retries": 0, "parallel_trials": 2},
    trial={
        "container": {
            "image": "i",
            "command": ["c", "${lr}", "${trial.id}"],
            "env": {"A": "b"},
            "resources": {"limits": {"cpu": 1}},
        }
    },
    metrics={"source": "file", "path": "p", "filter": "(a)(b)", "strategy": {"loss": "min"}},
    tracking={"uri": "http://u", "experiment": "e", "register_model": "m"},
    argo={"namespace": "n", "mode": "lanes", "image": "i:1"},
)
PBT = spec(
    algorithm={"name": "pbt", "settings": {"n_population": 5}},
    budget={"parameter": "epochs", "min": 1, "max": 9, "eta": 3},
    trial={"command": ["python3", "x.py", "${lr}", "${epochs}"], "env": {"A": "${trial.directory}"}},
)


@cache
def native() -> tuple[str, ...]:
    """Texts of specs: the examples, those of the documentation, and two that say much."""
    texts = [path.read_text() for path in sorted(ROOT.glob("examples/*.yaml"))]
    for page in sorted(ROOT.glob("docs/*.md")):
        texts += re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    return (*texts, dump_yaml(FULL), dump_yaml(PBT))


@cache
def katib() -> tuple[Any, ...]:
    """Katib's manifests as plain data."""
    grown = {"minReplicas": 1}
    operations = [
        {"operationType": "convolution", "parameters": [parameter("filter_size", "categorical", list=["3", "5"])]}
    ]
    return (
        good(),
        with_job(CONTAINER_OF_MORE, POD_OF_MORE, {"backoffLimit": 2, "activeDeadlineSeconds": 60, **grown}),
        with_spec(algorithm=algorithm("bayesianoptimization", base_estimator="GP", n_initial_points="10")),
        with_spec(algorithm=algorithm("hyperband", r_l="9", eta="3", resource_name="lr")),
        with_spec(
            metricsCollectorSpec={
                "collector": {"kind": "File"},
                "source": {
                    "fileSystemPath": {"path": "/log", "kind": "File"},
                    "filter": {"metricsFormat": ["(a)=(b)"]},
                },
            },
            earlyStopping=algorithm("medianstop", min_trials_required="3"),
            parameters=[
                parameter("lr", "double", min="0.01", max="0.05", step="0.01"),
                parameter("n", "int", min="1", max="5"),
                parameter("o", "categorical", list=["sgd", "adam"]),
                parameter("d", "discrete", list=["1", "2.5"]),
            ],
        ),
        with_spec(
            parameters=None,
            algorithm=algorithm("enas", controller_hidden_size="64"),
            nasConfig={
                "graphConfig": {"numLayers": 4, "inputSizes": [32, 32, 3], "outputSizes": [10]},
                "operations": operations,
            },
        ),
    )


def _again(experiment: Experiment) -> None:
    data = experiment.to_dict()
    assert Experiment.parse(data) == experiment
    assert Experiment.parse(json.loads(json.dumps(data))) == experiment


class SpecTexts:
    """Texts of specs and manifests, changed as texts."""

    def make(self, rng: random.Random) -> str:
        texts = (*native(), GOOD, *(dump_yaml(each) for each in katib()[1:]))
        return changed_text(rng, rng.choice(texts), texts)

    def take(self, given: str) -> None:
        _again(parse(given, "fuzz.yaml", RULES).experiment)


class SpecData:
    """Specs, changed as data: what Python hands in."""

    def __init__(self) -> None:
        loaded = [yaml.safe_load(text) for text in native()]
        self.corpus = [each for each in loaded if isinstance(each, dict) and "objective" in each]

    def make(self, rng: random.Random) -> Any:
        return changed(rng, rng.choice(self.corpus), self.corpus)

    def take(self, given: Any) -> None:
        experiment = Experiment.parse(given, "fuzz", RULES)
        _again(experiment)
        assert parse(dump_yaml(experiment.to_dict()), "fuzz").experiment == experiment


class Manifests:
    """Katib's manifests, changed as data, as they come in YAML."""

    def make(self, rng: random.Random) -> Any:
        return changed(rng, rng.choice(katib()), katib())

    def take(self, given: Any) -> None:
        parsed = parse(as_json(given), "fuzz.yaml", RULES)
        if parsed.katib:
            assert parse(write_spec(parsed.data, parsed.notes), "written.yaml").experiment == parsed.experiment


class Workflows(SpecData):
    """Specs and manifests, changed as data; what is taken is compiled."""

    def make(self, rng: random.Random) -> Any:
        return changed(rng, *rng.choice([(rng.choice(self.corpus), self.corpus), (rng.choice(katib()), katib())]))

    def take(self, given: Any) -> None:
        if isinstance(given, dict) and "apiVersion" in given:
            experiment = parse(as_json(given), "fuzz", RULES).experiment
        else:
            experiment = Experiment.parse(given, "fuzz", RULES)
        text = to_yaml(compile_experiment(experiment))
        assert yaml.safe_load(text)["kind"] == "Workflow"
        assert decode_spec(encode_spec(experiment), "spec") == experiment


def _topologies() -> list[Any]:
    rng = np.random.default_rng(0)
    made: list[Any] = [net({"a": "add"}, [("1", "x", "a", "conv3", {"c": 4}), mean("a")])]
    for text in native():
        data = yaml.safe_load(text)
        if isinstance(data, dict) and isinstance(data.get("architecture"), dict) and "trial" in data:
            architecture = Experiment.parse(data).architecture
            assert architecture is not None
            space = space_of(architecture)
            made.append(space.topology(space.draw(rng)).to_dict())
    return [each for each in made if len(json.dumps(each)) < 20_000]


class Topologies:
    """Networks as data."""

    def __init__(self) -> None:
        self.corpus = _topologies()

    def make(self, rng: random.Random) -> Any:
        return changed(rng, rng.choice(self.corpus), self.corpus)

    def take(self, given: Any) -> None:
        topology = Topology.parse(given)
        assert Topology.parse(json.loads(json.dumps(topology.to_dict()))).hash == topology.hash
        assert topology.parameters >= 0
        assert topology.flops >= 0
        svg(topology)
