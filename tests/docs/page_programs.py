"""A table of what the Python blocks of the pages need in order to run, which the text around a block says in words.

A block is identified by its page and by a text that only it contains.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from page_blocks import ROOT, Block

SPEC = """\
name: pipeline-search
objective: {metric: accuracy, direction: maximize}
parameters: {lr: {type: float, min: 0, max: 1}}
algorithm: random
limits: {max_trials: 2, parallel_trials: 2}
trial: {container: {image: "registry.example.com/train:1", command: [train, "--lr=${lr}"]}}
argo: {image: "registry.example.com/katib-flow:1"}
tracking: {uri: "http://mlflow:5000"}
"""
SECTIONS = """
import katib_flow as kf
sections = {
    "name": "page",
    "objective": {"metric": "loss", "direction": "minimize"},
    "parameters": {"optimizer": {"type": "categorical", "values": ["adam", "sgd"]}},
    "limits": {"max_trials": 40},
    "trial": {"command": ["train"]},
}
"""
"""The sections of an experiment, for checks."""
FROM_ADAM = """
sections["parameters"]["momentum"] = {"type": "float", "min": 0, "max": 1, "when": {"optimizer": "sgd"}}
sections["parameters"]["steps"] = {"type": "int", "min": 1, "max": 9, "when": {"optimizer": "sgd"}}
spec = kf.Experiment.parse({**sections, "algorithm": {"name": "hill-climb", "settings": {"width": 0.5}}})
best = kf.Trial(kf.Suggestion(0, {"optimizer": "adam"}), kf.State.SUCCEEDED, {"loss": 1.0})
steps = [suggestion.assignment for suggestion in kf.suggest(spec, kf.History([best]), 16)]
assert {len(step) for step in steps} == {1, 3}, steps
assert all(0 <= step["momentum"] <= 1 for step in steps if "momentum" in step), steps
"""
"""Check steps from a trial with two inactive parameters; some of the steps make them active."""


@dataclass(frozen=True)
class Program:
    """How a block is run.

    Attributes:
        before: a program for what the text of the page has introduced.
        after: a program that checks the results of the block.
        replaced: replacements in the block, for shorter searches and for an ellipsis.
        files: files that the block reads, by name.
        needs: optional libraries; the test is skipped if one is missing.
    """

    before: str = ""
    after: str = ""
    replaced: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LATIN_HYPERCUBE = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)[0]

PROGRAMS: dict[tuple[str, str], Program] = {
    ("CONTRIBUTING.md", "def latin_hypercube"): Program(
        after=SECTIONS
        + """
spec = kf.Experiment.parse({**sections, "algorithm": "latin-hypercube"})
values = [suggestion.assignment["optimizer"] for suggestion in kf.suggest(spec, kf.History(), 4)]
assert sorted(values) == ["adam", "sgd"], values
"""
    ),
    ("CONTRIBUTING.md", "def test_every_part_of_the_range"): Program(
        before=LATIN_HYPERCUBE, after="\ntest_every_part_of_the_range_gets_one_trial()\n"
    ),
    ("CONTRIBUTING.md", "class TableFile"): Program(
        after="""
path = Path("metrics.csv")
path.write_text("loss,accuracy\\n0.5,0.9\\n0.4,0.")
table = TableFile(path)
metrics = list(table.read())
path.write_text("loss,accuracy\\n0.5,0.9\\n0.4,0.95\\n")
metrics += table.read(end=True)
values = [(metric.name, metric.value, metric.step) for metric in metrics]
assert values == [("loss", 0.5, 0), ("accuracy", 0.9, 0), ("loss", 0.4, 1), ("accuracy", 0.95, 1)], values
"""
    ),
    ("docs/algorithms.md", "class HillClimbSettings"): Program(after=SECTIONS + FROM_ADAM),
    ("docs/algorithms.md", "class Counting"): Program(
        after=SECTIONS
        + """
