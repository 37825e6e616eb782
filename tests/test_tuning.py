"""``kf.tune``: what users of ``KatibClient.tune`` call, on this machine and as a Workflow."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.argo.spec_text import decode_spec
from katib_flow.errors import InvalidSpec
from katib_flow.history import State
from katib_flow.spec.template import substitute_all
from katib_flow.testing.kubernetes import FakeCluster

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tune.md").read_text(encoding="utf-8")
SEARCHED = {"a": kf.search.int(min=1, max=4), "b": kf.search.double(min=0.5, max=1.0)}
OUTSIDE = 2


def objective(parameters):
    print(f"result={int(parameters['a']) + float(parameters['b'])}")


def returns(parameters):
    return {"result": parameters["a"], "half": parameters["a"] / 2}


def pushes(parameters):
    import kubeflow.katib as katib
    from kubeflow.katib import report_metrics

    report_metrics({"result": str(parameters["a"])}, timeout=3)
    assert katib.report_metrics is report_metrics


def sees(parameters):
    import os

    assert parameters == {"a": parameters["a"], "b": parameters["b"], "data": ["x"], "flag": None}
    assert list(parameters) == sorted(parameters)
    return len(os.environ["WORD"])


def needs_more(parameters):
    return parameters["a"] * OUTSIDE + json.loads("1")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    return tmp_path


def tune(of: Any = objective, **arguments: Any) -> Any:
    given = {"name": "x", "objective_metric_name": "result", "max_trial_count": 3, "parallel_trial_count": 1}
    return kf.tune(objective=of, **{"parameters": SEARCHED, **given, **arguments})


def on_argo(of: Any = objective, **arguments: Any) -> Any:
    """The experiment in the Workflow that is experiment."""
    workflow = tune(of, backend="argo", **arguments)
    given = {each["name"]: each["value"] for each in workflow.to_dict()["spec"]["arguments"]["parameters"]}
    return decode_spec(given["spec"], "spec")


def refusal(of: Any = objective, **arguments: Any) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        tune(of, **arguments)
    return str(caught.value).splitlines()


def printed(experiment: Any, **values: Any) -> str:
    """What a trial's container prints, run on this machine."""
    command = substitute_all(experiment.trial.container.command, values)
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# on this machine


def test_an_objective_of_katibs_prints_its_metric() -> None:
    result = tune()
    assert [trial.state for trial in result.trials] == [State.SUCCEEDED] * 3
    assert all(t.observations["result"] == t.assignment["a"] + t.assignment["b"] for t in result.trials)
    assert result.best.observations["result"] == max(trial.observations["result"] for trial in result.trials)


def test_an_objective_may_return_its_metrics() -> None:
    result = tune(returns, additional_metric_names=["half"], objective_type="minimize", max_trial_count=2)
    assert all(t.observations == {"result": t.assignment["a"], "half": t.assignment["a"] / 2} for t in result.trials)
    assert result.best.observations["result"] == min(t.observations["result"] for t in result.trials)


def test_an_objective_may_push_its_metrics_without_katibs_sdk() -> None:
    (trial,) = tune(pushes, metrics_collector_config={"kind": "Push"}, max_trial_count=1).trials
    assert (trial.state, trial.observations) == (State.SUCCEEDED, {"result": trial.assignment["a"]})


def test_an_objective_inside_of_a_function_is_called_with_constants_and_variables() -> None:
    outside = {"calls": 1}

    def inner(parameters: Any) -> int:
        return sees(parameters) + outside["calls"]

    given = {**SEARCHED, "data": ["x"], "flag": None}
    (trial,) = tune(inner, parameters=given, env_per_trial={"WORD": "four"}, max_trial_count=1).trials
    assert (trial.state, trial.observations) == (State.SUCCEEDED, {"result": 5.0})


def test_the_value_of_a_trial_is_its_best_as_in_katib() -> None:
    def down(parameters: Any) -> Any:
        yield from ({"result": value} for value in (1.0, 3.0, 2.0))

    assert tune(down, max_trial_count=1).trials[0].observations == {"result": 3.0}
    assert tune(down, max_trial_count=1, objective_type="minimize", name="y").trials[0].observations == {"result": 1.0}


