"""An experiment from the WorkflowTemplate that a platform team installs, and as a step of somebody's pipeline."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments import MODULE, Cluster, experiment
from shapes import arguments, dag, pod, task, workflow

from katib_flow.argo.cluster import WORKFLOW
from katib_flow.argo.spec_text import encode_spec
from katib_flow.spec import dump_yaml
from katib_flow.testing.argo import Pod, Program, Result, Simulator
from katib_flow.tracking import Status, Store

pytestmark = pytest.mark.slow
TEMPLATES = Path(__file__).parents[2] / "workflow_templates"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def simulator(uri: str, tmp_path: Path) -> Simulator:
    workdir = tmp_path / "image"
    workdir.mkdir()
    (workdir / "simulated_user.py").write_text(MODULE)
    simulator = Cluster(uri, tmp_path, workdir).simulator()
    for folder in ("namespaced", "cluster-wide"):
        for each in yaml.safe_load_all((TEMPLATES / folder / "katib-flow.yaml").read_text()):
            simulator.cluster.create(each)
    return simulator


def test_a_spec_is_all_that_a_submit_from_the_template_needs(simulator: Simulator, uri: str) -> None:
    spec = dump_yaml(experiment(name="from-template").to_dict())
    own = {"workflowTemplateRef": {"name": "katib-flow"}, "arguments": arguments(spec=spec)}
    kind = {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": {"generateName": "katib-flow-"}}
    name = simulator.submit({**kind, "spec": own})
    simulator.run()
    caller, run = simulator.workflows.values()
    assert (caller.name, caller.phase, run.phase) == (name, "Succeeded", "Succeeded")
    store = Store(uri)
    record = store.keyed(run.name)
    assert record is not None
    assert (record.name, record.status, len(store.history(record))) == ("from-template", Status.SUCCEEDED, 7)
    assert len(caller.nodes) == 2  # it costs the caller a node, and its try


@pytest.mark.parametrize("cluster_wide", [False, True])
def test_an_experiment_is_a_step_of_a_pipeline_that_goes_on_with_its_best(
    simulator: Simulator, cluster_wide: bool
) -> None:
    got: list[dict[str, str]] = []
    programs = simulator.programs

    def with_deploy(made: Pod) -> Program:
        if made.template != "deploy":
            return programs(made)
        got.append(made.inputs)
        return Program(lambda each: Result())

    simulator.programs = with_deploy
    reference: dict[str, Any] = {"name": "katib-flow", "template": "run-experiment", "clusterScope": cluster_wide}
    spec = encode_spec(experiment(name="embedded", limits={"max_trials": 3, "parallel_trials": 3}))
    tune = {"name": "tune", "templateRef": reference, "arguments": arguments(spec=spec)}
    best = {name: f"{{{{tasks.tune.outputs.parameters.{name}}}}}" for name in ("best-parameters", "best-value")}
    main = dag("main", tune, task("deploy", given=best, depends="tune"))
    name = simulator.submit(workflow("main", main, pod("deploy", inputs=("best-parameters", "best-value"))))
    simulator.run()
    assert simulator[name].phase == "Succeeded"
    [found] = got
    assert json.loads(found["best-parameters"]) == {"x": float(found["best-value"])}
    assert 0.25 < float(found["best-value"]) < 0.26


def test_an_experiment_that_fails_fails_the_step_once(simulator: Simulator) -> None:
    failing = experiment(
        name="failing",
        trial={"function": "simulated_user:faulty"},
        parameters={"x": {"type": "float", "min": 0.9, "max": 1}},
        limits={"max_trials": 5, "max_failed_trials": 0},
    )
    reference = {"name": "katib-flow", "template": "run-experiment"}
    tune = {"name": "tune", "templateRef": reference, "arguments": arguments(spec=encode_spec(failing))}
    name = simulator.submit(workflow("main", dag("main", tune)))
    simulator.run()
    assert [each.phase for each in simulator.workflows.values()] == ["Failed", "Failed"]
    assert simulator.machine.started["run-experiment"] == 1
    assert len(simulator[name].nodes.attempts(simulator[name].nodes[f"{name}.tune"])) == 1
