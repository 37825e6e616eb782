"""A Katib manifest -> the same experiment: objective, limits, algorithms, metrics; mistakes by their place in it."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from katib_manifests import (
    CONTAINER_OF_MORE,
    GOOD,
    POD_OF_MORE,
    Data,
    algorithm,
    good,
    mistakes,
    notes,
    parameter,
    parsed,
    refusals,
    with_job,
    with_spec,
)

from katib_flow.argo import compile_experiment
from katib_flow.errors import KatibFlowError
from katib_flow.loop import read
from katib_flow.spec import Experiment, parse_spec
from katib_flow.spec.written import write_spec

EXAMPLES = Path(__file__).parents[3] / "shared" / "katib-examples"


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_manifest_is_an_experiment():
    assert parsed(GOOD).experiment == Experiment.parse(
        {
            "name": "digits",
            "objective": {"metric": "loss", "direction": "minimize", "goal": 0.001},
            "parameters": {"lr": {"type": "float", "min": 0.01, "max": 0.05}},
            "algorithm": "random",
            "limits": {"max_trials": 12, "parallel_trials": 2, "max_failed_trials": 3},
            "trial": {"container": {"image": "train:1", "command": ["python3", "--lr=${lr}"]}},
            "metrics": {"strategy": {"loss": "min"}},
            "argo": {"namespace": "ml"},
        }
    )


def test_a_manifest_that_says_what_we_do_needs_no_notes():
    assert notes(parsed(GOOD)) == []


# mistakes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kubeflow.org/v1beta1", "kubeflow.org/v1alpha3", "1: apiVersion: found 'kubeflow.org/v1alpha3', need "
         "'kubeflow.org/v1beta1'; convert the manifest first, its goTemplate becomes a trialSpec"),
        ("kind: Experiment", "kind: Trial", "2: kind: found 'Trial', need 'Experiment'"),
        ("  name: digits\n", "", "3: metadata.name: found nothing, need a value; it is required"),
        ("name: digits", "name: Digits", "4: metadata.name: found 'Digits', need at most 45 lower-case letters and "
         "digits, with '-' between them, such as digits-mlp"),
        ("parallelTrialCount", "parallelTrialCounts", "13: spec.parallelTrialCounts: found 'parallelTrialCounts', need a "
         "known key, one of parameters, objective, algorithm, earlyStopping, trialTemplate, parallelTrialCount, maxTrialCount, "
         "maxFailedTrialCount, metricsCollectorSpec, nasConfig, resumePolicy; did you mean 'parallelTrialCount'?"),
        ("maxTrialCount: 12", "maxTrialCount: 0", "14: spec.maxTrialCount: found 0, need a number of at least 1"),
        ("type: minimize", "type: minimise", "8: spec.objective.type: found 'minimise', need 'minimize' or 'maximize'; did you "
         "mean 'minimize'?"),
        ("    objectiveMetricName: loss\n", "", "7: spec.objective.objectiveMetricName: found nothing, need a value; it "
         "is required"),
        ("algorithmName: random", "algorithmName: randum", "12: spec.algorithm.algorithmName: found 'randum', need an algorithm: "),
        ('min: "0.01"', 'min: "a bit"', "20: spec.parameters[0].feasibleSpace.min: found 'a bit', need a number as text, "
         "because it is a double"),
        ('min: "0.01"', 'min: "0.1"', "20: spec.parameters[0].feasibleSpace.min: found 0.1, need a number no greater than max, "
         "0.05"),
        ('        min: "0.01"\n', "", "19: spec.parameters[0].feasibleSpace.min: found '', need a number, because it is a "
         "double"),
        ("parameterType: double", "parameterType: float", "18: spec.parameters[0].parameterType: found 'float', need 'double', "
         "'int', 'categorical' or 'discrete'"),
        ("reference: lr", "reference: lrr", "26: spec.trialTemplate.trialParameters[0].reference: found 'lrr', need the name "
         "of a parameter; did you mean 'lr'?, or ${trialSpec.Name} and the like"),
        ("Parameters.learningRate", "Parameters.lr", "38: spec.trialTemplate.trialSpec.spec.template.spec.containers[0]."
         "command[1]: found '${trialParameters.lr}', need a name in trialParameters: learningRate"),
        ("primaryContainerName: training", "primaryContainerName: main", "23: spec.trialTemplate.primaryContainerName: found "
         "'main', need the name of a container of the Job: training"),
        ("                image: train:1\n", "", "34: spec.trialTemplate.trialSpec.spec.template.spec.containers[0].image: "
         "found nothing, need text (quote it)"),
        ("      apiVersion: batch/v1\n", "", "27: spec.trialTemplate.trialSpec.apiVersion: found nothing, need the "
         "apiVersion of the object, as text"),
        ("      kind: Job\n", "      kind: Job\n      metadata: {name: mine}\n", "30: spec.trialTemplate.trialSpec.metadata."
         "name: found 'mine', need no name, because each trial gets its own"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_its_place_in_the_manifest(old: str, new: str, message: str):
    (told,) = refusals(changed(old, new))
    assert told.startswith(f"k.yaml:{message}")


def test_all_mistakes_are_told_at_once():
    data = with_spec(
        objective={"type": "up", "objectiveMetricName": "loss"},
        parameters=[parameter("lr", "double", min="x", max="1"), parameter("n", "real", min="1", max="2")],
        algorithm=algorithm("tpe", n_EI_candidates="few"),
        earlyStopping=algorithm("medianstop", start_step="0"),
        metricsCollectorSpec={"collector": {"kind": "Stdout"}},
        maxFailedTrialCount=-1,
        nonsense=1,
    )
    data["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"] = [
        "train", "${trialParameters.depth}"
    ]  # fmt: skip
    places = sorted(line.split(": ")[0] for line in mistakes(data))
    assert places == [
        "spec.algorithm.algorithmSettings[0].value",
        "spec.earlyStopping.algorithmSettings[0].value",
        "spec.maxFailedTrialCount",
        "spec.metricsCollectorSpec.collector.kind",
        "spec.nonsense",
        "spec.objective.type",
        "spec.parameters[0].feasibleSpace.min",
        "spec.parameters[1].parameterType",
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].command[1]",
    ]


@pytest.mark.parametrize("section", ["objective", "algorithm", "trialTemplate"])
def test_a_section_that_is_not_there_is_told_once(section: str):
    assert mistakes(with_spec(**{section: None})) == [f"spec.{section}: found nothing, need a value; it is required"]


def places(node: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in below:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("wrong", ["text", 7, [[]], {"a": None}])
def test_nothing_that_stands_in_a_place_gives_a_traceback(wrong: object):
    whole = with_job(container=CONTAINER_OF_MORE, pod=POD_OF_MORE)
    template = whole["spec"]["trialTemplate"]["trialSpec"]
    template["metadata"] = {"labels": {"a": "b"}, "annotations": {"a": "b"}}
    template["spec"]["template"]["metadata"] = {"labels": {"sidecar.istio.io/inject": "no"}, "annotations": {"a": "b"}}
    whole["spec"]["metricsCollectorSpec"] = {
        "source": {"filter": {"metricsFormat": ["(a)(b)"]}, "fileSystemPath": {"path": "/a/b"}, "httpGet": {"port": 1}},
        "collector": {"kind": "StdOut"},
    }
    for *parents, last in places(whole):
        data = copy.deepcopy(whole)
        here: Data = data
        for key in parents:
            here = here[key]
        here[last] = wrong
        with contextlib.suppress(KatibFlowError):
            parsed(data)


def test_a_manifest_as_the_cluster_gives_it_back_is_read():
    data = good()
    data["metadata"] |= {"uid": "7", "resourceVersion": "12", "annotations": {"kubectl": "..."}, "finalizers": ["x"]}
    data["status"] = {"trials": 3}
    data["spec"]["trialTemplate"] |= {"successCondition": "x", "failureCondition": "y"}
    assert parsed(data).experiment == parsed(GOOD).experiment


# objective, limits


def test_the_best_value_counts_where_katib_is_told_nothing():
    objective = {"type": "maximize", "objectiveMetricName": "auc", "additionalMetricNames": ["loss", "f 1"]}
    experiment = parsed(with_spec(objective=objective)).experiment
    assert experiment.metrics.strategy == {"auc": "max", "loss": "max", "f 1": "max"}
    assert experiment.additional_metrics == ("loss", "f 1")
    assert experiment.objective[0].goal is None


def test_metric_strategies_are_kept():
    strategies = [{"name": "loss", "value": "latest"}, {"name": "gone", "value": "max"}]
    objective = {"type": "minimize", "objectiveMetricName": "loss", "metricStrategies": strategies}
    read = parsed(with_spec(objective=objective))
    assert read.experiment.metrics.strategy == {"loss": "latest"}
    assert notes(read) == ["metrics.strategy: left out 'gone', because it is not a metric of this experiment"]


def test_katibs_defaults_are_written_down():
    read = parsed(with_spec(parallelTrialCount=None, maxFailedTrialCount=None))
    assert read.data["limits"] == {"max_trials": 12, "parallel_trials": 3, "max_failed_trials": 12}
    assert notes(read) == ["limits.max_failed_trials: without maxFailedTrialCount, Katib has no such limit"]


def test_an_experiment_without_an_end_is_refused():
    data = with_spec(maxTrialCount=None, objective={"type": "minimize", "objectiveMetricName": "loss"})
    (told,) = mistakes(data)
    assert told.startswith("spec.maxTrialCount: found nothing, need a condition that ends the experiment")


def test_a_resume_policy_is_told_to_be_needless():
    assert notes(parsed(with_spec(resumePolicy="FromVolume"))) == [
        "limits: resumePolicy FromVolume: here any experiment can be resumed, with katib-flow resume NAME"
    ]
    assert notes(parsed(with_spec(resumePolicy="Never"))) == []


# algorithms


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (algorithm("random", random_state="7"), {"name": "random", "seed": 7}),
        (algorithm("sobol"), "sobol"),
        (algorithm("tpe", n_EI_candidates="24", random_state="1"),
         {"name": "tpe", "seed": 1, "settings": {"candidates": 24}}),
        (algorithm("multivariate-tpe", n_startup_trials="5"), {"name": "tpe", "settings": {"startup": 5}}),
        (algorithm("bayesianoptimization", n_initial_points="4", base_estimator="GP", random_state="10"),
         {"name": "gp", "seed": 10, "settings": {"startup": 4}}),
        (algorithm("cmaes", restart_strategy="bipop", sigma="0.2"),
         {"name": "cmaes", "settings": {"restart_strategy": "bipop", "sigma": 0.2}}),
        (algorithm("gp", startup="9"), {"name": "gp", "settings": {"startup": 9}}),  # ours by its own name
    ],
)  # fmt: skip
def test_algorithms_have_counterparts(theirs: Data, ours: object):
    read = parsed(with_spec(algorithm=theirs))
    assert read.data["algorithm"] == ours
    assert notes(read) == []


def test_a_setting_without_a_counterpart_is_told_and_left_out():
    read = parsed(with_spec(algorithm=algorithm("bayesianoptimization", base_estimator="RF", acq_optimizer="auto")))
    assert read.data["algorithm"] == "gp"
    assert notes(read) == [
        "algorithm: left out the setting base_estimator: 'RF', because the model is always a Gaussian process",
        "algorithm: left out the setting acq_optimizer: 'auto', because it has no counterpart here",
    ]


def test_a_setting_that_is_wrong_is_told_by_its_place():
    assert mistakes(with_spec(algorithm=algorithm("cmaes", restart_strategy="none", sigma="-1"))) == [
        "spec.algorithm.algorithmSettings[1].value: found -1, need a number above 0"
    ]
    assert mistakes(with_spec(algorithm=algorithm("random", random_state="seven"))) == [
        "spec.algorithm.algorithmSettings[0].value: found 'seven', need a whole number"
    ]


def test_a_grid_needs_steps_as_in_katib():
    (told,) = mistakes(with_spec(algorithm=algorithm("grid")))
    assert told.startswith("spec.parameters[0]: found 'a float without a step', need a step")


def hyperband(**values: str) -> Data:
    data = with_spec(
        algorithm=algorithm("hyperband", **values),
        parameters=[*good()["spec"]["parameters"], parameter("epochs", "int", min="1", max="9")],
    )
    data["spec"]["trialTemplate"]["trialParameters"].append({"name": "n", "reference": "epochs"})
    return data


def test_hyperbands_resource_is_a_budget():
    read = parsed(hyperband(resource_name="epochs", eta="3", r_l="9", s_max="2"))
    assert read.data["algorithm"] == "hyperband"
    assert read.data["budget"] == {"parameter": "epochs", "min": 1, "max": 9, "eta": 3}
    assert list(read.data["parameters"]) == ["lr"]


def test_the_budget_reaches_the_trial_under_the_name_it_had():
    data = hyperband(resource_name="epochs", r_l="9")
    container = data["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["--epochs=${trialParameters.n}"]
    assert parsed(data).data["trial"]["container"]["args"] == ["--epochs=${epochs}"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r_l": "9"}, "found nothing, need the setting resource_name, the name of a parameter"),
        (
            {"resource_name": "epochs", "r_l": "9" * 400},
            f"found 'r_l: {'9' * 400}', need the setting r_l, a number of at least 1",
        ),
        ({"resource_name": "epoch", "r_l": "9"}, "found 'epoch', need the setting resource_name, the name of a parameter; "
         "did you mean 'epochs'?"),
        ({"resource_name": "epochs"}, "found nothing, need the setting r_l, a number of at least 1"),
        ({"resource_name": "epochs", "r_l": "0.5"}, "found 'r_l: 0.5', need the setting r_l, a number of at least 1"),
    ],
)  # fmt: skip
def test_hyperband_says_what_it_lacks(values: dict[str, str], message: str):
    assert mistakes(hyperband(**values)) == [f"spec.algorithm.algorithmSettings: {message}"]


def test_median_stop_has_a_counterpart():
    read = parsed(with_spec(earlyStopping=algorithm("medianstop", min_trials_required="1", start_step="2")))
    assert read.data["early_stopping"] == {"name": "median", "settings": {"min_trials": 1, "start_step": 2}}
    assert mistakes(with_spec(earlyStopping={"algorithmName": "meanstop"}))[0].startswith(
        "spec.earlyStopping.algorithmName: found 'meanstop', need an early-stopping rule"
    )


# metrics


@pytest.mark.parametrize(
    ("kind", "source", "ours"),
    [
        (None, {"filter": {"metricsFormat": [r"(\w+)=(.*)"]}}, {"source": "stdout", "filter": r"(\w+)=(.*)"}),
        ("StdOut", {"filter": {"metricsFormat": ["(a)(b)", "(c)(d)"]}}, {"source": "stdout", "filter": ["(a)(b)", "(c)(d)"]}),
        ("File", {"fileSystemPath": {"path": "/out/m.json", "kind": "File", "format": "JSON"}},
         {"source": "file", "path": "/out/m.json", "format": "json"}),
        ("File", {}, {"source": "file", "path": "/var/log/katib/metrics.log"}),
        ("TensorFlowEvent", {"fileSystemPath": {"path": "/logs", "kind": "Directory"}}, {"source": "tensorboard", "path": "/logs"}),
        ("TensorFlowEvent", {}, {"source": "tensorboard", "path": "/var/log/katib/tfevent/"}),
        ("PrometheusMetric", {"httpGet": {"port": 9090}}, {"source": "prometheus", "port": 9090, "path": "/metrics"}),
        ("PrometheusMetric", {}, {"source": "prometheus", "port": 8080, "path": "/metrics"}),
    ],
)  # fmt: skip
def test_metrics_collectors_have_counterparts(kind: str | None, source: Data, ours: Data):
    collector = {"collector": {"kind": kind}} if kind else {}
    read = parsed(with_spec(metricsCollectorSpec={"source": source, **collector}))
    assert read.data["metrics"] == {**ours, "strategy": {"loss": "min"}}
    assert notes(read) == []


def test_what_is_pushed_to_katib_is_taken_as_katib_takes_it():
    read = parsed(with_spec(metricsCollectorSpec={"collector": {"kind": "Push"}}))
    assert read.data["metrics"] == {"source": "katib", "strategy": {"loss": "min"}}
    assert notes(read) == []
    without = parsed(with_spec(metricsCollectorSpec={"collector": {"kind": "None"}}))
    assert without.experiment == read.experiment
    assert notes(without) == ["metrics: without a collector, metrics must be reported over Katib's API, as in Katib"]


COLLECTOR: Data = {
    "name": "mine",
    "image": "mine:1",
    "args": ["-s", "katib-db-manager.kubeflow:6789", "-pod", "$(POD)", "$(A)", "$${x}", "${y}"],
    "imagePullPolicy": "Always",
    "env": [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "A", "value": "<${z}>"},
        {"name": "B", "value": "$(A)"},
        {"name": "C"},
    ],
    "resources": {"limits": {"memory": "1Gi"}, "requests": {}},
    "workingDir": "/work",
}


def with_collector(source: Data | None = None, **changes: Any) -> Data:
    container = {key: part for key, part in (COLLECTOR | changes).items() if part is not None}
    return with_spec(
        metricsCollectorSpec={
            "collector": {"kind": "Custom", "customCollector": container},
            "source": source or {"fileSystemPath": {"path": "/out/log", "kind": "File"}},
        }
    )


def test_a_custom_collector_stays_one():
    read = parsed(with_collector())
    assert read.data["metrics"] == {
        "source": "custom",
        "path": "/out",
        "container": {
            "image": "mine:1",
            "args": ["-s", "katib-db-manager.kubeflow:6789", "-pod", "${trial.name}-0", "<$${z}>", "$$${x}", "$${y}"],
            "env": {"POD": "${trial.name}-0", "NS": "${trial.namespace}", "A": "<$${z}>", "B": "<$${z}>", "C": ""},
            "working_dir": "/work",
            "resources": {"limits": {"memory": "1Gi"}},
            "starts": "with-trial",
        },
        "strategy": {"loss": "min"},
    }
    (told,) = notes(read)
    assert told.startswith("metrics.container.env.POD: not the name of the pod itself")
    assert parse_spec(write_spec(read.data, read.notes)) == read.experiment


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"fileSystemPath": {"path": "/out/log"}}, "/out"),
        ({"fileSystemPath": {"path": "/out/logs", "kind": "Directory"}}, "/out/logs"),
        ({"httpGet": {}}, None),
    ],
)
def test_a_custom_collector_sees_the_directory_of_the_file(source: Data, path: str | None):
    assert parsed(with_collector(source)).experiment.metrics.path == path


def test_a_command_of_a_custom_collector_starts_with_the_trial():
    container = parsed(with_collector(command=["collect", "$(A)"])).experiment.metrics.container
    assert container is not None
    assert (container.command, container.starts) == (("collect", "<$${z}>"), "with-trial")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image": None}, "image: found nothing, need a value; it is required"),
        (
            {"volumeMounts": [{"name": "a"}]},
            "volumeMounts: found [{'name': 'a'}], need one of image, command",
        ),
        ({"env": [{"value": "1"}]}, "env[0].name: found nothing, need the name of a variable"),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]},
            "env[0].valueFrom: found {'secretKeyRef': {}}, need a value, or a fieldRef of metadata.name or metadata.namespace",
        ),
        ({"args": "x"}, "args: found 'x', need a list"),
        ({"args": [1]}, "args[0]: found 1, need text (quote it)"),
    ],
)
def test_a_custom_collector_that_is_none_is_told(changes: Data, told: str):
    (only,) = mistakes(with_collector(**changes))
    assert only.startswith(f"spec.metricsCollectorSpec.collector.customCollector.{told}")


def test_a_custom_collector_must_be_there():
    (only,) = mistakes(with_spec(metricsCollectorSpec={"collector": {"kind": "Custom"}}))
    assert (
        only
        == "spec.metricsCollectorSpec.collector.customCollector: found nothing, need the container that reads the metrics, because the collector is Custom"
    )


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(only one)", "need a regular expression with two groups, the name and the value"),
        ("([[:alpha:]]+)=(.*)", "need a Python regular expression, such as [A-Za-z] for [[:alpha:]]"),
        ("(", "need a regular expression ("),
    ],
)
def test_a_filter_must_be_one_that_we_can_read(pattern: str, message: str):
    (told,) = mistakes(with_spec(metricsCollectorSpec={"source": {"filter": {"metricsFormat": [pattern]}}}))
    assert told.startswith("spec.metricsCollectorSpec.source.filter.metricsFormat")
    assert message in told


# written out


def test_what_is_written_reads_back_the_same():
    read = parsed(with_spec(earlyStopping=algorithm("medianstop"), resumePolicy="LongRunning"))
    text = write_spec(read.data, read.notes, "two\nlines")
    assert parse_spec(text) == read.experiment
    assert text.startswith("# two\n# lines\nname: digits\n")
    assert "lr: {type: float, min: 0.01, max: 0.05}\n" in text
    before, after = text.split("limits:")
    assert before.endswith("katib-flow resume NAME\n")
    assert after.startswith(" {max_trials: 12")


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="Katib's own examples are not on this machine")
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_of_katibs_own_runs_here(path: Path):
    read_ = read(path)
    assert Experiment.parse(read_.experiment.to_dict()) == read_.experiment
    assert parse_spec(write_spec(read_.data, read_.notes)) == read_.experiment
    assert compile_experiment(read_.experiment).to_dict()


def test_a_bracket_of_two_characters_is_no_posix_class():
    """Go and Python read [:=] alike; [[:alpha:]] is what Python has no word for."""
    for pattern in (r"(\w+)\s*[:=]\s*(\S+)", r"([\w:]+)[:](\S+)"):
        read = with_spec(metricsCollectorSpec={"source": {"filter": {"metricsFormat": [pattern]}}})
        assert parsed(read).experiment.metrics.filter == (pattern,)