def test_what_has_no_effect_here_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    tune(
        max_trial_count=1, base_image="python:3", resources_per_trial={"cpu": 1}, packages_to_install=["numpy"],
        pip_index_url="https://example.com", namespace="ml", retain_trials=True, algorithm_name="bayesianoptimization",
        algorithm_settings={"acq_func": "LCB", "random_state": 7}, submit=True, storage_config={"size": "1Gi"},
        env_per_trial=[SimpleNamespace(name="T", value_from=SimpleNamespace(secret_key_ref=SimpleNamespace(name="s", key="k")))],
    )  # fmt: skip
    notes = re.findall(r"note: (\w+): ", capfd.readouterr().err)
    assert notes == [
        *("algorithm_name", "retain_trials", "base_image", "namespace", "env_per_trial", "resources_per_trial"),
        *("packages_to_install", "pip_index_urls", "storage_config", "submit"),
    ]


def test_nothing_is_told_of_what_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    tune(max_trial_count=1)
    assert "note:" not in capfd.readouterr().err


# what it becomes


def test_katibs_names_are_translated_as_in_a_manifest() -> None:
    experiment = on_argo(
        algorithm_name="multivariate-tpe", algorithm_settings=[SimpleNamespace(name="n_startup_trials", value="5")],
        objective_type="minimize", objective_goal=0.5, max_failed_trial_count=2, trial_active_deadline_seconds=60,
        parallel_trial_count=None, namespace="ml",
    )  # fmt: skip
    assert (experiment.algorithm.name, experiment.algorithm.settings) == ("tpe", {"startup": 5})
    assert (experiment.objective[0].direction, experiment.objective[0].goal) == ("minimize", 0.5)
    limits = experiment.limits
    assert (limits.max_trials, limits.parallel_trials, limits.max_failed_trials, limits.trial_timeout) == (3, 3, 2, 60)
    assert (experiment.argo.namespace, experiment.metrics.strategy) == ("ml", {"result": "min"})


def test_parameters_of_katibs_sdk_are_taken() -> None:
    def of_sdk(kind: str, **space: Any) -> Any:
        return SimpleNamespace(parameter_type=kind, feasible_space=SimpleNamespace(**space))

    theirs = {
        "--lr": of_sdk("double", min="0.1", max="0.5", step=None, list=None),
        "act": of_sdk("categorical", list=["relu", "tanh"]),
        "n": kf.Int(1, 2),
    }
    experiment = on_argo(parameters=theirs)
    assert list(experiment.parameters) == ["lr", "act", "n"]
    assert experiment.parameters["lr"] == kf.Float(0.1, 0.5)

    (trial,) = tune(lambda_free, parameters=theirs, max_trial_count=1).trials
    assert trial.observations == {"result": trial.assignment["lr"]}


def lambda_free(parameters: Any) -> float:
    return parameters["--lr"]


def test_hyperband_has_its_resource_among_the_parameters_as_in_katib() -> None:
    experiment = on_argo(
        parameters={"lr": kf.search.double(0.1, 1), "epochs": kf.search.int(1, 9)}, max_trial_count=22,
        algorithm_name="hyperband", algorithm_settings={"resource_name": "epochs", "r_l": 9, "eta": 3},
        of=lambda_of_budget,
    )  # fmt: skip
    assert (experiment.budget.parameter, experiment.budget.max, experiment.budget.eta) == ("epochs", 9, 3)
    assert printed(experiment, lr=0.5, epochs=3) == "result=1.5\n"


def lambda_of_budget(parameters: Any) -> float:
    return parameters["lr"] * parameters["epochs"]


# mistakes


