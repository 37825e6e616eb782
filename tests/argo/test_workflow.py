"""The compiled Workflow: legal to two versions of Argo, allowed by the restricted profile, of the shape that ran."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from specs import GPU, PLACED, SPECS, container, experiment, resource, spec

import katib_flow as kf
from katib_flow import algorithms, stopping
from katib_flow.argo import compile_experiment
from katib_flow.argo.checks import check
from katib_flow.errors import InvalidSpec
from katib_flow.spec import Experiment

ARGO = Path(__file__).parents[3] / "shared" / "argo"
KIND = "io.argoproj.workflow.v1alpha1.Workflow"
needs_schemas = pytest.mark.skipif(not ARGO.is_dir(), reason="needs Argo's JSON schemas in ../shared/argo")


def compiled(name: str) -> dict[str, Any]:
    return compile_experiment(experiment(name)).to_dict()


def templates(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in workflow["spec"]["templates"]}


def pods(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (each for each in workflow["spec"]["templates"] if "container" in each)


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [template["container"], *template.get("initContainers", []), *template.get("sidecars", [])]


def strict(schema: dict[str, Any], node: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Keys that the schema does not know: it lets them pass, and the 3.7 CRD does not."""
    while "$ref" in node:
        node = schema["definitions"][node["$ref"].removeprefix("#/definitions/")]
    if isinstance(value, dict) and "properties" in node:
        for key, inner in value.items():
            if key not in node["properties"]:
                yield f"{path}.{key}"
            else:
                yield from strict(schema, node["properties"][key], inner, f"{path}.{key}")
    elif isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        for key, inner in value.items():
            yield from strict(schema, node["additionalProperties"], inner, f"{path}.{key}")
    elif isinstance(value, list) and "items" in node:
        for position, inner in enumerate(value):
            yield from strict(schema, node["items"], inner, f"{path}[{position}]")


@needs_schemas
@pytest.mark.parametrize("version", ["schema.json", "schema-3.7.json"])
@pytest.mark.parametrize("name", SPECS)
def test_a_workflow_is_valid_and_holds_no_unknown_key(name: str, version: str) -> None:
    schema, workflow = json.loads((ARGO / version).read_text()), compiled(name)
    definition = {"$ref": f"#/definitions/{KIND}"}
    jsonschema.Draft202012Validator({**definition, "definitions": schema["definitions"]}).validate(workflow)
    assert list(strict(schema, definition, workflow)) == []


@needs_schemas
def test_the_strict_walk_finds_an_unknown_key() -> None:
    schema, workflow = json.loads((ARGO / "schema.json").read_text()), compiled("function")
    workflow["spec"]["templates"][1]["container"]["imagePolicy"] = "x"
    assert list(strict(schema, {"$ref": f"#/definitions/{KIND}"}, workflow)) == [
        ".spec.templates[1].container.imagePolicy"
    ]