spec = kf.Experiment.parse({**sections, "algorithm": "counting"})
assert len(kf.suggest(spec, kf.History(), 4)) == 4
learner = Counting()
known = learner.learn(None, learner.begin(None), {"optimizer": "sgd"}, 0)
assert learner.unpack(None, learner.pack(known)) == {"sgd": 2, "adam": 1}
"""
    ),
    ("docs/argo.md", "deploy("): Program(files={"spec.yaml": SPEC}),
    ("docs/nas-results.md", "Table.load()"): Program(
        after="assert 0 <= table.regret(table.position(decisions)) < 1", needs=("torch",)
    ),
    ("docs/nas-systems.md", "measured_table(networks)"): Program(
        replaced={"range(3000)": "range(2)"},
        files={"examples/nas-mnasnet.yaml": (ROOT / "examples" / "nas-mnasnet.yaml").read_text()},
        needs=("torch",),
    ),
    ("docs/topology.md", "silu_conv"): Program(needs=("torch",)),
    ("docs/topology.md", 'merge("max"'): Program(
        after="assert maximum([torch.zeros(2), torch.tensor([-1.0, 1.0])]).tolist() == [0, 1]", needs=("torch",)
    ),
    ("docs/spaces.md", 'preset("twice"'): Program(
        after=SECTIONS
        + """
spec = kf.Experiment.parse({**sections, "architecture": "twice", "algorithm": "random"})
assert len({suggestion.assignment["first"] for suggestion in kf.suggest(spec, kf.History(), 4)}) == 2
"""
    ),
    ("docs/nas-trials.md", 'yield {"loss": validation_loss}'): Program(
        replaced={"...": "validation_loss = 1 / (1 + epoch)", "max_trials=40": "max_trials=1"},
        after="""
if __name__ == "__main__":
    assert train.run().best.observations["loss"] == 0.1
""",
        needs=("torch",),
    ),
    ("docs/growing.md", 'modify(topology, [{"edit": "widen"'): Program(
        before="""
import katib_flow as kf
edges = [
    {"id": "conv1", "src": "x", "dst": "a", "op": "conv3", "params": {"c": 8}},
    {"id": "conv2", "src": "a", "dst": "b", "op": "conv3"},
    {"id": "head", "src": "b", "dst": "y", "op": "head", "params": {"classes": 10}},
]
graph = {"vertices": {"a": "add", "b": "add", "y": "add"}, "edges": edges}
topology = kf.Topology.parse({"schema": "topology/1", "input": {"shape": [1, 8, 8]}, "output": {"classes": 10},
                              "root": "net", "graphs": {"net": graph}})
index, assignment, trial = 1, {}, kf.Trial(kf.Suggestion(0, {}))
""",
        after="assert child.parameters > topology.parameters",
    ),
    ("docs/simulator.md", "Simulator(programs"): Program(
        files={"spec.yaml": SPEC}, after='assert workflow.phase == "Succeeded", workflow.phase'
    ),
    ("docs/tutorial.md", "result.to_pandas()"): Program(
        replaced={"max_trials=20": "max_trials=2"}, needs=("pandas", "sklearn")
    ),
    ("docs/tune-pytorch.md", "load_model(network"): Program(
        replaced={"max_trials=20": "max_trials=4"}, needs=("torch", "safetensors", "sklearn")
    ),
    ("docs/trials.md", 'stopping_rule("diverged")'): Program(
        after=SECTIONS
        + """
from katib_flow.stopping import reason_to_stop
spec = kf.Experiment.parse({**sections, "early_stopping": "diverged"})
series = tuple(kf.Metric("loss", loss, step) for step, loss in enumerate((1.0, 5.0, 11.0)))
trials = [kf.Trial(kf.Suggestion(0, {}), kf.State.RUNNING, series={"loss": series[:known]}) for known in (2, 3)]
assert [reason_to_stop(spec, kf.History(), trial) for trial in trials] == ["", "its loss grew tenfold"]
"""
    ),
}

ELSEWHERE = {
    ("README.md", "python"): "tests/examples/test_examples.py",
    ("docs/callbacks.md", "python"): "tests/examples/test_callbacks_page.py",
    ("docs/nas-model.md", "python"): "tests/examples/test_from_search_to_model.py",
    ("docs/nas-model.md", "yaml"): "tests/examples/test_from_search_to_model.py",
    ("docs/python.md", "running = train.start()"): "tests/examples/test_python_page.py",
    ("docs/python.md", "with kf.ask_and_tell("): "tests/examples/test_python_page.py",
    ("docs/python.md", "from katib_flow.sklearn import KatibFlowSearchCV"): "tests/examples/test_python_page.py",
}
"""Blocks that another module runs: all blocks of a language on a page, or the block that contains a line."""


def elsewhere(block: Block) -> str | None:
    """The test module that runs a block; None if tests/docs runs it."""
    for (page, key), module in ELSEWHERE.items():
        if page == block.page and (key == block.language if key in ("python", "yaml") else key in block.text):
            return module
    return None