def test_every_mistake_is_told_by_its_argument() -> None:
    lines = refusal(
        name="x_", objective_type="max", parallel_trial_count=0, algorithm_name="hyperbond",
        parameters={**SEARCHED, "c": {1}}, metrics_collector_config={"kind": "File"}, env_per_trial=3,
        resources_per_trial=SimpleNamespace(num_workers=2), backend="aws", trainer_parameters=1,
    )  # fmt: skip
    assert [line.split(": ")[1] for line in lines] == [
        *("trainer_parameters", "backend", "parallel_trial_count", "objective_type", "metrics_collector_config"),
        *("env_per_trial", "resources_per_trial", "name", "parameters.c", "algorithm_name"),
    ]
    assert all(line.startswith("kf.tune: ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"of": None}, "objective: found nothing, need a function of one argument, the dict of parameters, defined with def"),
        ({"of": lambda p: 1}, "defined with def"),
        ({"of": lambda_of_budget, "parameters": {"c": 1}}, "parameters: found nothing, need at least one parameter, or an architecture to search"),
        ({"parameters": None}, "parameters: found nothing, need a dict from names to kf.search.double(...) and the like"),
        ({"max_trial_count": None}, "max_trial_count: found nothing, need a condition that ends the experiment: max_trials, a timeout, or a goal in objective"),
        ({"objective_metric_name": None}, "objective_metric_name: found nothing, need a value; it is required"),
        ({"trial_active_deadline_seconds": -1}, "trial_active_deadline_seconds: found -1.0, need a number above 0"),
        ({"parameters": {"a b": kf.search.int(1, 2)}}, "parameters: found 'a b', need a name of letters, digits, '_', '-' and '.' that starts with a letter or '_'"),
        ({"algorithm_name": "tpe", "algorithm_settings": {"n_ei_candidates": "many"}}, "algorithm_settings.n_ei_candidates: found 'many', need a whole number"),
        ({"algorithm_name": 3}, "algorithm_name: found 3, need text (quote it)"),
        ({"algorithm_settings": "x"}, "algorithm_settings: found 'x', need a dict from names to settings"),
        ({"env_per_trial": [{"value": 1}]}, "env_per_trial[0]: found {'value': 1}, need a name with a value or a key of a Secret, or a V1EnvFromSource of a Secret"),
        ({"resources_per_trial": "2"}, "resources_per_trial: found '2', need a dict with cpu, memory and gpu, or V1ResourceRequirements"),
    ],
)  # fmt: skip
def test_a_mistake_says_what_is_needed(arguments: dict[str, Any], message: str) -> None:
    (line,) = refusal(**arguments)
    assert message in line


def test_an_objective_that_takes_the_parameters_by_name_is_told_where_it_belongs() -> None:
    def by_name(a: int, b: float) -> float:
        return a * b

    (line,) = refusal(by_name)
    assert line == (
        "kf.tune: objective: found 'by_name(a: int, b: float) -> float', need a function of one argument, the dict of "
        "parameters; for a function that takes them by name, use kf.experiment"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kf.search.int(3, 1), "kf.search.int: min: found 3, need a number no greater than max, 1"),
        (lambda: kf.search.double(max=1), "kf.search.double: min: found nothing, need a value; it is required"),
        (lambda: kf.search.categorical([]), "kf.search.categorical: values: found [], need 1 or more items"),
    ],
)
def test_a_parameter_that_is_wrong_says_so_where_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        make()
    assert str(caught.value) == message


def test_search_makes_the_same_parameters_as_kf() -> None:
    assert kf.search.int(1, 9, 2) == kf.Int(1, 9, step=2)
    assert kf.search.double("0.1", "0.5", step="0.2") == kf.Float(0.1, 0.5, step=0.2)
    assert kf.search.categorical([16, "x"]) == kf.Categorical([16, "x"])


# on Argo


def test_a_container_without_katib_flow_calls_the_objective() -> None:
    experiment = on_argo()
    assert experiment.trial.container.image == "docker.io/pytorch/pytorch:2.2.1-cuda12.1-cudnn8-runtime"
    assert printed(experiment, a=3, b=0.5) == "result=3.5\n"


def test_a_container_gets_values_of_their_types_and_constants() -> None:
    def objective(parameters: Any) -> Any:
        from collections import Counter

        print(sorted(f"{key}={type(value).__name__}" for key, value in parameters.items()), Counter("${x}")["$"])
        return 1 if parameters["c"] == "$" else 0

    chosen = {"c": kf.search.categorical(["$", 1, True, "relu"]), "d": {"k": [1]}, "n": kf.search.int(1, 2)}
    experiment = on_argo(objective, parameters=chosen)
    assert printed(experiment, c="$", n=2) == "['c=str', 'd=dict', 'n=int'] 1\nresult=1.0\n"
    assert printed(experiment, c=True, n=2).startswith("['c=bool'")