@pytest.mark.parametrize("name", SPECS)
def test_every_pod_meets_the_restricted_profile(name: str) -> None:
    workflow = compiled(name)
    pod = workflow["spec"]["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    patch = json.loads(workflow["spec"]["podSpecPatch"])
    argos = [*patch["initContainers"], *patch["containers"]]
    assert [each["name"] for each in argos] == ["init", "wait"]
    for each in [*argos, *(each for template in pods(workflow) for each in containers(template))]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for template in pods(workflow):
        kinds = {kind for volume in template["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret", "configMap", "downwardAPI"}  # no host path
        for each in containers(template):
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"/kf", "/tmp"} <= {mount["mountPath"] for mount in each["volumeMounts"]}


@pytest.mark.parametrize("name", SPECS)
def test_only_who_talks_to_kubernetes_has_a_token(name: str) -> None:
    workflow = compiled(name)
    assert workflow["spec"]["automountServiceAccountToken"] is False
    assert workflow["spec"]["executor"]["serviceAccountName"]
    holders = {
        each["name"]: each["serviceAccountName"]
        for each in pods(workflow)
        if each.get("automountServiceAccountToken") or "serviceAccountName" in each
    }
    one = "n" if name == "hostile" else None
    objects, in_lanes = name in ("resource", "template"), workflow["spec"]["entrypoint"] == "main"
    judging = ["collect-metrics", *(["suggest"] if in_lanes else [])]
    watching = ["trial", "finish", *judging] if objects else []
    expected = dict.fromkeys(judging, one or "kf-reader") | dict.fromkeys(watching, "kf-watcher")
    assert holders == expected | {"handover": one or "kf-submitter"}


@pytest.mark.parametrize("name", SPECS)
def test_no_step_of_our_own_waits_for_its_image_without_an_end(name: str) -> None:
    for each in pods(compiled(name)):
        if each["name"] != "trial":
            assert int(each["activeDeadlineSeconds"]) == 7200


def test_accounts_are_ours_or_the_one_that_the_spec_names() -> None:
    def accounts(name: str) -> list[str]:
        workflow = compiled(name)
        inside, handover = workflow["spec"], templates(workflow)["handover"]
        return [inside["serviceAccountName"], inside["executor"]["serviceAccountName"], handover["serviceAccountName"]]

    assert accounts("function") == ["kf-trial", "kf-executor", "kf-submitter"]
    assert accounts("hostile") == ["n", "n", "n"]


@pytest.mark.parametrize("name", SPECS)
def test_only_leaf_templates_are_retried(name: str) -> None:
    workflow = compiled(name)
    assert "retryStrategy" not in workflow["spec"]
    for template in templates(workflow).values():
        assert ("retryStrategy" in template) == ("container" in template)


def test_a_users_failure_and_too_little_memory_are_not_retried() -> None:
    strategy = templates(compiled("function"))["trial"]["retryStrategy"]
    assert (
        strategy["expression"]
        == 'lastRetry.exitCode != "42" && !(lastRetry.message matches "OOMKilled|specified deadline")'
    )
    assert (strategy["limit"], strategy["retryPolicy"]) == ("2", "Always")


def test_an_iteration_is_suggest_train_collect_and_again_or_handover() -> None:
    workflow = compiled("function")
    tasks = {each["name"]: each for each in templates(workflow)["iteration"]["dag"]["tasks"]}
    assert list(tasks) == ["suggest", "train", "collect-metrics", "again", "handover"]
    assert tasks["train"]["depends"] == "suggest.Succeeded"
    assert tasks["again"]["template"] == "iteration"
    assert tasks["again"]["arguments"]["parameters"] == [
        {"name": "k", "value": "{{=string(int(inputs.parameters.k) + 1)}}"}
    ]
    parameters = {each["name"]: each["value"] for each in workflow["spec"]["arguments"]["parameters"]}
    assert {name: parameters[name] for name in ("run", "segment", "k", "last")} == {
        "run": "{{workflow.name}}", "segment": "0", "k": "1", "last": "40",
    }  # fmt: skip


def test_build_model_is_there_only_for_an_architecture() -> None:
    assert "build-model" not in templates(compiled("function"))
    tasks = {each["name"]: each for each in templates(compiled("nas"))["iteration"]["dag"]["tasks"]}
    assert tasks["train"]["depends"] == "build-model.Succeeded"


def test_a_failed_trial_does_not_fail_its_iteration() -> None:
    train = templates(compiled("function"))["train"]
    assert train["parallelism"] == 4
    assert train["steps"][0][0]["continueOn"] == {"failed": True, "error": True}
    assert train["steps"][0][0]["withParam"] == "{{inputs.parameters.ids}}"


def test_a_segment_is_shorter_the_more_it_weighs() -> None:
    def last(**changes: Any) -> int:
        found = compile_experiment(Experiment.parse(spec(**changes))).to_dict()
        return int({each["name"]: each["value"] for each in found["spec"]["arguments"]["parameters"]}["last"])

    def limits(parallel: int) -> dict[str, Any]:
        return {"limits": {"parallel_trials": parallel, "max_trials": 1000}}

    assert last(**limits(1)) == 40  # as deep as templates may call each other, and some room
    assert last(**limits(600)) == 1
    assert 40 > last(**limits(10)) > last(**limits(20)) > last(**limits(100)) > 1
    assert last(**limits(10), name="a" * 45) < last(**limits(10), name="a")
    assert last(**limits(10), description="d" * 100_000) < last(**limits(10))


def test_the_users_container_gets_no_credential_and_no_value() -> None:
    trial = templates(compiled("container"))["trial"]
    assert trial["container"]["image"] == "registry.example.com/any:2"
    assert trial["container"]["command"] == ["/kf/busybox", "sh", "/kf/wrap.sh"]
    assert {"env", "envFrom", "args"}.isdisjoint(trial["container"])
    assert [each["name"] for each in trial["initContainers"] + trial["sidecars"]] == ["prepare", "collector"]
    assert "/var/log/katib" in {mount["mountPath"] for mount in trial["container"]["volumeMounts"]}


@pytest.mark.parametrize("name", ["katib", "katib-function"])
def test_a_trial_that_reports_as_to_katib_finds_its_names_on_loopback(name: str) -> None:
    """Katib's SDK reads a file of the namespace, and calls katib-db-manager.kubeflow:6789."""
    trial = templates(compiled(name))["trial"]
    (alias,) = trial["hostAliases"]
    assert alias["ip"] == "127.0.0.1"
    assert "katib-db-manager.kubeflow" in alias["hostnames"]
    (volume,) = [each for each in trial["volumes"] if "downwardAPI" in each]
    field = {"fieldPath": "metadata.namespace"}
    assert volume["downwardAPI"] == {"items": [{"path": "namespace", "fieldRef": field}]}
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert {"name": volume["name"], "mountPath": folder, "readOnly": True} in trial["container"]["volumeMounts"]
    for other in (*trial.get("initContainers", []), *trial.get("sidecars", [])):
        assert volume["name"] not in [each["name"] for each in other["volumeMounts"]]
    assert "hostAliases" not in templates(compiled("container"))["trial"]


def collector(name: str) -> dict[str, Any]:
    trial = templates(compiled(name))["trial"]
    assert [each["name"] for each in trial["sidecars"]] == ["collector", "metrics"]
    return trial["sidecars"][1]


def test_a_collector_of_the_users_sees_what_the_trial_writes() -> None:
    trial, theirs = templates(compiled("custom"))["trial"], collector("custom")
    assert (theirs["image"], theirs["command"]) == ("mine:1", ["/kf/busybox", "sh", "/kf/collect.sh"])
    assert {"args", "env", "envFrom"}.isdisjoint(theirs)
    paths = {mount["mountPath"]: mount["name"] for mount in theirs["volumeMounts"]}
    assert paths.keys() == {"/kf", "/tmp", "/out", "/var/run/secrets/kubernetes.io/serviceaccount"}
    assert {"name": paths["/out"], "mountPath": "/out"} in trial["container"]["volumeMounts"]
    assert paths["/out"] in [each["name"] for each in trial["volumes"] if "emptyDir" in each]
    facts = paths["/var/run/secrets/kubernetes.io/serviceaccount"]
    assert "downwardAPI" in next(each for each in trial["volumes"] if each["name"] == facts)
    assert facts not in [mount["name"] for mount in trial["container"]["volumeMounts"]]
    assert trial["hostAliases"][0]["ip"] == "127.0.0.1"


def test_a_collector_by_its_images_own_command_is_told_of_its_trial_by_argo() -> None:
    theirs = collector("custom-own")
    assert "command" not in theirs
    assert theirs["args"] == ["--trial", "digits-mlp-{{inputs.parameters.id}}", "$$(A)"]
    told = {each["name"]: each["value"] for each in theirs["env"]}
    assert told["A"] == "$$x {{inputs.parameters.id}}"
    assert told["KATIB_TRIAL_NAME"] == "digits-mlp-{{inputs.parameters.id}}"
    assert told["KATIB_FLOW_REPORT_FILE"] == "/kf/trial/report.jsonl"
    assert told["KATIB_FLOW_ENDED"] == "/kf/rc"
    assert theirs["workingDir"] == "/work"
    assert theirs["resources"] == {"limits": {"memory": "1Gi"}}


OWN = {"image": "x", "starts": "with-trial"}


@pytest.mark.parametrize(
    ("trial", "metrics", "where"),
    [
        (container(), {"command": ["x"]}, "metrics.container"),
        ({"command": ["x"]}, {"container": {"image": "x", "command": ["y"]}}, "metrics.command"),
        ({"function": "a:b"}, {"container": {"image": "x", "command": ["y"]}}, "metrics.command"),
        (resource(), {"container": {"image": "x", "command": ["y"]}}, "metrics.container.starts"),
        (resource(), {"command": ["y"]}, "metrics.container"),
        (resource(), {"path": "out", "container": OWN}, "metrics.path"),
        ({"template": {"name": "a"}}, {"container": {"image": "x", "command": ["y"]}}, "metrics.source"),
        (container(), {"path": "/", "container": {"image": "x", "command": ["y"]}}, "metrics.path"),
        (container(), {"container": {"image": "{{x}}", "command": ["y"]}}, "metrics.container.image"),
        (container(), {"container": {"image": "${lr}", "command": ["y"]}}, "metrics.container.image"),
        (container(), {"container": {**OWN, "args": ["a", "${lr}"]}}, "metrics.container.args[1]"),
        (container(), {"container": {**OWN, "env": {"A": "${trial.checkpoint_dir}"}}}, "metrics.container.env.A"),
        (container(), {"container": {**OWN, "args": ["{{x}}"]}}, "metrics.container.args[0]"),
        (container(), {"container": {**OWN, "env": {"A": "{{x}}"}}}, "metrics.container.env.A"),
    ],
)
def test_a_collector_that_no_pod_can_run_is_refused(trial: Any, metrics: Any, where: str) -> None:
    of = Experiment.parse(spec(trial=trial, metrics={"source": "custom", **metrics}))
    with pytest.raises(InvalidSpec) as caught:
        check(of)
    assert [problem.where for problem in caught.value.problems] == [where]


def test_a_volume_of_the_users_in_the_place_of_the_account_is_left_alone() -> None:
    place = {"volumes": [{"path": "/var/run/secrets", "secret": "tokens"}]}
    of = spec(trial=container(), metrics={"source": "katib"}, argo={"trial": place})
    trial = templates(compile_experiment(Experiment.parse(of)).to_dict())["trial"]
    assert not [each for each in trial["volumes"] if "downwardAPI" in each]


def test_no_text_of_the_user_stands_where_argo_substitutes() -> None:
    workflow = compiled("hostile")
    parameters = workflow["spec"]["arguments"].pop("parameters")
    assert "rm -rf" in next(each["value"] for each in parameters if each["name"] == "spec")
    assert "rm -rf" not in json.dumps(workflow)
    resources = templates(workflow)["trial"]["container"]["resources"]
    assert resources == {"limits": {"memory": "1e3", "cpu": "0.5", "nvidia.com/gpu": "1"}}


def test_the_tracking_server_is_the_specs_or_the_namespaces() -> None:
    step = templates(compiled("tracking"))["suggest"]["container"]
    address = next(each["value"] for each in step["env"] if each["name"] == "MLFLOW_TRACKING_URI")
    assert address == "https://mlflow.example.com/pa$$$$th"  # Kubernetes halves it
    step = templates(compiled("function"))["suggest"]["container"]
    assert "MLFLOW_TRACKING_URI" not in {each["name"] for each in step["env"]}
    assert step["envFrom"] == [
        {"configMapRef": {"name": "katib-flow", "optional": True}},
        {"secretRef": {"name": "katib-flow", "optional": True}},
    ]


@pytest.mark.parametrize(
    ("changes", "where", "found"),
    [
        ({"argo": {}}, "argo.image", "nothing"),
        ({"argo": {}, "trial": {"command": ["x", "${lr}"]}}, "argo.image", "nothing"),
        ({"tracking": {"uri": "sqlite:///x.db"}}, "tracking.uri", "sqlite:///x.db"),
        ({"tracking": {"uri": "mlruns"}}, "tracking.uri", "mlruns"),
        ({"tracking": {"uri": "https://ada:hunter2@mlflow"}}, "tracking.uri", "https://ada@mlflow"),
        ({"algorithm": "hyperbond"}, "algorithm.name", "hyperbond"),
        (
            {
                "algorithm": "hyperband",
                "budget": {"parameter": "epochs", "max": 9},
                "argo": {"image": "a", "mode": "lanes"},
            },
            "argo.mode",
            "asha, bohb or mobster",
        ),
        ({"argo": {"image": "a:{{workflow.name}}"}}, "argo.image", "{{workflow.name}}"),
        ({"trial": container(image="a:${lr}")}, "trial.container.image", "a:"),
        ({"early_stopping": "medium"}, "early_stopping.name", "medium"),
        ({"argo": {"image": "a", "labels": {"x": "{{y}}"}}}, "argo.labels.x", "{{y}}"),
        ({"argo": {"trial": {"resources": GPU}}, "trial": container()}, "argo.trial.resources", "nvidia.com/gpu"),
        ({"trial": resource(success_condition="a|@reverse")}, "trial.resource.success_condition", "@reverse"),
        (
            {"trial": {"template": {"name": "p"}}, "metrics": {"source": "tensorboard", "path": "/x/y"}},
            "metrics.source",
            "tensorboard",
        ),
        (
            {"trial": resource(primary_container="other"), "metrics": {"source": "file", "path": "/x/y"}},
            "metrics.source",
            "need a container 'other'",
        ),
        ({"trial": resource(), "metrics": {"source": "file", "path": "y/z"}}, "metrics.path", "y/z"),
        ({"trial": container(), "metrics": {"source": "tensorboard", "path": "/"}}, "metrics.path", "'/'"),
        ({"trial": {"function": "__main__:train"}}, "trial.function", "__main__:train"),
        ({"trial": container(), "metrics": {"source": "file", "path": "/metrics.log"}}, "metrics.path", "/metrics.log"),
    ],
)
def test_what_cannot_run_on_a_cluster_is_refused_by_its_path(changes: dict[str, Any], where: str, found: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        compile_experiment(Experiment.parse(spec(**changes)))
    assert [problem.where for problem in caught.value.problems] == [where]
    assert found in str(caught.value)


def test_three_mistakes_are_three_messages() -> None:
    wrong = spec(argo={}, tracking={"uri": "x.db"}, early_stopping="medium")
    with pytest.raises(InvalidSpec) as caught:
        compile_experiment(Experiment.parse(wrong))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["resource", "template"])
def test_an_object_is_watched_by_one_pod_and_its_values_stay_out_of_the_manifest(name: str) -> None:
    workflow = compiled(name)
    trial = templates(workflow)["trial"]
    assert trial["container"]["args"] == [
        *("watch", "--run", "{{workflow.parameters.run}}", "--trial", "{{inputs.parameters.id}}"),
        *("--directory", "/kf/trial", "--workflow", "{{workflow.name}}", "--uid", "{{workflow.uid}}"),
    ]  # fmt: skip
    assert not {"sidecars", "initContainers", "resource"} & trial.keys()


def test_pods_are_placed_as_the_spec_says() -> None:
    inside = compiled("placed")["spec"]
    assert inside["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert inside["tolerations"] == [{"key": "shared", "operator": "Exists"}]
    assert (inside["podPriorityClassName"], inside["priority"]) == ("low", 3)
    assert inside["imagePullSecrets"] == [{"name": "registry"}]
    assert inside["ttlStrategy"] == {"secondsAfterCompletion": 604800}
    assert inside["podGC"] == {"strategy": "OnWorkflowSuccess", "deleteDelayDuration": "60s"}
    assert inside["podMetadata"] == {
        "labels": {"team": "vision", "katib-flow/experiment": "digits-mlp"},
        "annotations": {"sidecar.istio.io/inject": "false"},
    }
    assert compiled("placed")["metadata"]["labels"] == inside["podMetadata"]["labels"]


@pytest.mark.parametrize("name", ["placed", "placed-lanes"])
def test_a_trials_pod_is_given_what_the_spec_says_and_no_other(name: str) -> None:
    found = templates(compiled(name))
    trial = found["trial"]
    assert trial["nodeSelector"] == {"kubernetes.io/arch": "amd64", "gpu": "a100"}
    assert [each["key"] for each in trial["tolerations"]] == ["shared", "gpu"]
    assert trial["metadata"]["annotations"] == {"note": "on"}
    assert trial["synchronization"] == {"semaphores": [{"configMapKeyRef": {"name": "kf-limits", "key": "gpu-trials"}}]}
    container = trial["container"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi"}}
    assert {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}} in container["env"]
    assert {"secretRef": {"name": "all"}} in container["envFrom"]
    paths = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {"/data", "/dev/shm", "/etc/keys", "/etc/conf", "/checkpoints"} <= paths.keys()
    assert (paths["/data"]["readOnly"], paths["/data"]["subPath"]) == (True, "mnist")
    volumes = {each["name"]: each for each in trial["volumes"]}
    assert volumes[paths["/dev/shm"]["name"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert volumes["checkpoints"] == {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "models"}}
    for beside in [*trial.get("initContainers", []), *trial.get("sidecars", [])]:
        assert "/checkpoints" in {mount["mountPath"] for mount in beside["volumeMounts"]}
        assert "resources" not in beside
    assert not {"nodeSelector", "tolerations", "synchronization"} & found["suggest"].keys()
    steps = [found[each]["container"] for each in ("suggest", "collect-metrics", "handover", "finish")]
    assert all(each["resources"] == {"requests": {"memory": "1Gi", "cpu": "1"}} for each in steps)
    images = [each["container"] for each in found.values() if "container" in each]
    assert {each["imagePullPolicy"] for each in images} == {"IfNotPresent"}


@pytest.mark.parametrize(
    ("changes", "environment", "image"),
    [
        ({}, {}, "katib-flow:0"),
        ({"architecture": "cell"}, {}, "katib-flow-nas:0"),
        ({"algorithm": "nas-rl"}, {}, "katib-flow-nas:0"),  # it suggests with PyTorch, whatever it searches
        ({"architecture": "cell", "argo": {"image": "mine:1"}}, {"KATIB_FLOW_NAS_IMAGE": "nas:2"}, "mine:1"),
        ({"architecture": "cell"}, {"KATIB_FLOW_NAS_IMAGE": "nas:2", "KATIB_FLOW_IMAGE": "steps:2"}, "nas:2"),
        ({"architecture": "cell"}, {"KATIB_FLOW_IMAGE": "all:2"}, "all:2"),
        ({}, {"KATIB_FLOW_NAS_IMAGE": "nas:2"}, "katib-flow:0"),
    ],
)
def test_what_needs_pytorch_runs_in_the_image_that_has_it(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], environment: dict[str, str], image: str
) -> None:
    monkeypatch.setattr("katib_flow.argo.names.version", lambda package: "0")
    for name in ("KATIB_FLOW_IMAGE", "KATIB_FLOW_NAS_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = templates(
        compile_experiment(Experiment.parse(spec(**{"trial": container(), "argo": {}, **changes}))).to_dict()
    )
    steps = {"suggest", "collect-metrics", "handover", "finish"} | ({"build-model"} & found.keys())
    assert {found[each]["container"]["image"] for each in steps} == {image}
    assert found["trial"]["container"]["image"] == "registry.example.com/any:2"


def test_argos_own_containers_can_be_left_alone() -> None:
    found = compile_experiment(Experiment.parse(spec(argo={"image": "a", "lock_pods": False, "pod_gc": "never"})))
    assert not {"podSpecPatch", "podGC"} & found.to_dict()["spec"].keys()


def test_the_placed_spec_says_everything_that_can_be_said() -> None:
    from katib_flow.spec.argo import Argo, TrialPods

    told = {"service_account", "image", "mode", "lock_pods", "iterations_per_segment"}  # by other tests
    assert Argo.model_fields.keys() - PLACED.keys() == told
    assert TrialPods.model_fields.keys() - PLACED["trial"].keys() == {"resources"}  # type: ignore[attr-defined]


def test_lanes_have_no_barrier_and_open_the_experiment_once() -> None:
    found = templates(compiled("lanes"))
    main = {each["name"]: each for each in found["main"]["dag"]["tasks"]}
    assert main["open"]["when"] == "{{workflow.parameters.segment}} == 0"
    assert main["lane"]["withSequence"] == {"count": "{{workflow.parameters.lanes}}"}
    assert main["collect-metrics"]["depends"] == "lane.Succeeded || lane.Failed || lane.Errored"
    mutex = "{{workflow.parameters.run}}-{{inputs.parameters.lane}}"
    assert found["lane"]["synchronization"] == {"mutexes": [{"name": mutex}]}
    turn = {each["name"]: each for each in found["turn"]["dag"]["tasks"]}
    assert turn["again"]["depends"] == "train.Succeeded || train.Failed || train.Errored"
    assert turn["handover"]["when"] == "{{tasks.suggest.outputs.parameters.handover}} == true"
    assert turn["train"]["template"] == "trial"


def _nothing(asked: Any) -> Any: ...


@pytest.mark.parametrize("section", ["algorithm", "early_stopping"])
def test_a_plugin_that_only_this_machine_has_is_told_before_a_pod_finds_out(
    section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an entry point brings may be in the image; one that a script has registered is not."""
    for registry in (algorithms.registry._registry, stopping.registry._registry):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    kf.algorithm("test-here-only", ends=True)(_nothing)
    stopping.stopping_rule("test-here-only")(_nothing)
    monkeypatch.setattr("katib_flow.argo.checks.entry_points", lambda group: [])
    made = Experiment.parse(spec(**{section: "test-here-only"}))
    with pytest.raises(InvalidSpec, match=rf"{section}\.name: .*this one was registered by .*, on this machine only"):
        check(made)
    entry = SimpleNamespace(module=__name__)
    monkeypatch.setattr("katib_flow.argo.checks.entry_points", lambda group: [entry])
    check(made)


def template_trial(named: str, **changes: Any) -> Experiment:
    trial = {"template": {"name": "pipeline", "arguments": {"text": f"${{{named}}}"}}, **changes.pop("trial", {})}
    return Experiment.parse(spec(trial=trial, metrics={"source": "push"}, **changes))


def test_a_value_that_argo_would_substitute_in_a_trial_that_is_a_workflow_is_told() -> None:
    values = {"text": {"type": "categorical", "values": ["a", "{{workflow.name}}"]}}
    with pytest.raises(InvalidSpec) as raised:
        check(template_trial("text", parameters=values))
    assert [each.where for each in raised.value.problems] == ["parameters.text.values[1]"]
    with pytest.raises(InvalidSpec) as raised:
        check(template_trial("note", trial={"arguments": {"note": "{{=1}}", "unused": "{{=1}}"}}))
    assert [each.where for each in raised.value.problems] == ["trial.arguments.note"]
    check(template_trial("note", trial={"arguments": {"note": "{=1}", "unused": "{{=1}}"}}))