def test_a_container_prints_what_the_objective_gives_back_or_pushes() -> None:
    def yields(parameters: Any) -> Any:
        yield {"result": 1, "word": "no number"}
        yield 2

    assert printed(on_argo(yields), a=1, b=1.0) == "result=1.0\nresult=2.0\n"
    assert printed(on_argo(pushes, metrics_collector_config={"kind": "Push"}), a=4, b=1.0) == "result=4.0\n"


def test_a_container_has_what_the_arguments_say() -> None:
    variables = [
        SimpleNamespace(name="A", value="1", value_from=None),
        {"name": "T", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        SimpleNamespace(prefix=None, secret_ref=SimpleNamespace(name="all"), config_map_ref=None),
    ]
    experiment = on_argo(
        base_image="python:3.12", resources_per_trial={"cpu": "2", "GPU": 1}, env_per_trial=variables,
        packages_to_install=["numpy==2.0"], pip_index_urls=["https://one", "https://two"],
    )  # fmt: skip
    amounts = {"cpu": "2", "nvidia.com/gpu": 1}
    assert (experiment.trial.container.image, experiment.trial.container.env) == ("python:3.12", {"A": "1"})
    assert experiment.trial.container.resources == {"requests": amounts, "limits": amounts}
    assert experiment.argo.trial.secrets["T"].secret == "hub"
    assert experiment.argo.trial.secret_sets == ("all",)
    settings = json.loads(experiment.trial.container.command[4])
    assert (settings["packages"], settings["index_urls"]) == (["numpy==2.0"], ["https://one", "https://two"])


def test_packages_are_installed_from_the_indices_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from katib_flow.trial import alone

    calls: list[list[str]] = []
    monkeypatch.setattr(alone.subprocess, "check_call", calls.append)
    alone.install([], ["https://one"])
    alone.install(["a", "b"], ["https://one", "https://two"])
    (call,) = calls
    assert call[call.index("--index-url") :] == [
        *("--index-url", "https://one", "--extra-index-url", "https://two", "--", "a", "b"),
    ]  # fmt: skip
    assert sys.path[0] == call[call.index("--target") + 1]


def test_what_an_objective_takes_from_outside_is_told_before_anything_is_submitted() -> None:
    (line,) = refusal(needs_more, backend="argo")
    assert "need a self-contained function" in line
    assert line.endswith("import or define OUTSIDE, json inside it")


def test_an_objective_whose_text_cannot_be_read_is_refused() -> None:
    scope: dict[str, Any] = {}
    exec("def hidden(parameters): return 1", scope)
    (line,) = refusal(scope["hidden"], backend="argo")
    assert line.startswith(
        "kf.tune: objective: found 'hidden', need a function defined with def whose source can be read"
    )


def test_a_workflow_is_submitted_where_there_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(namespace="ml")
    monkeypatch.setattr("katib_flow.argo.cluster.KubernetesCluster", lambda namespace, in_pod: cluster)
    assert tune(backend="argo", submit=False).name is None
    workflow = tune(backend="argo")
    assert cluster.get(("argoproj.io/v1alpha1", "Workflow"), workflow.name)["metadata"]["namespace"] == "ml"


def test_a_workflow_is_only_compiled_where_there_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    assert tune(backend="argo").name is None
    assert "note: backend: the Workflow was compiled, but not submitted: Kubernetes: found no" in capfd.readouterr().err
    with pytest.raises(kf.KatibFlowError, match="found no cluster"):
        tune(backend="argo", submit=True)


# the page


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), ids=["first", "ours", "argo"])
def test_the_page_runs_as_it_stands(code: str, here: Path) -> None:
    (here / "page.py").write_text(code)
    done = subprocess.run([sys.executable, "page.py"], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"'result': 7\d\.|t0000\d 0\.|kind: Workflow", done.stdout)


def test_the_page_names_every_argument() -> None:
    import inspect

    ours = {"store", "tracking_uri", "backend", "submit", "pip_index_url", "storage_config"}
    for name in inspect.signature(kf.tune).parameters.keys() - ours:
        assert f"`{name}`" in PAGE, name
